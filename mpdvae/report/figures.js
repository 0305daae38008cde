// Draws each figure when it comes near the viewport, in the reader's colour scheme; toggles traces from the legend; opens
// the run of a clicked point.
"use strict";
report.themed = (layout) => {
  const { colour } = report;
  const grid = { gridcolor: colour("--line"), linecolor: colour("--line") };
  return {
    ...layout,
    font: { ...layout.font, color: colour("--soft"), family: "inherit" },
    hoverlabel: { bgcolor: colour("--raised"), bordercolor: colour("--soft"), font: { color: colour("--ink") } },
    xaxis: { ...layout.xaxis, ...grid },
    yaxis: { ...layout.yaxis, ...grid },
    annotations: layout.annotations?.map((text) => ({ ...text, bgcolor: colour("--paper") })),
  };
};
report.options = { responsive: true, displayModeBar: false };

// Plotly is most of the page. It stays plain text until a figure is near the viewport, so that the page opens without it.
report.needPlotly = () => {
  const source = document.getElementById("plotly");
  if (source.type !== "text/plain") return;
  performance.mark("plotly");
  const script = document.createElement("script");
  script.id = source.id;
  script.textContent = source.textContent;
  source.replaceWith(script);
};

(() => {
  const plots = [...document.querySelectorAll(".plot")];

  const hidden = (plot) => {
    const buttons = plot.closest(".chart").querySelectorAll('.legend button[aria-pressed="false"]');
    return new Set([...buttons].map((button) => button.dataset.entry));
  };

  plots.forEach((plot) => { plot.figure = JSON.parse(plot.querySelector("script").textContent); });

  const draw = (plot) => {
    if (plot.drawn) return;
    plot.drawn = true;
    report.needPlotly();
    const off = hidden(plot);
    plot.figure.data.forEach((trace) => { trace.visible = !off.has(trace.meta); });
    plot.replaceChildren();
    Plotly.newPlot(plot, plot.figure.data, report.themed(plot.figure.layout), report.options);
    plot.on("plotly_click", ({ points: [point] }) => { if (point.customdata) location.assign(point.customdata); });
    plot.dispatchEvent(new CustomEvent("drawn"));
  };

  const near = new IntersectionObserver((entries) => {
    entries.filter((entry) => entry.isIntersecting).forEach((entry) => { near.unobserve(entry.target); draw(entry.target); });
  }, { rootMargin: "400px" });
  // The first screen has a figure: text and pictures are painted before plotly is read for it.
  requestAnimationFrame(() => setTimeout(() => plots.forEach((plot) => near.observe(plot))));
  addEventListener("beforeprint", () => plots.forEach(draw));

  report.onTheme(() => plots.filter((plot) => plot.drawn).forEach((plot) => {
    Plotly.react(plot, plot.figure.data, report.themed(plot.figure.layout), report.options);
  }));

  document.querySelectorAll(".chart .legend button").forEach((button) => button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", String(shown));
    button.closest(".chart").querySelectorAll(".plot").forEach((plot) => {
      if (!plot.drawn) return;
      const indices = plot.figure.data.flatMap((trace, i) => (trace.meta === button.dataset.entry ? [i] : []));
      if (indices.length) Plotly.restyle(plot, { visible: shown }, indices);
    });
  }));
})();
