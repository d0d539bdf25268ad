// A page that was open before its session began (the one it was made in has ended) gets the token of this one: what
// was typed and chosen stays, and is sent with the next click.
(() => {
  "use strict";
  document.addEventListener("ugro:token", (event) => {
    const token = event.detail.value;
    document.body.setAttribute("hx-headers", JSON.stringify({ "X-CSRF-Token": token }));
    for (const field of document.querySelectorAll("input[name=csrf]")) field.value = token;
  });
})();
