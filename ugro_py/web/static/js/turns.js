// Streams of many windows: a browser has six connections to one host, so four windows at a time have a stream, by turns.
(() => {
  "use strict";
  const ugro = (window.ugro = window.ugro || {});
  const MOST = 4;
  const TURN_MS = 10_000;
  const NAME = "ugro-stream-";

  /**
   * Call `begin` when this window may have a stream, and `end` when it is another's turn, again and again.
   * Returns a function that leaves it at that; it calls `end` where the window has its turn.
   */
  ugro.turns = (begin, end) => {
    if (!navigator.locks) {
      begin();
      return end;
    }
    let left = false;
    let give = null; // while this window has its turn
    let waiting = null;

    function wait() {
      const asked = (waiting = new AbortController());
      for (let number = 0; number < MOST; number++) {
        const granted = () => {
          if (give || left || asked.signal.aborted) return undefined;
          const held = new Promise((done) => (give = done));
          asked.abort();
          begin();
          return held;
        };
        navigator.locks.request(NAME + number, { signal: asked.signal }, granted).catch(() => {}); // wanted no more
      }
    }

    function stop() {
      if (!give) return;
      end();
      give();
      give = null;
    }

    async function look() {
      if (!give) return;
      const { pending } = await navigator.locks.query();
      if (left || !give || !pending.some((one) => one.name.startsWith(NAME))) return;
      stop();
      wait();
    }

    const timer = setInterval(look, TURN_MS);
    wait();
    return () => {
      left = true;
      clearInterval(timer);
      waiting.abort();
      stop();
    };
  };

  ugro.WAITS = "Waits for its turn: other windows are open";
})();
