// The page of something that is under way (data-waiting on main) asks now and then and
// shows what changed. Without JavaScript a link on the page does it.
"use strict";
(() => {
  const look = async () => {
    try {
      const answer = await fetch(location.href, { cache: "no-store" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector("[data-progress]");
      const here = document.querySelector("[data-progress]");
      if (answer.ok && fresh && fresh.dataset.progress !== here.dataset.progress) {
        here.replaceWith(fresh);
      }
    } catch {
      // away for a moment: asked again
    }
    wait();
  };
  const wait = () => {
    if (document.querySelector("[data-waiting]")) {
      setTimeout(look, 1500);
    }
  };
  wait();
})();
