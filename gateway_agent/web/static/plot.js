// Draws how long each delivery took, from the rows of the table of deliveries, which say the same in figures.
(() => {
  "use strict";
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let drawn = null;
  let shown = "";

  function rows() {
    return [...document.querySelectorAll("#deliveries tr[data-at]")]
      .map(({ dataset }) => [Number(dataset.at), Number(dataset.seconds), Number(dataset.share)])
      .sort((one, other) => one[0] - other[0]);
  }

  // Hours on the first line, the day below it where it changes; days alone if the ticks are that far apart.
  function dates(_, ticks, __, ___, step) {
    let before = "";
    return ticks.map((each) => {
      const at = new Date(each * 1000);
      const two = (number) => String(number).padStart(2, "0");
      const day = `${two(at.getMonth() + 1)}-${two(at.getDate())}`;
      const hour = step >= 86400 ? "" : `${two(at.getHours())}:${two(at.getMinutes())}`;
      const text = hour && day !== before ? `${hour}\n${day}` : hour || day;
      before = day;
      return text;
    });
  }

  function draw() {
    const place = document.getElementById("plot");
    const found = rows();
    if (!place) return;
    place.hidden = found.length < 2;
    const text = JSON.stringify([found, dark.matches, place.clientWidth]);
    if (place.hidden || (text === shown && place.firstChild)) return;
    shown = text;
    drawn?.destroy();
    const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    const axis = { stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1 } };
    const line = (stroke) => ({ stroke, width: 2, points: { show: true, size: 7, fill: color("--sheet") } });
    drawn = new uPlot(
      {
        width: place.clientWidth,
        height: 220,
        cursor: { drag: { x: false, y: false } },
        scales: { s: { range: (_, __, max) => [0, Math.max(1, max * 1.1)] }, share: { range: [0, 105] } },
        axes: [
          { ...axis, values: dates },
          { ...axis, scale: "s", values: (_, ticks) => ticks.map((each) => `${each} s`), size: 60 },
          { ...axis, scale: "share", side: 1, grid: { show: false }, values: (_, ticks) => ticks.map((each) => `${each} %`), size: 60 },
        ],
        series: [
          { value: "{YYYY}-{MM}-{DD} {HH}:{mm}:{ss}" },
          { label: "took", scale: "s", ...line(color("--accent")), value: (_, each) => (each == null ? "–" : `${each.toFixed(1)} s`) },
          { label: "confirmed", scale: "share", ...line(color("--warn-edge")), dash: [6, 4], value: (_, each) => (each == null ? "–" : `${Math.round(each)} %`) },
        ],
      },
      [0, 1, 2].map((column) => found.map((row) => row[column])),
      place,
    );
  }

  draw();
  document.addEventListener("page:read", draw);
  dark.addEventListener("change", draw);
  addEventListener("resize", draw);
})();
