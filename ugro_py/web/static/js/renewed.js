// What the page of an experiment reads again when the state of the job changes, and now and then while somebody looks at it.
(() => {
  "use strict";
  const page = document.querySelector("[data-experiment]");
  if (!page) return;
  const address = `/experiments/${encodeURIComponent(page.dataset.experiment)}`;
  const EVERY_MS = 15_000;
  // The end of a job is told before all that is made of it is there.
  const AGAIN_MS = 5000;

  // What somebody has opened or is typing stays.
  const KEEP = {
    beforeAttributeUpdated: window.ugro.keepsOpen,
    beforeNodeMorphed: (old) =>
      !old.matches?.("input:not([type=hidden])") && !(old === document.activeElement && old.matches?.("select")),
  };

  /** Return the text of a part of the page; the query says which part, or nothing where the address does. */
  async function read(path, query = "") {
    const headers = { "HX-Request": "true" };
    const answer = await fetch(`${address}${path}?${query}`, { credentials: "same-origin", headers, cache: "no-store" });
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    return answer.text();
  }

  // Made of the server's templates, in which all that a job says is escaped.
  const put = (place, fresh, morphStyle = "innerHTML") => window.Idiomorph.morph(place, fresh, { morphStyle, callbacks: KEEP });

  async function takeActions() {
    const place = document.querySelector("[data-part=actions]");
    if (!place) return;
    const html = await read("", "part=actions");
    const focused = place.contains(document.activeElement);
    put(place, html);
    if (window.htmx) window.htmx.process(place);
    if (focused && !place.contains(document.activeElement)) place.querySelector("button, summary, a")?.focus();
  }

  async function takeRest() {
    const here = new URLSearchParams(location.search);
    const query = new URLSearchParams({ part: "rest" });
    for (const name of ["rank", "attempt"]) if (here.get(name)) query.set(name, here.get(name));
    const made = new DOMParser().parseFromString(await read("", query), "text/html");
    for (const fresh of made.querySelectorAll("[data-rest]")) {
      const place = document.querySelector(`main [data-rest="${fresh.dataset.rest}"]`);
      if (place) put(place, fresh.innerHTML);
    }
    takeSearch(made.querySelector("[data-rest=search] form"));
  }

  /** There may be more ranks and attempts to choose from; what is chosen and not shown yet stays. */
  function takeSearch(fresh) {
    const form = document.querySelector("main form[aria-label='Choose a log']");
    if (!form || !fresh) return;
    for (const select of form.querySelectorAll("select")) {
      const one = fresh.querySelector(`#${select.id}`);
      if (one && [...one.options].some((option) => option.value === select.value)) one.value = select.value;
    }
    put(form, fresh, "outerHTML");
  }

  const bottlenecks = document.querySelector("[data-bottlenecks]");

  async function takeBottlenecks() {
    const error = document.querySelector("[data-bottlenecks-error]");
    try {
      put(bottlenecks, await read("/bottlenecks"));
      error.hidden = true;
    } catch (failure) {
      error.textContent = `The bottlenecks could not be read: ${failure.message}`;
      error.hidden = false;
    }
  }

  /** What is read for places on the page: by `take`, one at a time, and not more often than it should be. */
  class Renewed {
    constructor(places, take, wanted) {
      this.take = take;
      this.wanted = wanted; // whether it was ever asked for
      this.near = new Set();
      this.read = wanted ? performance.now() : -Infinity;
      this.busy = false;
      this.again = false;
      const looked = new IntersectionObserver((seen) => {
        for (const one of seen) this.near[one.isIntersecting ? "add" : "delete"](one.target);
        if (!this.wanted) this.tell();
      }, { rootMargin: "200px" });
      for (const place of places) if (place) looked.observe(place);
    }

    /** There is more to tell: read it if somebody looks, and it is old. */
    tell() {
      if (this.near.size && !document.hidden && performance.now() - this.read >= EVERY_MS) this.now();
    }

    async now() {
      if (this.busy) {
        this.again = true;
        return;
      }
      this.busy = this.wanted = true;
      this.read = performance.now();
      try {
        await this.take();
      } catch {
        // what is there stays, and it is tried again
      }
      this.busy = false;
      if (this.again) {
        this.again = false;
        this.now();
      }
    }
  }

  const rest = new Renewed(document.querySelectorAll("main [data-rest]"), takeRest, true);
  const slow = bottlenecks ? new Renewed([bottlenecks], takeBottlenecks, false) : null;
  const actions = new Renewed([], takeActions, true);
  let later = null;

  function changed() {
    rest.now();
    if (slow?.wanted) slow.now();
  }

  document.addEventListener("ugro:changed", () => {
    actions.now();
    changed();
    clearTimeout(later);
    later = setTimeout(changed, AGAIN_MS);
  });
  document.addEventListener("visibilitychange", () => slow && !slow.wanted && slow.tell());
  document.addEventListener("ugro:told", () => {
    rest.tell();
    slow?.tell();
  });
})();
