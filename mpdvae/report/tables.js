// Sorts tables by the column or row whose header is clicked: first ascending, then descending. Cells without a number come
// last.
"use strict";
(() => {
  const number = (cell) => {
    const found = /[-−]?[\d,]*\.?\d+(e[-+]?\d+)?/.exec(cell.textContent);
    return found ? Number(found[0].replaceAll(",", "").replace("−", "-")) : NaN;
  };
  const text = (cell) => cell.textContent.trim();

  const order = (cells, descending) => {
    const sign = descending ? -1 : 1;
    const numeric = cells.some((cell) => /^[-−]?\d/.test(text(cell)));
    const compare = (a, b) => {
      if (!numeric) return sign * text(a).localeCompare(text(b));
      const [x, y] = [number(a), number(b)];
      if (isNaN(x) || isNaN(y)) return isNaN(x) - isNaN(y);
      return sign * (x - y);
    };
    return cells.map((_, i) => i).sort((i, j) => compare(cells[i], cells[j]));
  };

  const turn = (head) => {
    const descending = head.getAttribute("aria-sort") === "ascending";
    head.closest("table").querySelectorAll("[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    return descending;
  };

  const sortRows = (head) => {
    const body = head.closest("table").tBodies[0];
    const rows = [...body.rows];
    const places = order(rows.map((row) => row.cells[head.cellIndex]), turn(head));
    body.append(...places.map((i) => rows[i]));
  };

  // Models are columns: the header of a row sorts them, in all sections with the same columns.
  const sortColumns = (head) => {
    const count = head.parentElement.cells.length;
    const tables = [...head.closest(".part").querySelectorAll("table.sortable-columns")];
    const same = tables.filter((table) => table.tHead.rows[0].cells.length === count);
    const descending = turn(head);
    same.filter((table) => !table.contains(head)).forEach((table) => {
      table.querySelectorAll("[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
    });
    const places = order([...head.parentElement.cells].slice(1), descending);
    same.flatMap((table) => [...table.rows]).forEach((row) => {
      const cells = [...row.cells].slice(1);
      if (cells.length) row.append(...places.map((i) => cells[i]));
    });
  };

  const makeButton = (head, sort) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => sort(head));
  };

  document.querySelectorAll("table.sortable").forEach((table) => {
    table.querySelectorAll("thead th").forEach((head) => { if (text(head)) makeButton(head, sortRows); });
  });
  document.querySelectorAll("table.sortable-columns").forEach((table) => {
    if (table.tHead.rows[0].cells.length < 3) return;
    table.querySelectorAll('th[scope="row"]').forEach((head) => makeButton(head, sortColumns));
  });
})();
