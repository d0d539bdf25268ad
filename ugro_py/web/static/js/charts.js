// Draws the charts that pages name: uPlot with bands from least to greatest value, in the colours of the theme.
(() => {
  "use strict";
  const ugro = (window.ugro = window.ugro || {});
  const MOST_BANDS = 4;
  const drawn = new Set();

  // A colour as the canvas takes it: the theme's two are one token, which only an element makes one of.
  const probe = document.createElement("span");
  probe.hidden = true;
  const style = (name) => {
    if (!probe.isConnected) document.body.append(probe);
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const colour = (index) => style(`--series-${(index % 8) + 1}`);

  /** A number as people read it. */
  ugro.figure = (value) => {
    if (value === null || value === undefined || !Number.isFinite(value)) return "-";
    const size = Math.abs(value);
    if (size !== 0 && (size < 1e-3 || size >= 1e9)) return value.toExponential(2);
    if (Number.isInteger(value) || size >= 1000) return Math.round(value).toLocaleString("en-GB");
    return String(Number(value.toPrecision(4)));
  };

  /** Seconds as people read them. */
  ugro.span = (seconds) => {
    if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "-";
    const whole = Math.max(0, Math.floor(seconds));
    const pad = (number) => String(number).padStart(2, "0");
    if (whole >= 86400) return `${Math.floor(whole / 86400)}d${pad(Math.floor((whole % 86400) / 3600))}h`;
    if (whole >= 3600) return `${Math.floor(whole / 3600)}h${pad(Math.floor((whole % 3600) / 60))}m`;
    return whole >= 60 ? `${Math.floor(whole / 60)}m${pad(whole % 60)}s` : `${whole}s`;
  };

  const positive = (values) => values.map((value) => (value !== null && value > 0 ? value : null));
  const translucent = (value) => value.replace(/^rgb\((.*)\)$/, "rgba($1, 0.2)");
  // What lies between two numbers near 1e308 is no number any more: from here on values are drawn in units of a power of ten.
  const HUGE = 1e300;

  /** The exponent of the unit that lines are drawn in: 0 but for huge numbers. */
  function unitOf(lines) {
    let most = 0;
    for (const line of lines) {
      for (const values of [line.y, line.min, line.max]) {
        for (const value of values || []) if (Number.isFinite(value) && Math.abs(value) > most) most = Math.abs(value);
      }
    }
    return most > HUGE ? Math.floor(Math.log10(most)) : 0;
  }

  /** Where values stand between two gaps: of a line nothing would be seen there. */
  function lonely(values) {
    if (!values.includes(null)) return null;
    const known = [...values.keys()].filter((at) => values[at] !== undefined);
    const empty = (place) => (values[known[place]] ?? null) === null;
    const found = known.filter((_, place) => !empty(place) && empty(place - 1) && empty(place + 1));
    return found.length ? found : null;
  }

  const newest = (values) => values?.findLast((value) => value !== null && value !== undefined);

  const DAY = 86400;
  const DAYS = [1, 2, 5, 10, 15, 30, 60, 90, 180, 365, 730, 1825, 3650, 18250].map((days) => days * DAY);
  // Seconds between ticks along time: what clocks and calendars are divided into, where 1000 is 16m40s.
  const TICKS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, ...DAYS];
  const GAP = 14; // pixels between texts

  const instant = (x) => new Date(x * 1000).toISOString();
  const oneDay = (from, to) => instant(from).slice(0, 10) === instant(to).slice(0, 10);

  /** Times along an axis, UTC as everywhere on the pages: with the day where the axis is of more than one. */
  function clocks(seconds, { min, max }) {
    const days = !oneDay(min, max);
    const fine = seconds.length > 1 && seconds[1] - seconds[0] < 60;
    return seconds.map((x) => (days ? `${instant(x).slice(5, 10)} ` : "") + instant(x).slice(11, fine ? 19 : 16));
  }

  /** How wide the longest text at a tick of the x axis may be, in pixels, where `size` pixels go from least to most. */
  function widest(by, least, most, size) {
    const pixels = (letters) => Math.ceil(letters * 7.5);
    if (by === "since") return pixels(6);
    if (by !== "time") return pixels(ugro.figure(most).length);
    const day = oneDay(least, most) ? 0 : 6;
    // Seconds are told where ticks may be less than a minute apart.
    return ((most - least) / size) * (pixels(day + 5) + GAP) <= 30 ? pixels(day + 8) : pixels(day + 5);
  }

  /** How wide the axis of values is, in pixels: as its longest text needs, and charts of usual numbers are all alike. */
  function roomFor(plot, texts, index, cycle) {
    const axis = plot.axes[index];
    if (cycle > 1) return axis._size; // else it may never come to an end
    plot.ctx.font = axis.font[0];
    const wide = (texts || []).map((text) => plot.ctx.measureText(text).width / devicePixelRatio);
    return Math.ceil(Math.max(64, ...wide.map((width) => width + axis.ticks.size + axis.gap + 4)));
  }

  /** One chart in a `.chart` element; what the server drew there stays until there is something to show. */
  class Chart {
    constructor(place, group) {
      this.place = place;
      this.group = group;
      this.plot = null;
      this.shape = "";
      new ResizeObserver(() => this.resize()).observe(place);
      place.addEventListener("dblclick", () => (this.zoomed = false));
      drawn.add(this);
    }

    /**
     * Show lines: {name, x, y, min, max}.
     * options: by ("step", "time", "since": seconds since the start), unit, log, height, marks ([{x, text}]).
     */
    set(lines, options) {
      const log = Boolean(options.log);
      this.exponent = unitOf(lines);
      const values = (found) => {
        const inUnits = this.exponent ? found.map((value) => (value === null ? null : value / 10 ** this.exponent)) : found;
        return log ? positive(inUnits) : inUnits;
      };
      const tables = [];
      const series = [
        {
          label: options.by === "step" ? "step" : "time",
          value: (plot, x, _, at) => this.shownX(at === null || at === undefined ? newest(plot.data[0]) : x, options.by),
        },
      ];
      const bands = [];
      lines.forEach((line, index) => {
        const parts = [line.x, values(line.y)];
        const at = series.length;
        series.push(this.series(line, index));
        if (lines.length <= MOST_BANDS && line.min && line.max && line.min.length === line.x.length) {
          parts.push(values(line.max), values(line.min));
          const edge = { stroke: "transparent", width: 0, points: { show: false }, label: "", class: "chart-edge" };
          series.push(edge, { ...edge });
          bands.push({ series: [at + 1, at + 2], fill: translucent(colour(line.colour ?? index)) });
        }
        tables.push(parts);
      });
      // A gap goes on to the line's next value, past points that only other lines have.
      const expand = tables.map((parts) => parts.map(() => 2));
      const data = tables.length > 1 ? uPlot.join(tables, expand) : tables[0] || [[], []];
      const shape = JSON.stringify([series.map((one) => one.label), bands.length, log, options.by, options.unit, this.exponent]);
      const seen = this.seen(options.by);
      this.options = options;
      this.lines = lines;
      if (this.plot && shape === this.shape) {
        this.plot.setData(data, !this.zoomed);
        if (this.zoomed) this.plot.redraw(); // what is new within it
        return;
      }
      this.shape = shape;
      this.destroy();
      for (const one of series.slice(1)) one.show = !seen.hidden.has(one.label);
      const theme = { stroke: style("--muted"), font: "12px system-ui, sans-serif" };
      const grid = { stroke: style("--grid"), width: 1 };
      const axis = { ...theme, grid, ticks: grid };
      this.place.textContent = "";
      this.place.classList.add("drawn");
      this.plot = new uPlot(
        {
          width: this.width(),
          height: options.height || 220,
          series,
          bands,
          tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "Etc/UTC"),
          scales: { x: { time: options.by === "time" }, y: log ? { distr: 3 } : {} },
          axes: [
            {
              ...axis,
              values: ({ scales }, xs) =>
                options.by === "time" ? clocks(xs, scales.x) : xs.map((x) => this.shownX(x, options.by)),
              space: (_, __, least, most, size) => widest(options.by, least, most, size) + GAP,
              incrs: options.by === "step" ? undefined : TICKS,
            },
            { ...axis, size: roomFor, values: (_, ys) => ys.map((y) => (y === null ? "" : this.shownY(y))) },
          ],
          padding: [null, (plot) => this.margin(plot), null, null],
          cursor: { sync: { key: this.group, setSeries: false }, drag: { x: true, y: false } },
          legend: { live: true },
          hooks: { setSelect: [() => (this.zoomed = true)], draw: [(plot) => this.marks(plot)] },
        },
        data,
        this.place,
      );
      this.zoomed = Boolean(seen.zoom);
      if (seen.zoom) this.plot.setScale("x", seen.zoom);
      this.keyboard();
    }

    /** What somebody made of the chart, to be so when it is drawn anew: `zoom` along x, and the names of `hidden` lines. */
    seen(by) {
      if (!this.plot) return { zoom: null, hidden: new Set() };
      const { min, max } = this.plot.scales.x;
      const hidden = this.plot.series.filter((one) => one.show === false && one.label).map((one) => one.label);
      return { zoom: this.zoomed && this.options.by === by ? { min, max } : null, hidden: new Set(hidden) };
    }

    series(line, index) {
      return {
        label: line.name,
        stroke: colour(line.colour ?? index),
        width: 1.5,
        dash: line.dash || undefined,
        spanGaps: false, // null is a value that is no number; where only another line has a point there is no gap
        points: { show: line.x.length < 3, filter: (plot, at) => (line.x.length < 3 ? null : lonely(plot.data[at])) },
        // Without a pointer over the chart the newest values are shown.
        value: (plot, y, series, at) => this.shownY(at === null || at === undefined ? newest(plot.data[series]) : y),
      };
    }

    /** Lines in the legend are switched with the keyboard too; those of a band have no entry. */
    keyboard() {
      const rows = this.place.querySelectorAll(".u-legend .u-series");
      rows.forEach((row, index) => {
        if (row.classList.contains("chart-edge")) row.remove();
        else if (index > 0) {
          const name = row.querySelector("th");
          name.tabIndex = 0;
          name.setAttribute("role", "button");
          name.addEventListener("keydown", (event) => {
            if (event.key === "Enter" || event.key === " ") {
              event.preventDefault();
              name.click();
            }
          });
        }
      });
    }

    /** Pixels on the right: the last text of the x axis is not cut. */
    margin({ scales, width }) {
      const { min, max } = scales?.x || {};
      return Math.max(25, Number.isFinite(min) ? Math.ceil(widest(this.options.by, min, max, width) / 2) : 0);
    }

    shownX(x, by) {
      if (x === null || x === undefined) return "-";
      if (by === "since") return ugro.span(x);
      return by === "time" ? new Date(x * 1000).toISOString().slice(0, 19).replace("T", " ") : ugro.figure(x);
    }

    /** A value that was drawn as it is; an axis may have one that is greater than any number. */
    shownY(y) {
      if (!this.exponent || !Number.isFinite(y)) return ugro.figure(y);
      if (Number.isFinite(y * 10 ** this.exponent)) return ugro.figure(y * 10 ** this.exponent);
      const [digits, exponent] = y.toExponential(2).split("e");
      return `${digits}e+${Number(exponent) + this.exponent}`;
    }

    /** A thin line where an attempt began. */
    marks(plot) {
      for (const mark of this.options.marks || []) {
        const x = Math.round(plot.valToPos(mark.x, "x", true));
        if (x <= plot.bbox.left || x >= plot.bbox.left + plot.bbox.width) continue;
        plot.ctx.save();
        plot.ctx.strokeStyle = plot.ctx.fillStyle = style("--muted");
        plot.ctx.setLineDash([4, 4]);
        plot.ctx.beginPath();
        plot.ctx.moveTo(x, plot.bbox.top);
        plot.ctx.lineTo(x, plot.bbox.top + plot.bbox.height);
        plot.ctx.stroke();
        plot.ctx.textAlign = "left";
        plot.ctx.fillText(mark.text, x + 4, plot.bbox.top + 12 * devicePixelRatio);
        plot.ctx.restore();
      }
    }

    width() {
      return Math.max(200, Math.floor(this.place.clientWidth));
    }

    resize() {
      if (this.plot && this.width() !== this.plot.width) this.plot.setSize({ width: this.width(), height: this.plot.height });
    }

    destroy() {
      if (this.plot) this.plot.destroy();
      this.plot = null;
    }

    /** Draw again in other colours. */
    retheme() {
      if (!this.plot) return;
      this.shape = "";
      this.set(this.lines, this.options);
    }
  }

  ugro.Chart = Chart;
  const retheme = () => drawn.forEach((chart) => chart.retheme());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", retheme);
  new MutationObserver(retheme).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
})();
