// The live page: asks for state.json every two seconds, and redraws the parts of the page that changed.
//
// Everything shown is put in as text (textContent), never as HTML: names of files and messages can hold anything.

import { seriesChart, spectrumChart } from "./charts.js";

const INTERVAL = 2000;
const TIMEOUT = 10000;

const drawn = new Map();
const images = new Map();
let lostSince = null;
let updated = null;

async function poll() {
  try {
    const answer = await fetch("state.json", { cache: "no-cache", signal: AbortSignal.timeout(TIMEOUT) });
    if (answer.ok) {
      draw(await answer.json());
      connection("");
    } else {
      connection(`the state cannot be shown (${await answer.text()})`);
    }
    lostSince = null;
  } catch {
    lostSince ??= new Date();
    connection(`connection lost since ${moment(lostSince)}`);
  }
  showAge();
  setTimeout(poll, INTERVAL);
}

function connection(text) {
  const line = document.getElementById("connection");
  if (line.textContent !== text) line.textContent = text;
  line.hidden = text === "";
}

function draw(state) {
  const title = state.title || "trila watch";
  document.title = title;
  set("title", title);
  set("phase", state.phase ?? "");
  document.getElementById("phase").className = state.phase ?? "";
  updated = state.updated ?? null;
  const datasets = state.datasets ?? [];
  ifChanged("figures", [datasets, state.rate_hz, state.latency_s], () => drawFigures(state, datasets));
  ifChanged("datasets", datasets, () => fill("datasets", "tbody", datasets.map(datasetRow)));
  ifChanged("errors", state.errors ?? [], (errors) => fill("errors", "ol", errors.map(errorItem).reverse()));
  ifChanged("spectra", state.spectra ?? {}, (all) => fill("spectra", ".charts", charts(all, spectrumChart)));
  ifChanged("series", state.series ?? {}, (all) => fill("series", ".charts", charts(all, seriesChart)));
  ifChanged("plots", state.plots ?? [], (plots) => fill("plots", ".gallery", plots.flatMap(plotFigure)));
}

// Redrawing what did not change would take away what the reader has selected or points at.
function ifChanged(name, part, redraw) {
  const text = JSON.stringify(part);
  if (drawn.get(name) === text) return;
  drawn.set(name, text);
  redraw(part);
}

function drawFigures(state, datasets) {
  const sum = (key) => datasets.reduce((total, dataset) => total + (dataset[key] ?? 0), 0);
  const skipped = sum("files_skipped");
  const total = sum("files_done") + sum("files_waiting") + skipped;
  const latency = state.latency_s ?? {};
  const figures = [
    ["events", count(sum("events")), ""],
    ["files", `${count(sum("files_done"))} of ${count(total)}`, skipped ? `${count(skipped)} skipped` : ""],
    ["rate", frequency(state.rate_hz), "events per second, last update"],
    [
      "arrival to plot",
      duration(latency.last),
      latency.last == null ? "" : `median ${duration(latency.median)}, longest ${duration(latency.max)}`,
    ],
  ];
  document.getElementById("figures").replaceChildren(
    ...figures.map(([name, value, note]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, value), element("dd", { className: "note" }, note)),
    ),
  );
}

function datasetRow(dataset) {
  const number = (key) => element("td", { className: "number" }, count(dataset[key] ?? 0));
  const fraction = Math.min(Math.max(dataset.fraction ?? 0, 0), 1);
  const bar = element("progress", { max: 1, value: fraction });
  // rounded down: 100% is said of the whole only
  const percent = `${Math.floor(100 * fraction + 1e-9)}%`;
  return element(
    "tr",
    {},
    element("th", { scope: "row" }, dataset.name ?? ""),
    element("td", { className: "processed" }, bar, " ", percent),
    number("files_done"),
    number("files_waiting"),
    number("files_skipped"),
    number("events"),
  );
}

function errorItem(error) {
  const time = element("time", {}, moment(error.time));
  const file = element("code", {}, error.file ?? "");
  return element("li", {}, time, " ", file, element("p", {}, error.message ?? ""));
}

function charts(all, chart) {
  return Object.entries(all).map(([name, content]) => {
    const note = content.changes?.length ? `${name}; dashed: changes` : name;
    return element("figure", {}, chart(content), element("figcaption", {}, note));
  });
}

// The image of a file stays the same element, so that it does not vanish while a new version loads.
function plotFigure(plot) {
  if (plot.version === null) return [];
  const address = `plots/${plot.file.split("/").map(encodeURIComponent).join("/")}?${plot.version}`;
  const title = plot.title || plot.name;
  const image = images.get(plot.file) ?? element("img", {});
  images.set(plot.file, image);
  if (image.getAttribute("src") !== address) image.src = address;
  image.alt = title;
  const link = element("a", { href: address, target: "_blank" }, image);
  return [element("figure", {}, link, element("figcaption", {}, title))];
}

function fill(section, part, content) {
  const place = document.getElementById(section);
  place.querySelector(part).replaceChildren(...content);
  place.hidden = content.length === 0;
}

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function set(id, text) {
  const place = document.getElementById(id);
  if (place.textContent !== text) place.textContent = text;
}

function showAge() {
  const seconds = (Date.now() - new Date(updated).getTime()) / 1000;
  const known = updated !== null && Number.isFinite(seconds);
  set("updated", known ? `updated ${moment(updated)}, ${duration(Math.max(Math.floor(seconds), 0))} ago` : "");
}

// Of the reader's clock; what is no time is shown as it came.
function moment(time) {
  const date = new Date(time ?? "");
  if (Number.isNaN(date.getTime())) return String(time ?? "");
  const two = (number) => String(number).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  const clock = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return date.toDateString() === new Date().toDateString() ? clock : `${day} ${clock}`;
}

function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 9.95 && !Number.isInteger(seconds)) return `${seconds.toFixed(1)} s`;
  if (seconds < 119.5) return `${seconds.toFixed(0)} s`;
  if (seconds < 7170) return `${(seconds / 60).toFixed(0)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function count(number) {
  return Math.round(number).toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
}

function frequency(hertz) {
  if (hertz == null) return "–";
  const [power, prefix] = [[1e9, "G"], [1e6, "M"], [1e3, "k"]].find(([limit]) => hertz >= limit) ?? [1, ""];
  return `${Number((hertz / power).toPrecision(3))} ${prefix}Hz`;
}

setInterval(showAge, 1000);
poll();
