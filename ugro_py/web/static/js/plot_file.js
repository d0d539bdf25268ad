// Draws the charts of a page that `ugro plot -o FILE.html` wrote; its data are in the page.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const figure = (value) => (value === null || value === undefined ? "-" : String(Number(value.toPrecision(6))));
  const positive = (values) => (data.log ? values.map((value) => (value > 0 ? value : null)) : values);
  const charts = [];

  document.querySelectorAll(".chart").forEach((place, number) => {
    const panel = data.panels[number];
    const series = [{ label: data.by === "step" ? "step" : "hours", value: (_, x) => figure(x) }];
    const bands = [];
    const tables = [];
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    panel.curves.forEach((curve, index) => {
      const colour = data.colours[index % data.colours.length];
      const stroke = dark && index % data.colours.length === 6 ? "#bbbbbb" : colour;
      const dash = index >= data.colours.length ? [6, 4] : undefined;
      const at = series.length;
      series.push({ label: curve.name, stroke, dash, width: 1.5, spanGaps: false, value: (_, y) => figure(y) });
      const edge = { label: "", stroke: "transparent", width: 0, points: { show: false }, class: "edge" };
      series.push(edge, { ...edge });
      bands.push({ series: [at + 1, at + 2], fill: `${stroke}30` });
      tables.push([curve.x, positive(curve.y), positive(curve.high), positive(curve.low)]);
    });
    const axis = { stroke: style("--muted"), grid: { stroke: style("--grid"), width: 1 }, ticks: { stroke: style("--grid") } };
    const plot = new uPlot(
      {
        width: place.clientWidth,
        height: 320,
        series,
        bands,
        scales: { x: { time: false }, y: { distr: data.log ? 3 : 1 } },
        axes: [{ ...axis, label: data.xLabel }, { ...axis, size: 70 }],
        cursor: { drag: { x: true, y: false } },
      },
      uPlot.join(tables),
      place
    );
    // The edges of the bands are no curves of their own.
    place.querySelectorAll(".u-series.edge").forEach((row) => row.remove());
    charts.push([place, plot]);
  });
  addEventListener("resize", () => charts.forEach(([place, plot]) => plot.setSize({ width: place.clientWidth, height: 320 })));
})();
