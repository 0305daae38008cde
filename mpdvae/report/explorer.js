// The controls of the explorer: model, map, colours, classes, and the images of the selected points.
"use strict";
document.querySelectorAll(".explore").forEach((root) => {
  const data = root.querySelector("script.explore-data");
  if (!data) return;
  const models = JSON.parse(data.textContent);
  const box = root.querySelector(".code-map");
  const [own, near, brushed] = ["own", "near", "brushed"].map((name) => root.querySelector(`.detail .${name}`));
  const chosen = (name) => root.querySelector(`select[data-choose="${name}"], input[data-choose="${name}"]:checked`).value;
  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  const MOST_BRUSHED = 60;

  const state = {
    model: models[0], map: chosen("map"), colouring: chosen("colouring"), dragging: chosen("dragging"),
    off: new Set(), current: 0, brushed: [],
    visible() {
      const { classes } = this.model;
      return this.model.kl.map((_, i) => i).filter((i) => !classes || !this.off.has(String(classes[i])));
    },
  };

  const nats = (value) => (value === null ? "–" : `${value.toFixed(1)} nats`);
  const name = (i) => (state.model.classes ? `class ${state.model.titles[state.model.classes[i]]}` : `image ${i + 1}`);

  const tile = (i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(report.sheets.tile(state.model.sheets.points, i, state.model.image));
    button.title = `${name(i)}, KL ${nats(state.model.kl[i])}`;
    button.setAttribute("aria-label", button.title);
    button.addEventListener("click", () => {
      const among = near.contains(button);
      choose(i);
      if (among) near.querySelector("button")?.focus(); // the button that had the focus was replaced
    });
    return button;
  };

  const heading = (text) => Object.assign(document.createElement("h3"), { textContent: text });
  const tiles = (indices) => {
    const list = document.createElement("div");
    list.className = "tiles";
    list.append(...indices.map(tile));
    return list;
  };

  const tellCurrent = () => {
    const { current: i, model } = state;
    own.replaceChildren();
    near.replaceChildren();
    if (i === null) return;
    const facts = [name(i), `KL ${nats(model.kl[i])}`, `reconstruction error ${nats(model.distortion[i])}`];
    const list = document.createElement("ul");
    list.append(...facts.map((fact) => Object.assign(document.createElement("li"), { textContent: fact })));
    own.append(report.sheets.tile(model.sheets.points, i, model.image), list);
    near.append(heading("Nearest codes"), tiles(model.neighbours[i]));
  };

  const tellBrushed = () => {
    brushed.replaceChildren();
    const count = state.brushed.length;
    if (!count) return;
    const rest = count > MOST_BRUSHED ? `, first ${MOST_BRUSHED} shown` : "";
    brushed.append(heading(`${count} ${count === 1 ? "image" : "images"} selected${rest}`), tiles(state.brushed.slice(0, MOST_BRUSHED)));
  };

  const choose = (i) => {
    state.current = i;
    map.mark(state);
    tellCurrent();
  };
  const brush = (indices) => {
    state.brushed = indices;
    tellBrushed();
    choose(indices.length ? indices[0] : state.current);
  };
  const map = report.codeMap(box, { point: choose, brush, name });
  const walk = report.walks(root);

  const legend = () => {
    const { styles, titles } = state.model;
    const shown = state.colouring === "class" ? Object.keys(styles) : [];
    root.querySelector(".classes").replaceChildren(...shown.map((label) => {
      const button = document.createElement("button");
      const swatch = document.createElement("i");
      [swatch.style.background, swatch.className] = styles[label];
      button.type = "button";
      button.append(swatch, titles[label]);
      button.setAttribute("aria-pressed", String(!state.off.has(label)));
      button.addEventListener("click", () => {
        if (!state.off.delete(label)) state.off.add(label);
        button.setAttribute("aria-pressed", String(!state.off.has(label)));
        map.show(state);
      });
      return button;
    }));
  };

  const redraw = () => {
    root.querySelector(".map-note").textContent = state.model.maps[state.map].note;
    legend();
    map.show(state);
    tellCurrent();
    tellBrushed();
  };

  root.querySelector('[data-choose="model"]').addEventListener("change", (event) => {
    state.model = models[event.target.value];
    state.current = Math.min(state.current ?? 0, state.model.kl.length - 1);
    state.brushed = [];
    redraw();
    walk(state.model);
  });
  ["map", "colouring", "dragging"].forEach((what) => {
    root.querySelectorAll(`[data-choose="${what}"]`).forEach((control) => control.addEventListener("change", () => {
      state[what] = control.value;
      redraw();
    }));
  });
  box.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      state.current = null;
      brush([]);
      map.show(state);
    } else if (event.key in ARROWS) {
      event.preventDefault();
      choose(state.current === null ? state.visible()[0] : map.neighbour(state, ARROWS[event.key]));
    }
  });

  const near400 = new IntersectionObserver(([entry]) => {
    if (!entry.isIntersecting) return;
    near400.disconnect();
    redraw();
    walk(state.model);
    report.onTheme(() => map.show(state));
  }, { rootMargin: "400px" });
  near400.observe(root);
});
