// The form Launch: a field that is wrong is brought into view. What is typed and chosen stays as it is.
(() => {
  "use strict";
  const form = document.getElementById("launch-form");
  if (!form) return;

  function mark() {
    let first = null;
    form.querySelectorAll(".field-error").forEach((line) => {
      const field = document.getElementById(line.id.replace(/-error$/, ""));
      const wrong = line.textContent.trim() !== "";
      if (!field) return;
      if (!wrong) {
        field.removeAttribute("aria-invalid");
        return;
      }
      field.setAttribute("aria-invalid", "true");
      const around = field.closest("details");
      if (around) around.open = true;
      first ??= field;
    });
    if (first) first.focus();
  }

  /** Say something at a field, or in the answer: what the server could not say itself. */
  function say(id, text) {
    const line = document.getElementById(id);
    if (line) line.textContent = text;
  }

  // A server hangs up on who sends too much: it is said before anything is sent.
  // `form.dataset` would be the field of that name.
  const most = Number(form.getAttribute("data-most"));
  const mostFiles = Number(form.getAttribute("data-files"));
  form.addEventListener("htmx:beforeRequest", (event) => {
    const chosen = [...form.querySelectorAll("input[type=file]")].flatMap((input) => [...input.files]);
    const size = chosen.reduce((sum, file) => sum + file.size, 0);
    if (size <= most && chosen.length <= mostFiles) return;
    event.preventDefault();
    say("files-error", `${chosen.length} files of ${Math.ceil(size / 1e6)} MB are too much for this page: use ugro launch --script F --workdir D.`);
    mark();
  });
  form.addEventListener("htmx:sendError", () => say("answer", "Nothing was sent: the dashboard does not answer. Try again."));

  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.detail.target?.id === "answer") mark();
  });
  mark();
})();
