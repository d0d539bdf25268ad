// What is chosen of how the curves of an experiment are drawn is in the address: for a reload, and to send somebody.
(() => {
  "use strict";
  const ugro = (window.ugro = window.ugro || {});
  const NAMES = ["by", "ranks", "smooth", "log"];

  /** Take what the address says into a form and a set of the columns that are drawn too. */
  ugro.readChoices = (form, more) => {
    const asked = new URLSearchParams(location.search);
    for (const name of NAMES) {
      const field = form?.elements[name];
      if (!field || !asked.has(name)) continue;
      const value = asked.get(name);
      if (field.type === "checkbox") field.checked = value === field.value;
      else if (field.tagName !== "SELECT" || [...field.options].some((one) => one.value === value)) field.value = value;
    }
    asked.getAll("more").slice(0, 256).forEach((name) => more.add(name));
  };

  /** Put what is chosen into the address, but for what would be so without; what else is in it stays. */
  ugro.keepChoices = (form, more) => {
    const asked = new URLSearchParams(location.search);
    for (const name of [...NAMES, "more"]) asked.delete(name);
    for (const [name, value] of choices(form, more)) asked.append(name, value);
    const query = asked.toString();
    history.replaceState(history.state, "", location.pathname + (query ? `?${query}` : "") + location.hash);
  };

  function choices(form, more) {
    const usual = (field) =>
      field.type === "checkbox" ? !field.checked : field.value === (field.options?.[0].value ?? field.defaultValue);
    const fields = NAMES.map((name) => form.elements[name]).filter((field) => field && !usual(field));
    return [...fields.map((field) => [field.name, field.value]), ...[...more].map((name) => ["more", name])];
  }

  /** The form that chooses a log loads the page anew: with what is chosen here. */
  ugro.takeChoicesAlong = (form, more) => {
    document.addEventListener("submit", ({ target, submitter }) => {
      if (target.method !== "get" || submitter?.hasAttribute("formaction")) return;
      if (new URL(target.action).pathname !== location.pathname) return;
      const add = ({ formData }) => choices(form, more).forEach(([name, value]) => formData.append(name, value));
      target.addEventListener("formdata", add, { once: true });
    });
  };
})();
