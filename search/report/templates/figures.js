"use strict";
(() => {
  const plots = [...document.querySelectorAll(".plot")];
  const settings = { responsive: true, displayModeBar: false, showTips: false };

  const onPaper = { ink: "#000", paper: "rgba(255, 255, 255, .8)", rule: "#999", grid: "#ddd", panel: "#fff" };
  let printing = false;

  // The page's colours, as they are now. While "beforeprint" runs, styles are still those of the screen.
  function colours() {
    if (printing) return onPaper;
    const style = getComputedStyle(document.documentElement);
    const value = (name) => style.getPropertyValue(name).trim();
    const [ink, paper, rule, grid, panel] = ["--ink", "--veil", "--rule", "--grid", "--panel"].map(value);
    return { ink, paper, rule, grid, panel };
  }

  function themed(layout) {
    const { ink, paper, rule, grid, panel } = colours();
    const changed = { "font.color": ink, "hoverlabel.bgcolor": panel, "hoverlabel.bordercolor": rule,
                      "hoverlabel.font.color": ink };
    (layout.annotations || []).forEach((_, index) => { changed[`annotations[${index}].bgcolor`] = paper; });
    for (const key of Object.keys(layout)) {
      if (/^[xy]axis\d*$/.test(key)) {
        changed[`${key}.gridcolor`] = grid;
        changed[`${key}.linecolor`] = rule;
      }
    }
    return changed;
  }

  function draw(plot) {
    const figure = JSON.parse(document.getElementById(`${plot.id}-data`).textContent);
    return Plotly.newPlot(plot, figure.data, figure.layout, settings)
      .then(() => Plotly.relayout(plot, themed(figure.layout)))
      .then(() => { plot.dataset.drawn = "yes"; });
  }

  function repaint() {
    for (const plot of plots) {
      if (plot.dataset.drawn) Plotly.relayout(plot, themed(plot.layout)).then(() => Plotly.Plots.resize(plot));
    }
  }

  window.addEventListener("beforeprint", () => { printing = true; repaint(); });
  window.addEventListener("afterprint", () => { printing = false; repaint(); });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  plots.reduce((before, plot) => before.then(() => draw(plot)), Promise.resolve());
})();
