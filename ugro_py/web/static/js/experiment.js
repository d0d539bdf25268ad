// Keeps the page of an experiment as it is now: parts, charts and logs come over one stream of events.
(() => {
  "use strict";
  const ugro = (window.ugro = window.ugro || {});
  const page = document.querySelector("[data-experiment]");
  if (!page) return;
  const job = encodeURIComponent(page.dataset.experiment);
  let root = document.querySelector("[data-log]");
  let log = root ? new ugro.LogView(root) : null;

  // Charts ---------------------------------------------------------------------------------------------------------
  const form = document.querySelector("[data-chart-options]");
  const places = { charts: document.querySelector("[data-charts]"), samples: document.querySelector("[data-samples]") };
  const charts = new Map();
  let asked = 0;
  let tags = {};
  let samplesSeen = false;
  let due = null;
  let busy = false;
  let again = false;

  const more = document.querySelector("[data-left-out]");
  const drawToo = new Set();

  const chosen = (name, otherwise) => (form ? new FormData(form).get(name) || otherwise : otherwise);

  function card(kind, chart) {
    const key = `${kind} ${chart.column}`;
    if (charts.has(key)) return charts.get(key);
    const section = chart.section ? document.querySelector(`[data-section="${CSS.escape(chart.section)}"]`) : null;
    if (section) section.hidden = false;
    const place = section ? section.querySelector(".charts") : places[kind];
    let box = [...place.querySelectorAll("[data-column]")].find((one) => one.dataset.column === chart.column);
    if (!box) {
      box = document.createElement("figure");
      box.className = "chart-card";
      box.dataset.column = chart.column;
      const title = document.createElement("figcaption");
      title.textContent = chart.unit ? `${chart.title} (${chart.unit})` : chart.title;
      const canvas = document.createElement("div");
      canvas.className = "chart";
      box.append(title, canvas);
      place.append(box);
    }
    const made = new ugro.Chart(box.querySelector(".chart"), kind === "charts" ? "experiment" : "samples");
    charts.set(key, made);
    return made;
  }

  /** What was reported too, but is not drawn unless somebody asks: a page has room for so many charts. */
  function offer(names) {
    const select = more.querySelector("select");
    more.hidden = !names.length;
    more.querySelector("label").textContent = `${names.length} more ${names.length === 1 ? "number is" : "numbers are"} not drawn:`;
    if (names.join("\n") === [...select.options].map((one) => one.value).join("\n")) return;
    const before = select.value;
    select.replaceChildren(...names.map((name) => new Option(name, name)));
    if (names.includes(before)) select.value = before;
  }

  async function read(kind, query) {
    const answer = await fetch(`/experiments/${job}/${kind}?${query}`, {
      credentials: "same-origin",
      headers: tags[kind] ? { "If-None-Match": tags[kind] } : {},
      cache: "no-store",
    });
    if (answer.status === 304) return;
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    tags[kind] = answer.headers.get("etag") || "";
    const { charts: found, left_out } = await answer.json();
    if (left_out) offer(left_out);
    const log = chosen("log", "") === "on";
    for (const chart of found) {
      const marks = (chart.attempts || []).slice(1).map((one) => ({ x: one.x, text: `attempt ${one.attempt}` }));
      const options = { by: chart.by, unit: chart.unit, marks, log: log && chart.column === "training_loss" };
      card(kind, chart).set(chart.lines, options);
    }
    const none = document.querySelector(`[data-${kind}-empty]`);
    if (none) none.hidden = found.length > 0;
    if (kind === "charts") document.documentElement.dataset.painted = String(Math.round(performance.now()));
  }

  async function drawCharts() {
    clearTimeout(due);
    due = null;
    if (!places.charts) return;
    if (busy) {
      again = true;
      return;
    }
    busy = true;
    asked = performance.now();
    const query = { by: chosen("by", "step"), ranks: chosen("ranks", "mean"), smooth: chosen("smooth", "0") };
    const whole = [...Object.entries(query), ...[...drawToo].map((name) => ["more", name])];
    const drawn = await tried("charts", "The charts", new URLSearchParams(whole));
    const sampled = !samplesSeen || (await tried("samples", "What the nodes measured", ""));
    if (!(drawn && sampled) && ended) due = setTimeout(drawCharts, 5000); // no step comes that would have it tried again
    busy = false;
    if (again) {
      again = false;
      drawCharts();
    }
  }

  /** Read charts and draw them, or say beside them why not; returns whether they are drawn. */
  async function tried(kind, what, query) {
    let text = "";
    try {
      await read(kind, query);
    } catch (error) {
      text = `${what} could not be read: ${error.message}`;
    }
    const place = document.querySelector(`[data-${kind}-error]`);
    if (place) {
      place.textContent = text;
      place.hidden = !text;
    }
    const reading = document.querySelector(`[data-${kind}-reading]`);
    if (reading) reading.hidden = true;
    return !text;
  }

  /** New metrics: draw soon, the more seldom the longer the job runs already. */
  function drawLater() {
    if (due !== null || document.hidden) return;
    const every = Number(page.dataset.elapsed || 0) > 600 ? 5000 : 2000;
    due = setTimeout(drawCharts, Math.max(0, asked + every - performance.now()));
  }

  function drawAnew() {
    tags = {};
    ugro.keepChoices(form, drawToo);
    drawCharts();
  }

  if (form) {
    const shown = form.querySelector("[data-smooth]");
    ugro.readChoices(form, drawToo);
    ugro.takeChoicesAlong(form, drawToo);
    shown.textContent = chosen("smooth", "0");
    form.addEventListener("input", () => {
      shown.textContent = chosen("smooth", "0");
      clearTimeout(due);
      due = setTimeout(drawAnew, 120);
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    form.hidden = false;
  }
  more?.addEventListener("submit", (event) => {
    event.preventDefault();
    drawToo.add(more.querySelector("select").value);
    drawAnew();
  });
  if (places.charts) drawCharts();
  if (places.samples) {
    // Further down on the page: read when somebody comes near.
    const near = new IntersectionObserver((seen) => {
      if (!seen.some((one) => one.isIntersecting)) return;
      near.disconnect();
      samplesSeen = true;
      document.querySelector("[data-samples-reading]").hidden = false;
      drawCharts();
    }, { rootMargin: "600px" });
    near.observe(places.samples.parentElement);
  }

  // What the server sends --------------------------------------------------------------------------------------------
  const state = document.getElementById("live-state");
  const say = (text, kind) => {
    if (!state) return;
    state.hidden = false;
    state.textContent = text;
    state.dataset.state = kind;
  };

  const KEEP = { beforeAttributeUpdated: ugro.keepsOpen };

  function takePart(data) {
    const place = document.querySelector(`[data-part="${CSS.escape(data.part)}"]`);
    if (!place) return;
    // Made of the server's templates, in which all that a job says is escaped.
    window.Idiomorph.morph(place, data.html, { morphStyle: "innerHTML", callbacks: KEEP });
    if (data.part === "facts") {
      const facts = place.querySelector("[data-status]");
      page.dataset.elapsed = facts?.dataset.elapsed || "0";
      if (facts && facts.dataset.status !== page.dataset.status) {
        page.dataset.status = facts.dataset.status;
        document.dispatchEvent(new CustomEvent("ugro:changed"));
      }
    }
  }

  /** The first line of a job that had printed nothing when the page was made: the page has a place for logs now. */
  async function takeLogs() {
    close();
    const answer = await fetch(location.pathname, { credentials: "same-origin" });
    const made = new DOMParser().parseFromString(await answer.text(), "text/html");
    const found = made.querySelector("[data-log]");
    if (answer.ok && found) {
      document.getElementById("logs").closest("section").replaceWith(made.getElementById("logs").closest("section"));
      root = document.querySelector("[data-log]");
      log = new ugro.LogView(root);
      at = root.dataset.places || "";
    }
    setTimeout(open, found ? 0 : 1000);
  }

  // One stream for the page, by turns with other windows, and none while nobody looks.
  let source = null;
  let leave = null;
  let ended = page.dataset.active !== "true" || !window.EventSource;
  let at = root?.dataset.places || "";

  function open() {
    if (leave || ended || document.hidden) return;
    leave = ugro.turns(begin, end);
    setTimeout(waits, 1000);
  }

  function waits() {
    if (leave && !source) say(ugro.WAITS, "waits");
  }

  function begin() {
    const query = new URLSearchParams({ rank: root?.dataset.rank || "all", places: at });
    if (root && root.dataset.grows !== "true") query.set("logs", "false");
    const opened = (source = new EventSource(`/experiments/${job}/live?${query}`));
    opened.addEventListener("open", () => say("Live", "live"));
    opened.addEventListener("trouble", (event) => {
      const text = JSON.parse(event.data);
      say(text || "Live", text ? "lost" : "live");
    });
    opened.addEventListener("error", () => {
      say("Not connected: tries again", "lost");
      if (opened.readyState !== EventSource.CLOSED) return;
      close();
      document.dispatchEvent(new CustomEvent("ugro:refused"));
      setTimeout(open, 5000);
    });
    opened.addEventListener("log", (event) => {
      if (!log) {
        takeLogs();
        return;
      }
      at = event.lastEventId || at;
      log.add(JSON.parse(event.data));
    });
    opened.addEventListener("part", (event) => takePart(JSON.parse(event.data)));
    opened.addEventListener("series", () => {
      drawLater();
      document.dispatchEvent(new CustomEvent("ugro:told"));
    });
    opened.addEventListener("end", () => {
      ended = true;
      close();
      say("Ended", "ended");
      document.dispatchEvent(new CustomEvent("ugro:changed"));
      setTimeout(drawCharts, 500);
    });
  }

  function end() {
    source?.close();
    source = null;
    waits();
  }

  function close() {
    const left = leave;
    leave = null;
    left?.();
  }

  // A job that had ended goes on when somebody resumes it here.
  document.addEventListener("htmx:afterRequest", (event) => {
    const { successful, requestConfig } = event.detail;
    if (!successful || requestConfig?.verb !== "post") return;
    ended = !window.EventSource;
    open();
  });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) close();
    else {
      open();
      drawLater();
    }
  });
  addEventListener("pagehide", close);
  addEventListener("pageshow", open);
  open();
})();
