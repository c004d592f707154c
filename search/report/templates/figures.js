"use strict";
(() => {
  const plots = [...document.querySelectorAll(".plot")];
  const settings = { responsive: true, displayModeBar: false, showTips: false };

  const onPaper = { ink: "#000", paper: "rgba(255, 255, 255, .8)", rule: "#999", grid: "#ddd", panel: "#fff" };
  // Widths of one, two or three figures side by side on a sheet of A4 or Letter; the style sheet has the columns.
  const onSheet = (plot) => (!plot.closest(".panels") ? 700 : plot.closest(".narrow") ? 225 : 340);
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

  // While "beforeprint" runs, the page is still as wide as the screen, and nobody asks again.
  function sheet(plot) {
    return { autosize: false, width: onSheet(plot), height: plot.clientHeight };
  }

  // Sets what plotly calls "annotations[0].bgcolor" before it draws; to change it afterwards would draw twice.
  function put(layout, path, value) {
    const steps = path.replace(/\[(\d+)\]/g, ".$1").split(".");
    const last = steps.pop();
    steps.reduce((part, step) => (part[step] ??= {}), layout)[last] = value;
  }

  function draw(plot) {
    if (!waiting.delete(plot)) return;
    seen.unobserve(plot);
    const { data, layout } = JSON.parse(document.getElementById(`${plot.id}-data`).textContent);
    const changes = printing ? { ...themed(layout), ...sheet(plot) } : themed(layout);
    for (const [path, value] of Object.entries(changes)) put(layout, path, value);
    Plotly.newPlot(plot, data, layout, settings).then(() => { plot.dataset.drawn = "yes"; });
  }

  function repaint() {
    const onScreen = { autosize: true, width: null, height: null };
    for (const plot of plots.filter((each) => !waiting.has(each))) {
      Plotly.relayout(plot, { ...themed(plot.layout), ...onScreen }).then(() => Plotly.Plots.resize(plot));
    }
  }

  // What comes near the window is drawn at once, all else whenever the page is idle, one figure at a time.
  const waiting = new Set(plots);
  const seen = new IntersectionObserver(
    (entries) => { entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target)); },
    { rootMargin: "300px" },
  );
  const idle = window.requestIdleCallback || ((next) => setTimeout(next, 50));
  function drawNext() {
    const [plot] = waiting;
    if (!plot) return;
    draw(plot);
    idle(drawNext);
  }

  function print() {
    printing = true;
    const drawn = plots.filter((plot) => !waiting.has(plot));
    waiting.forEach(draw);
    for (const plot of drawn) Plotly.relayout(plot, { ...themed(plot.layout), ...sheet(plot) });
  }

  window.addEventListener("beforeprint", print);
  window.addEventListener("afterprint", () => { printing = false; repaint(); });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  plots.forEach((plot) => seen.observe(plot));
  idle(drawNext);
})();
