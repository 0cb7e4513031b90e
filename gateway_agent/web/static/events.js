// Adds events, or lines of the log, to the list as they come, as far as the filter of the page lets them through; pauses
// if asked to.
(() => {
  "use strict";
  const list = document.getElementById("events");
  const button = document.getElementById("pause");
  const kept = Number(list.dataset.kept);
  const about = list.dataset.about.toLowerCase();
  const LEVELS = ["debug", "info", "warning", "error"];
  const lowest = LEVELS.indexOf(list.dataset.level); // -1 lets every level through
  let paused = null; // the events since the pause, oldest first

  const passes = (event) =>
    LEVELS.indexOf(event.level) >= lowest &&
    (!about ||
      [event.text, event.pne_id, event.sg_id, event.area, event.code].some(
        (part) => part && part.toLowerCase().includes(about)));

  // As the gateway does: a mark that could turn the text around is shown by its number.
  const shown = (text) =>
    text.replace(/[\p{C}\p{Z}]/gu, (each) =>
      each === " " ? each : `U+${each.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`);

  function marked(name, text, kind = "") {
    const found = document.createElement(name);
    found.textContent = shown(text);
    found.className = kind;
    return found;
  }

  function show(event) {
    const row = document.createElement("li");
    const time = document.createElement("time");
    const at = new Date(event.at * 1000);
    const two = (number) => String(number).padStart(2, "0");
    const day = [at.getFullYear(), two(at.getMonth() + 1), two(at.getDate())].join("-");
    time.dateTime = at.toISOString();
    time.textContent = `${day} ${[at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":")}`;
    const text = document.createElement("span");
    if (event.area) text.append(marked("span", event.area, "soft"), " ");
    if (event.code && event.area) text.append(marked("b", event.code), " ");
    text.append(shown(event.text));
    row.append(time, text);
    row.className = event.level === "info" ? "fresh" : `fresh is-${event.level}`;
    list.prepend(row);
    while (list.children.length > kept) list.lastElementChild.remove();
    list.hidden = false;
    document.getElementById("none").hidden = true;
  }

  document.addEventListener("page:told", ({ detail }) => {
    if (!passes(detail)) return;
    if (!paused) return show(detail);
    paused.push(detail);
    if (paused.length > kept) paused.shift();
    button.textContent = `Go on (${paused.length} new)`;
  });
  button.hidden = false;
  button.addEventListener("click", () => {
    const missed = paused;
    paused = missed ? null : [];
    button.textContent = paused ? "Go on" : "Pause";
    button.setAttribute("aria-pressed", String(Boolean(paused)));
    if (missed) missed.forEach(show);
  });
})();
