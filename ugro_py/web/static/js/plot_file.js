// Draws the charts of a page that `ugro plot -o FILE.html` wrote; its data are in the page.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const figure = (value) => (value === null || value === undefined ? "-" : String(Number(value.toPrecision(6))));
  const positive = (values) => (data.log ? values.map((value) => (value > 0 ? value : null)) : values);
  const DASHES = [undefined, [6, 4], [2, 3], [8, 3, 2, 3]];
  const charts = [];

  /** Numbers at an axis, with as many digits as tell one from the next: of 3 all ticks of a run of seconds are 0. */
  const ticks = (_, values, __, ___, apart) => {
    const digits = apart > 0 ? Math.max(0, 2 - Math.floor(Math.log10(apart))) : Infinity;
    const plain = { maximumFractionDigits: digits };
    return values.map((value) =>
      value === null ? "" : digits > 7 ? figure(value) : value.toLocaleString(undefined, plain)
    );
  };

  document.querySelectorAll(".chart").forEach((place, number) => {
    const panel = data.panels[number];
    const series = [{ label: data.by === "step" ? "step" : "hours", value: (_, x) => figure(x) }];
    const bands = [];
    const tables = [];
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    panel.curves.forEach((curve) => {
      const colour = curve.place % data.colours.length;
      const stroke = dark && colour === 6 ? "#bbbbbb" : data.colours[colour];
      const dash = DASHES[Math.floor(curve.place / data.colours.length) % DASHES.length];
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
        axes: [{ ...axis, label: data.xLabel, values: ticks }, { ...axis, size: 70, values: ticks }],
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
