// The list of experiments: what is chosen for a comparison stays chosen on other pages, and however it is sorted and filtered.
(() => {
  "use strict";
  const form = document.querySelector("[data-choose]");
  if (!form) return;
  const told = form.querySelector("[data-chosen]");
  const none = form.querySelector("[data-unchoose]");
  const compare = form.querySelector("[data-compare]");
  const boxes = () => [...form.querySelectorAll("input[type=checkbox][name=job]")];
  const names = (address) => new URL(address, location.href).searchParams.getAll("job").filter(Boolean);
  const chosen = new Set(names(location.href));

  /** An address of the list with what is chosen. */
  function withChosen(address) {
    const url = new URL(address, location.href);
    url.searchParams.delete("job");
    for (const name of chosen) url.searchParams.append("job", name);
    return url.href;
  }

  function tell() {
    const here = new Set(boxes().map((box) => box.value));
    for (const place of document.querySelectorAll("[data-chosen-fields]")) {
      // A box that is ticked says it itself.
      const others = [...chosen].filter((name) => !("elsewhere" in place.dataset && here.has(name)));
      place.replaceChildren(...others.map((value) => Object.assign(document.createElement("input"), { type: "hidden", name: "job", value })));
    }
    const text = chosen.size ? `${chosen.size} chosen` : "";
    if (told.textContent !== text) told.textContent = text;
    none.hidden = !chosen.size;
    compare.disabled = !chosen.size;
  }

  /** Tick what is chosen. */
  function show() {
    for (const box of boxes()) box.checked = chosen.has(box.value);
    tell();
  }

  /** Take what is ticked; the address has it, for a reload, for who comes back, and to be kept. */
  function take() {
    for (const box of boxes()) chosen[box.checked ? "add" : "delete"](box.value);
    history.replaceState(null, "", withChosen(location.href));
    tell();
  }

  form.addEventListener("change", take);
  none.addEventListener("click", (event) => {
    event.preventDefault();
    chosen.clear();
    history.replaceState(null, "", withChosen(location.href));
    show();
    form.querySelector(".scroll").focus({ preventScroll: true }); // the link goes
  });
  for (const kind of ["click", "auxclick"]) {
    document.addEventListener(kind, (event) => {
      const link = event.target.closest("a[data-keeps]");
      if (link) link.href = withChosen(link.href);
    });
  }
  document.addEventListener("ugro:live", show); // rows that are new here may be chosen
  addEventListener("pageshow", show);
  show();
})();
