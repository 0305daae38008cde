// One cursor for all curves of a study over training steps: it follows the pointer or the slider, and every panel shows the
// values of its curves at the cursor.
"use strict";
document.querySelectorAll(".study").forEach((study) => {
  const plots = [...study.querySelectorAll(".over-steps .plot")];
  const sliders = [...study.querySelectorAll(".cursor input")];
  // Thin curves of single seeds ignore the pointer; the remaining traces are means.
  const means = (plot) => plot.figure.data.filter((trace) => trace.hoverinfo !== "skip");
  const steps = [...new Set(plots.flatMap((plot) => means(plot).flatMap((trace) => trace.x)))].sort((a, b) => a - b);
  if (!steps.length) return;

  const line = (plot, step) => {
    const stroke = { color: report.colour("--soft"), width: 1, dash: "dot" };
    plot.figure.layout.shapes = [{ type: "line", x0: step, x1: step, y0: 0, y1: 1, yref: "paper", line: stroke }];
    if (plot.drawn) Plotly.relayout(plot, { shapes: plot.figure.layout.shapes });
  };

  const said = (trace, step) => {
    const value = trace.y[trace.x.indexOf(step)];
    const entry = document.createElement("li");
    const swatch = entry.appendChild(document.createElement("i"));
    swatch.style.background = trace.line.color;
    entry.append(`${trace.meta} ${value === undefined ? "–" : value.toPrecision(4)}`);
    return entry;
  };

  const show = (place) => {
    const step = steps[place];
    sliders.forEach((slider) => {
      slider.value = place;
      slider.setAttribute("aria-valuetext", `step ${step}`);
      slider.nextElementSibling.value = step;
    });
    plots.forEach((plot) => {
      line(plot, step);
      plot.parentElement.querySelector(".readout").replaceChildren(...means(plot).map((trace) => said(trace, step)));
    });
  };

  plots.forEach((plot) => {
    plot.figure.layout.hoverdistance = -1;
    plot.addEventListener("drawn", () => plot.on("plotly_hover", ({ points: [point] }) => {
      const place = steps.indexOf(point.x);
      if (place >= 0 && steps[sliders[0].value] !== point.x) show(place);
    }));
  });
  sliders.forEach((slider) => {
    slider.max = steps.length - 1;
    slider.addEventListener("input", () => show(Number(slider.value)));
  });
  show(steps.length - 1);
});
