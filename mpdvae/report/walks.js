// Walks between codes: sliders over precomputed images.
"use strict";
report.walks = (root) => {
  const find = (name) => root.querySelector(`[data-walk="${name}"]`);
  const [walk, step, row, column] = ["walk", "step", "row", "column"].map(find);
  const value = (control) => Number(control.value);
  const share = (place, count) => (count > 1 ? place / (count - 1) : 0).toFixed(2);
  let model = null;

  const tell = (control, text) => {
    control.setAttribute("aria-valuetext", text);
    control.nextElementSibling.value = text;
  };
  const draw = (name, sheet, index) => report.sheets.draw(find(name), model.sheets[sheet], index, model.image);

  const showLinear = () => {
    const { steps } = model.linear;
    const first = value(walk) * steps;
    draw("start", "linear_walks", first);
    draw("between", "linear_walks", first + value(step));
    draw("end", "linear_walks", first + steps - 1);
    tell(step, `t = ${share(value(step), steps)}`);
  };

  const showBilinear = () => {
    const { rows, columns } = model.bilinear;
    const corners = [0, columns - 1, (rows - 1) * columns, rows * columns - 1];
    corners.forEach((index, i) => draw(`corner${i}`, "bilinear_walk", index));
    draw("inside", "bilinear_walk", value(row) * columns + value(column));
    tell(row, `s = ${share(value(row), rows)}`);
    tell(column, `t = ${share(value(column), columns)}`);
  };

  const limit = (control, count) => {
    control.max = count - 1;
    if (!control.dataset.placed) control.value = Math.floor(count / 2);
    control.dataset.placed = true;
  };

  walk.addEventListener("change", showLinear);
  step.addEventListener("input", showLinear);
  [row, column].forEach((control) => control.addEventListener("input", showBilinear));

  return (chosen) => {
    model = chosen;
    const kept = Math.min(value(walk), model.linear.walks - 1);
    const names = Array.from({ length: model.linear.walks }, (_, i) => new Option(`pair ${i + 1}`, i));
    walk.replaceChildren(...names);
    walk.value = Math.max(0, kept);
    limit(step, model.linear.steps);
    limit(row, model.bilinear.rows);
    limit(column, model.bilinear.columns);
    root.querySelector(".drawn").hidden = !model.drawn;
    showLinear();
    showBilinear();
  };
};
