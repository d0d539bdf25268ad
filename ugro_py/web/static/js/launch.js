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

  document.addEventListener("htmx:afterSettle", (event) => {
    if (event.detail.target?.id === "answer") mark();
  });
  mark();
})();
