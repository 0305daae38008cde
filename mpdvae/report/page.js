// Draws each figure when it comes near the screen, in the reader's colours, lets legends switch traces, and opens the run
// behind a point.
"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const plots = [...document.querySelectorAll(".plot")];

  const theme = () => {
    const grid = { gridcolor: colour("--line"), linecolor: colour("--line") };
    return { ink: colour("--soft"), raised: colour("--raised"), grid };
  };

  const themed = (layout) => {
    const { ink, raised, grid } = theme();
    return {
      ...layout,
      font: { ...layout.font, color: ink, family: "inherit" },
      hoverlabel: { bgcolor: raised, bordercolor: ink, font: { color: colour("--ink") } },
      xaxis: { ...layout.xaxis, ...grid },
      yaxis: { ...layout.yaxis, ...grid },
    };
  };

  const hidden = (plot) => {
    const buttons = plot.closest(".chart").querySelectorAll('.legend button[aria-pressed="false"]');
    return new Set([...buttons].map((button) => button.dataset.entry));
  };

  const draw = (plot) => {
    if (plot.drawn) return;
    const figure = JSON.parse(plot.querySelector("script").textContent);
    const off = hidden(plot);
    figure.data.forEach((trace) => { trace.visible = !off.has(trace.meta); });
    plot.drawn = figure;
    plot.replaceChildren();
    Plotly.newPlot(plot, figure.data, themed(figure.layout), { responsive: true, displayModeBar: false });
    plot.on("plotly_click", ({ points: [point] }) => { if (point.customdata) location.assign(point.customdata); });
  };

  const near = new IntersectionObserver((entries) => {
    entries.filter((entry) => entry.isIntersecting).forEach((entry) => { near.unobserve(entry.target); draw(entry.target); });
  }, { rootMargin: "400px" });
  plots.forEach((plot) => near.observe(plot));
  addEventListener("beforeprint", () => plots.forEach(draw));

  dark.addEventListener("change", () => plots.filter((plot) => plot.drawn).forEach((plot) => {
    Plotly.react(plot, plot.drawn.data, themed(plot.drawn.layout), { responsive: true, displayModeBar: false });
  }));

  document.querySelectorAll(".legend button").forEach((button) => button.addEventListener("click", () => {
    const shown = button.getAttribute("aria-pressed") === "false";
    button.setAttribute("aria-pressed", String(shown));
    button.closest(".chart").querySelectorAll(".plot").forEach((plot) => {
      if (!plot.drawn) return;
      const indices = plot.drawn.data.flatMap((trace, i) => (trace.meta === button.dataset.entry ? [i] : []));
      if (indices.length) Plotly.restyle(plot, { visible: shown }, indices);
    });
  }));
})();
