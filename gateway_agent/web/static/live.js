// Keeps a page true while it is open: ages count on, and what an event has changed is read anew.
(() => {
  "use strict";
  const body = document.body;
  const AT_ONCE_MS = 20; // what belongs together comes together
  const REFRESH_MS = 250; // between two readings in a burst of events; a delivery to 1,000 boards is many events
  const EVERY_MS = Number(body.dataset.every); // for what changes without an event, such as when a board was heard
  const skew = Number(body.dataset.now) - Date.now() / 1000; // the gateway's clock counts, not this machine's

  const now = () => Date.now() / 1000 + skew;

  // The words of `ago` in gateway_agent/web/pages/words.py.
  function ago(seconds) {
    for (const [size, unit] of [[86400, "days"], [3600, "h"], [60, "min"]]) {
      if (seconds >= 2 * size) return `${Math.floor(seconds / size)} ${unit} ago`;
    }
    return `${Math.max(0, Math.floor(seconds))} s ago`;
  }

  function tick() {
    for (const each of document.querySelectorAll("time[data-ago]")) {
      const text = ago(now() - Number(each.dataset.ago));
      if (each.textContent !== text) each.textContent = text;
    }
    for (const each of document.querySelectorAll("[data-until]")) {
      const left = Math.max(0, Math.ceil(Number(each.dataset.until) - now()));
      const text = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
      if (each.tagName === "PROGRESS") each.value = left;
      else if (each.textContent !== text) each.textContent = text;
    }
  }

  // htmx and the stream of events come after the page is there: nothing that a person reads needs them.
  const there = new Promise((go) => addEventListener("load", () => setTimeout(go)));
  const loaded = there.then(() => new Promise((go) => {
    const script = document.createElement("script");
    script.src = body.dataset.htmx;
    script.onload = go;
    document.head.append(script);
  }));

  // One reading at a time; whatever happens meanwhile makes one more.
  let reading = false, due = false, wait = 0, read_at = -REFRESH_MS;
  async function read() {
    clearTimeout(wait);
    wait = 0;
    if (!document.getElementById("live")) return;
    if (reading) { due = true; return; }
    reading = true;
    await loaded;
    due = false;
    read_at = performance.now();
    try {
      await htmx.ajax("GET", location.href, { target: "#live", select: "#live", swap: "outerMorph" });
    } finally {
      reading = false;
    }
    tick();
    document.dispatchEvent(new Event("page:read"));
    if (due) soon();
  }
  const soon = () => { wait ||= setTimeout(read, Math.max(AT_ONCE_MS, read_at + REFRESH_MS - performance.now())); };

  const AGAIN_MS = 5000; // a browser tries again by itself, unless the gateway refuses: too many pages are live, or logged out

  function listen(url) {
    const state = document.getElementById("state");
    const source = new EventSource(url);
    const says = (text, is) => { state.textContent = text; state.className = is; };
    source.onopen = () => says("Live: what happens shows here at once.", "good");
    source.onerror = () => {
      says("Not live now; trying again. What is shown may be old.", "bad");
      if (source.readyState === EventSource.CLOSED) setTimeout(listen, AGAIN_MS, url);
    };
    source.addEventListener("told", (message) => {
      document.dispatchEvent(new CustomEvent("page:told", { detail: JSON.parse(message.data) }));
      soon();
    });
    source.addEventListener("line", (message) => {
      document.dispatchEvent(new CustomEvent("page:told", { detail: JSON.parse(message.data) }));
    });
    source.addEventListener("lost", soon);
    source.addEventListener("again", soon);
    addEventListener("pagehide", () => source.close());
  }

  setInterval(tick, 1000);
  if (body.dataset.live) {
    there.then(() => listen(body.dataset.live));
    setInterval(() => { if (!document.hidden) soon(); }, EVERY_MS);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) soon(); });
  }
})();
