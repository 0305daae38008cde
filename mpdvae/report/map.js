// A map of codes: a point for each image, the image under the pointer, and the marked points.
"use strict";
report.codeMap = (box, listener) => {
  const plot = box.querySelector(".map-plot");
  const peek = box.querySelector(".peek");
  const still = { hoverinfo: "skip", type: "scatter" };
  let drawn = null;

  const bounds = (values) => {
    const sorted = values.filter((value) => value !== null).sort((a, b) => a - b);
    const at = (share) => sorted[Math.round(share * (sorted.length - 1))];
    return { cmin: at(0.02), cmax: at(0.98) };
  };

  const marker = ({ model, colouring }, visible) => {
    if (colouring === "class") {
      const styles = visible.map((i) => (model.classes ? model.styles[model.classes[i]] : ["#888888", "circle"]));
      return { size: 7, color: styles.map(([colour]) => colour), symbol: styles.map(([, symbol]) => symbol) };
    }
    const values = model[colouring];
    const title = { text: "nats", side: "right" };
    const bar = { thickness: 10, outlinewidth: 0, title, orientation: "h", y: -0.01, yanchor: "top", xpad: 0 };
    const line = { color: report.colour("--soft"), width: 0.6 };
    const color = visible.map((i) => values[i]);
    return { size: 8, color, colorscale: "Cividis", showscale: true, colorbar: bar, line, ...bounds(values) };
  };

  const marks = ({ model, map, current, brushed }) => {
    const { x, y } = model.maps[map];
    const near = current === null ? [] : model.neighbours[current];
    const ringed = [...brushed, ...near, ...(current === null ? [] : [current])];
    const sizes = [...brushed.map(() => 11), ...near.map(() => 14), 20];
    const ends = near.flatMap((i) => [current, i, null]);
    const along = (axis) => [ends.map((i) => (i === null ? null : axis[i])), ringed.map((i) => axis[i])];
    return { x: along(x), y: along(y), "marker.size": [[], sizes] };
  };

  const mark = (state) => { if (drawn) Plotly.restyle(plot, marks(state), [1, 2]); };

  const show = (state) => {
    const { model, map, dragging } = state;
    const { x, y } = model.maps[map];
    const ink = report.colour("--ink");
    const visible = state.visible();
    const points = { x: visible.map((i) => x[i]), y: visible.map((i) => y[i]), customdata: visible };
    const traces = [
      { ...points, type: "scatter", mode: "markers", hoverinfo: "none", marker: marker(state, visible) },
      { ...still, mode: "lines", x: [], y: [], line: { color: ink, width: 1 } },
      { ...still, mode: "markers", x: [], y: [], marker: { symbol: "circle-open", color: ink, line: { width: 1.5 } } },
    ];
    const axis = { visible: false };
    const margin = { l: 8, r: 8, t: 8, b: state.colouring === "class" ? 8 : 48 };
    const layout = {
      margin, dragmode: dragging, hovermode: "closest", showlegend: false, xaxis: axis, selections: [],
      yaxis: { ...axis, scaleanchor: "x" }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { size: 12 },
    };
    report.needPlotly();
    Plotly.react(plot, traces, report.themed(layout), { ...report.options, doubleClick: "reset" });
    if (!drawn) listen();
    drawn = state;
    mark(state);
  };

  const listen = () => {
    plot.on("plotly_click", ({ points: [point] }) => listener.point(point.customdata));
    plot.on("plotly_selected", (event) => {
      // Points that are already marked are selected as well, in another trace.
      const points = (event?.points ?? []).filter((point) => point.curveNumber === 0);
      if (points.length) listener.brush(points.map((point) => point.customdata));
    });
    plot.on("plotly_deselect", () => listener.brush([]));
    plot.on("plotly_unhover", () => { peek.hidden = true; });
    plot.on("plotly_hover", ({ points: [point], event }) => {
      const area = box.getBoundingClientRect();
      const { model } = drawn;
      peek.replaceChildren(report.sheets.tile(model.sheets.points, point.customdata, model.image), listener.name(point.customdata));
      peek.hidden = false;
      const left = event.clientX - area.left + 14;
      peek.style.left = `${Math.min(left, area.width - peek.offsetWidth - 4)}px`;
      peek.style.top = `${Math.max(4, event.clientY - area.top - peek.offsetHeight - 10)}px`;
    });
  };

  // The nearest visible point in the quadrant that the arrow key points to.
  const neighbour = (state, [right, up]) => {
    const { x, y } = state.model.maps[state.map];
    const from = state.current;
    const cost = (i) => {
      const [dx, dy] = [x[i] - x[from], y[i] - y[from]];
      const [ahead, aside] = [dx * right + dy * up, Math.abs(dx * up - dy * right)];
      return ahead > 0 && aside <= ahead ? ahead ** 2 + 2 * aside ** 2 : Infinity;
    };
    const best = state.visible().reduce((a, b) => (cost(b) < cost(a) ? b : a), from);
    return best;
  };

  return { show, mark, neighbour };
};
