// The dashboard's own script: the theme, and pages that follow what happens. Everything works without it.
"use strict";

(function () {
  const THEMES = ["auto", "light", "dark"];

  // The choice is in a cookie that the server reads: the page has the right colours from its first paint on.
  function wireTheme() {
    const form = document.getElementById("theme-form");
    if (!form) return;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const root = document.documentElement;
      const theme = THEMES[(THEMES.indexOf(root.dataset.theme) + 1) % THEMES.length];
      const following = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
      root.dataset.theme = theme;
      document.cookie = `ugro_theme=${theme}; path=/; max-age=31536000; samesite=strict`;
      const button = form.querySelector("button");
      const text = `Colours: ${theme}. Change to ${following}.`;
      button.title = text;
      button.value = following;
      button.querySelector(".sr").textContent = text;
      document.dispatchEvent(new CustomEvent("ugro:theme", { detail: theme }));
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      document.dispatchEvent(new CustomEvent("ugro:theme"));
    });
  }

  function say(state, text) {
    const place = document.getElementById("live-state");
    if (!place) return;
    place.hidden = false;
    place.dataset.state = state;
    if (place.textContent !== text) place.textContent = text;
  }

  // A stream that is refused does not say why. Who is signed out (in another tab, or by a revoked token) is told to sign in.
  document.addEventListener("ugro:refused", async () => {
    try {
      const answer = await fetch("/v1/me");
      if (answer.status === 401) say("lost", "Signed out: load this page again");
    } catch {
      // no answer at all: it is tried again
    }
  });

  // Nobody answered: what was asked for was not done, as far as is known.
  document.addEventListener("htmx:sendError", (event) => {
    const notice = document.createElement("div");
    notice.className = "notice notice-error";
    notice.setAttribute("role", "alert");
    notice.textContent = "The dashboard does not answer. See what is live here before you try again.";
    const beside = event.detail.target?.matches(".answer") ? event.detail.target : null;
    (beside || document.getElementById("notices")).replaceChildren(notice);
  });

  /** What is told in a part that goes is told at the top of the page: of a job that has left the queue for example. */
  function keepAnswers(gone) {
    const found = gone.matches?.(".answer") ? [gone] : gone.querySelectorAll?.(".answer") || [];
    for (const answer of found) moveUp(answer);
  }

  function moveUp(answer) {
    if (answer.childElementCount) document.getElementById("notices").replaceChildren(...answer.children);
  }

  let told = null;
  document.addEventListener("htmx:beforeRequest", ({ detail: { xhr, target } }) => {
    if (!target.matches(".answer")) return;
    told = target;
    // The part may go, or move, before the answer comes.
    xhr.addEventListener("loadend", () => (target.isConnected ? target.scrollIntoView({ block: "nearest" }) : moveUp(target)));
  });

  // Escape leaves a question that a button has opened, and so do a click beside it and its answer, which is told below.
  function leave(question) {
    if (!question) return;
    const focused = question.contains(document.activeElement) || document.activeElement === document.body;
    question.open = false;
    if (focused) question.querySelector("summary").focus({ preventScroll: true });
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") leave(event.target.closest("details.confirm[open]"));
  });
  document.addEventListener("click", (event) => {
    for (const question of document.querySelectorAll("details.confirm[open]")) {
      if (!question.contains(event.target)) question.open = false;
    }
  });
  document.addEventListener("htmx:afterRequest", (event) => leave(event.target.closest("details.confirm[open]")));

  /** Whether a field holds what was typed and not sent yet: the server knows nothing of it. */
  const isTyped = (old, fresh) =>
    old.matches?.("input:not([type=checkbox], [type=radio]), textarea") && old.value !== old.defaultValue && old.value !== fresh.value;

  /** For Idiomorph's `beforeAttributeUpdated`: what somebody has opened stays open. */
  window.ugro.keepsOpen = (name, node) => !(name === "open" && node.tagName === "DETAILS");

  // What somebody is typing into, has ticked or has open stays as it is, and so does what was answered.
  const KEEP = {
    callbacks: {
      beforeAttributeUpdated: window.ugro.keepsOpen,
      beforeNodeMorphed: (old, fresh) =>
        !(old === document.activeElement && /^(INPUT|SELECT|TEXTAREA)$/.test(old.tagName)) && !isTyped(old, fresh) && !old.matches?.(".answer, input[type=checkbox]"),
      beforeNodeRemoved: keepAnswers,
    },
  };

  function element(html) {
    const template = document.createElement("template");
    template.innerHTML = html;
    return template.content.firstElementChild;
  }

  /** Call `change`, and scroll so that what is focused in a region, or was answered last, stays where it is seen. */
  function inSight(region, change) {
    const one = region.contains(document.activeElement) ? document.activeElement : told;
    const top = one?.isConnected ? one.getBoundingClientRect().top : -1;
    change();
    if (top < 0 || top > innerHeight || !one.isConnected) return;
    scrollBy({ top: one.getBoundingClientRect().top - top, behavior: "instant" });
  }

  function put(region, message) {
    for (const [id, html] of Object.entries(message.parts)) {
      const here = document.getElementById(id);
      if (here) {
        window.Idiomorph.morph(here, html.trim(), KEEP);
      } else {
        const made = element(html.trim());
        if (made) region.append(made);
      }
      const now = document.getElementById(id);
      if (now && window.htmx) window.htmx.process(now);
    }
    if (message.order) {
      const focused = document.activeElement;
      const wanted = new Set(message.order);
      for (const child of [...region.children]) {
        if (wanted.has(child.id)) continue;
        keepAnswers(child);
        child.remove();
      }
      let before = null;
      for (const id of message.order) {
        const child = document.getElementById(id);
        if (!child || child.parentElement !== region) continue;
        const place = before ? before.nextElementSibling : region.firstElementChild;
        if (child !== place) region.insertBefore(child, place);
        before = child;
      }
      // An element that is moved loses the focus.
      if (focused && focused !== document.activeElement && region.contains(focused)) focused.focus({ preventScroll: true });
    }
  }

  // One stream for the page, by turns with other windows, and none while nobody looks.
  function follow(region) {
    let source = null;
    let leave = null;
    function open() {
      if (leave || document.hidden) return;
      leave = window.ugro.turns(begin, end);
      setTimeout(waits, 1000);
    }
    function waits() {
      if (leave && !source) say("waits", window.ugro.WAITS);
    }
    function begin() {
      source = new EventSource(region.dataset.live);
      source.addEventListener("open", () => say("live", "Live"));
      source.addEventListener("parts", (event) => {
        inSight(region, () => put(region, JSON.parse(event.data)));
        region.dispatchEvent(new CustomEvent("ugro:live", { bubbles: true }));
      });
      source.addEventListener("trouble", (event) => {
        const text = JSON.parse(event.data);
        say(text ? "lost" : "live", text || "Live");
      });
      source.addEventListener("error", () => {
        say("lost", "Not connected: tries again");
        if (source && source.readyState === EventSource.CLOSED) {
          close();
          document.dispatchEvent(new CustomEvent("ugro:refused"));
          setTimeout(open, 5000);
        }
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
    document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
    window.addEventListener("pagehide", close);
    window.addEventListener("pageshow", open);
    open();
  }

  document.addEventListener("DOMContentLoaded", () => {
    wireTheme();
    document.querySelectorAll("[data-live]").forEach(follow);
  });
})();
