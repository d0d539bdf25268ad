// Experiments over each other on the page Compare.
(() => {
  "use strict";
  const ugro = window.ugro || {};

  const form = document.querySelector("[data-compare-options]");
  const figure = document.querySelector("[data-compare-chart]");
  if (!form || !figure) return;
  const chart = new ugro.Chart(figure.querySelector(".chart"), "compare");
  const caption = figure.querySelector("figcaption");
  const error = document.querySelector("[data-charts-error]");
  const mark = () => document.getElementById("compare-mark").dataset;
  let drawnOf = mark().mark;
  let asking = null;
  let later = null;
  let found = null;

  const chosen = () => new URLSearchParams(new FormData(form));
  const CHOICES = ["column", "by", "smooth", "log"];

  /** Put what is chosen into the address, and into the links and forms that lead to another. */
  function keep() {
    const query = chosen();
    history.replaceState(null, "", `/compare?${query}`);
    for (const link of document.querySelectorAll("[data-without]")) {
      const address = new URL(link.href);
      for (const name of CHOICES) {
        address.searchParams.delete(name);
        if (query.get(name)) address.searchParams.set(name, query.get(name));
      }
      link.href = address.href;
    }
    for (const other of document.querySelectorAll("form[action='/compare']")) {
      if (other === form) continue;
      other.querySelectorAll("[data-kept]").forEach((field) => CHOICES.includes(field.name) && field.remove());
      for (const name of CHOICES.filter((one) => query.get(one))) {
        const field = Object.assign(document.createElement("input"), { type: "hidden", name, value: query.get(name) });
        field.dataset.kept = "";
        other.append(field);
      }
    }
  }

  function draw() {
    if (!found || !found.lines.length) return;
    chart.set(
      found.lines.map((line) => ({ ...line, dash: line.colour >= 8 ? [6, 3] : undefined })),
      { by: found.by, unit: found.unit, log: chosen().get("log") === "on", height: 340 },
    );
    document.documentElement.dataset.painted = String(Math.round(performance.now()));
  }

  async function ask() {
    if (asking) asking.abort();
    asking = new AbortController();
    const query = chosen();
    keep();
    drawnOf = mark().mark;
    const mine = asking;
    // What is drawn is of what was chosen before: said where it takes a while.
    const slow = setTimeout(() => figure.setAttribute("aria-busy", "true"), 400);
    try {
      const answer = await fetch(`/compare/chart?${query}`, { credentials: "same-origin", signal: asking.signal });
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      found = await answer.json();
      caption.textContent = found.unit ? `${found.title} (${found.unit})` : found.title;
      if (found.lines.length) draw();
      else {
        chart.destroy();
        const none = document.createElement("p");
        none.className = "empty";
        none.textContent = `None of these runs has reported ${found.title}.`;
        chart.place.replaceChildren(none);
      }
      error.hidden = true;
    } catch (failure) {
      if (failure.name === "AbortError") return;
      error.textContent = `The curves could not be read: ${failure.message}`;
      error.hidden = false;
    } finally {
      clearTimeout(slow);
      if (mine === asking) figure.removeAttribute("aria-busy");
    }
  }

  form.querySelector("[data-redraw]").hidden = true;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  form.addEventListener("input", (event) => {
    const shown = form.querySelector("[data-smooth]");
    if (shown) shown.textContent = chosen().get("smooth");
    if (event.target.name === "log" && found) {
      keep();
      draw();
      return;
    }
    clearTimeout(later);
    later = setTimeout(ask, 120);
  });

  // A run has written more: its curve grows, and may be one of a number that none had before.
  document.addEventListener("ugro:live", () => {
    const { mark: now, columns } = mark();
    if (now === drawnOf) return;
    const select = form.querySelector("[name=column]");
    const known = new Set([...select.options].map((one) => one.value));
    for (const [name, title] of JSON.parse(columns)) if (!known.has(name)) select.add(new Option(title, name));
    clearTimeout(later);
    ask();
  });
  ask();
})();
