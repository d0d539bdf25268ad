// The logs of a job: lines as they come, older ones, and a search. Everything a rank printed is put in as text.
(() => {
  "use strict";
  const ugro = (window.ugro = window.ugro || {});
  const MOST_LINES = 3000;
  const MOST_WAITING = 3000;
  // Who has scrolled up keeps what is there to be read: from so many lines on, newer ones wait until the end is wanted.
  const MOST_READ = 6000;

  const made = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };

  /** What a log is while it is on the page. `root` is the `[data-log]` element; its attributes say which log it is. */
  class LogView {
    constructor(root) {
      this.root = root;
      this.box = root.querySelector(".log");
      this.status = root.querySelector("[data-log-status]");
      this.job = root.dataset.job;
      this.several = root.dataset.rank === "all";
      this.following = true;
      this.waiting = [];
      this.dropped = 0;
      this.partials = new Map();
      this.painting = false;
      this.held = false;
      this.follow = root.querySelector("[data-log-follow]");
      this.jump = root.querySelector("[data-log-older]");
      if (this.follow) {
        this.follow.hidden = false;
        this.follow.addEventListener("click", () => this.setFollowing(!this.following));
      }
      if (this.jump) this.jump.addEventListener("click", (event) => this.older(event));
      this.box.addEventListener("scroll", () => this.scrolled(), { passive: true });
      this.toEnd();
    }

    atEnd() {
      return this.box.scrollHeight - this.box.scrollTop - this.box.clientHeight < 40;
    }

    toEnd() {
      this.box.scrollTop = this.box.scrollHeight;
    }

    scrolled() {
      if (this.ignore) return;
      const end = this.atEnd();
      if (end !== this.following) this.setFollowing(end, true);
    }

    setFollowing(on, scrolled = false) {
      this.following = on;
      if (this.follow) {
        this.follow.setAttribute("aria-pressed", String(on));
      }
      if (on && this.held) this.paint();
      if (on && !scrolled) this.toEnd();
    }

    line(rank, line) {
      const row = made("div", "log-line");
      if (this.several) row.append(made("span", "log-rank", `rank ${rank}`));
      row.append(document.createTextNode(line.text));
      if (line.left_out) row.append(made("span", "log-cut", ` … ${line.left_out.toLocaleString("en-GB")} bytes more`));
      return row;
    }

    /** Take in what the stream sent of one rank. */
    add(data) {
      if (data.reset) this.waiting.push(made("div", "log-note", `rank ${data.rank}: a new attempt begins`));
      if (data.skipped > 0) {
        const bytes = data.skipped.toLocaleString("en-GB");
        this.waiting.push(made("div", "log-note", `${bytes} bytes were passed over: they came faster than this page reads`));
      }
      for (const line of data.lines) this.waiting.push(this.line(data.rank, line));
      this.partials.set(data.rank, data.partial || "");
      if (this.waiting.length > MOST_WAITING) {
        this.dropped += this.waiting.length - MOST_WAITING;
        this.waiting = this.waiting.slice(-MOST_WAITING);
      }
      if (!this.painting) {
        this.painting = true;
        // A page in the background has no frames: its lines wait, and only so many of them.
        requestAnimationFrame(() => this.paint());
      }
    }

    paint() {
      this.painting = false;
      if (!this.following && this.waiting.length && this.box.childElementCount + this.waiting.length > MOST_READ) {
        if (!this.held) this.say("Newer lines wait: Follow shows them");
        this.held = true;
        return;
      }
      if (this.held) this.say("");
      this.held = false;
      this.box.querySelectorAll(".log-partial, .log-empty").forEach((row) => row.remove());
      const part = document.createDocumentFragment();
      if (this.dropped) part.append(made("div", "log-note", `${this.dropped} lines passed and were not shown`));
      part.append(...this.waiting);
      for (const [rank, text] of this.partials) {
        if (!text) continue;
        const row = this.line(rank, { text });
        row.classList.add("log-partial");
        part.append(row);
      }
      this.waiting = [];
      this.dropped = 0;
      this.ignore = true;
      this.box.append(part);
      if (this.following) {
        while (this.box.childElementCount > MOST_LINES) this.box.firstElementChild.remove();
        this.toEnd();
      }
      requestAnimationFrame(() => (this.ignore = false));
    }

    url(values) {
      const query = new URLSearchParams({ form: "json", rank: this.root.dataset.rank, attempt: this.root.dataset.attempt });
      for (const [name, value] of Object.entries(values)) query.set(name, value);
      return `/experiments/${encodeURIComponent(this.job)}/logs?${query}`;
    }

    async ask(values) {
      const answer = await fetch(this.url(values), { credentials: "same-origin" });
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      return answer.json();
    }

    async older(event) {
      event.preventDefault();
      try {
        const found = (await this.ask({ before: this.root.dataset.start })).windows[0];
        const rows = found.lines.map((line) => this.line(found.rank, line));
        const height = this.box.scrollHeight;
        this.setFollowing(false);
        this.box.prepend(...rows);
        this.box.scrollTop += this.box.scrollHeight - height;
        this.root.dataset.start = found.start;
        this.jump.hidden = found.start === 0;
        this.say(found.start === 0 ? "This is the beginning of the log." : "");
      } catch (error) {
        this.say(`Older lines could not be read: ${error.message}`);
      }
    }

    say(text) {
      if (this.status) this.status.textContent = text;
    }
  }

  ugro.LogView = LogView;
})();
