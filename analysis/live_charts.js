// The charts of the live page, as SVG elements: `spectrumChart` and `seriesChart`.
//
// Text goes in as text nodes only. Sizes are in units of the view box; colours are in page.css.

// The browser scales the view box to the room there is: on a phone a smaller one keeps the text readable.
const NARROW = window.matchMedia("(max-width: 40rem)").matches;
const WIDTH = NARROW ? 400 : 640;
const HEIGHT = NARROW ? 270 : 360;
const FRAME = { left: 78, right: WIDTH - 16, top: 14, bottom: HEIGHT - 50 };
const MOST_X = NARROW ? 5 : 8;

/** Counts in bins as a step line, the y axis logarithmic; empty bins are left out, and so are empty ends. */
export function spectrumChart({ label = "", unit = "", edges = [], counts = [] }) {
  const filled = counts.flatMap((count, i) => (count > 0 ? [i] : []));
  const positive = filled.map((i) => counts[i]);
  const unitText = unit ? ` [${unit}]` : "";
  const svg = frame(`${label}${unitText}`, "events per bin", `spectrum of ${label}`);
  if (filled.length === 0) return empty(svg, "no events yet");

  const first = filled[0];
  const last = filled[filled.length - 1] + 1;
  const width = (i) => edges[i + 1] - edges[i];
  // bins that grow with the value are meant to be read on a logarithmic axis
  const logX = edges[first] > 0 && width(last - 1) > 4 * width(first) && edges[last] > 4 * edges[first];
  const x = (logX ? logScale : linearScale)(edges[first], edges[last], FRAME.left, FRAME.right);
  const lowest = 10 ** (Math.floor(Math.log10(smallest(positive))) - 0.3);
  const y = logScale(lowest, 2 * largest(positive), FRAME.bottom, FRAME.top);
  drawXAxis(svg, logX ? logTicks(edges[first], edges[last]) : linearTicks(edges[first], edges[last], MOST_X), x);
  drawYAxis(svg, logTicks(lowest, 2 * largest(positive)), y);

  let path = `M${x(edges[first]).toFixed(2)} ${FRAME.bottom}`;
  for (let i = first; i < last; i += 1) {
    path += `V${counts[i] > 0 ? y(counts[i]).toFixed(2) : FRAME.bottom}H${x(edges[i + 1]).toFixed(2)}`;
  }
  path += `V${FRAME.bottom}`;
  add(svg, "path", { class: "area", d: `${path}Z` });
  add(svg, "path", { class: "steps", d: path });
  return svg;
}

/** Values with errors against run. Runs stand side by side in their order: their numbers leave gaps of any size. */
export function seriesChart({ label = "", unit = "", runs = [], values = [], errors = [], changes = [] }) {
  const points = runs
    .map((run, i) => ({ run, value: values[i], error: errors[i] ?? 0 }))
    .filter(({ value }) => Number.isFinite(value))
    .sort((a, b) => a.run - b.run);
  // numbers that would be too long beside the axis are in powers of 1000, named in its label
  const size = largest(points.map(({ value }) => Math.abs(value)));
  const power = size >= 1e5 || (size > 0 && size < 1e-2) ? 3 * Math.floor(Math.log10(size) / 3) : 0;
  const scale = 10 ** power;
  const unitText = unit ? ` [${unit}]` : "";
  const svg = frame("run", `${label}${unitText}${power ? ` (×10${superscript(power)})` : ""}`, `${label} against run`);
  if (points.length === 0) return empty(svg, "no run has enough entries yet");

  const low = smallest(points.map(({ value, error }) => value - error)) / scale;
  const high = largest(points.map(({ value, error }) => value + error)) / scale;
  const margin = 0.08 * (high - low) || 0.05 * Math.abs(high) || 1;
  const x = linearScale(-0.5, points.length - 0.5, FRAME.left, FRAME.right);
  const scaled = linearScale(low - margin, high + margin, FRAME.bottom, FRAME.top);
  const y = (value) => scaled(value / scale);
  drawYAxis(svg, linearTicks(low - margin, high + margin, 6), scaled);
  const step = Math.ceil(points.length / MOST_X);
  drawXAxis(svg, points.flatMap(({ run }, i) => (i % step ? [] : [{ value: i, text: String(run) }])), x);

  for (const change of changes) {
    const at = points.findIndex(({ run }) => run >= change);
    if (at > 0) {
      const line = add(svg, "line", { class: "change", x1: x(at - 0.5), x2: x(at - 0.5), y1: FRAME.top, y2: FRAME.bottom });
      add(line, "title", {}, `changed from run ${change} on`);
    }
  }
  const dense = points.length > 150;
  svg.classList.toggle("dense", dense);
  points.forEach(({ run, value, error }, i) => {
    const point = add(svg, "g", { class: "point" });
    add(point, "title", {}, `run ${run}: ${Number(value.toPrecision(6))} ± ${Number(error.toPrecision(2))}${unitText}`);
    if (error > 0) add(point, "line", { x1: x(i), x2: x(i), y1: y(value - error), y2: y(value + error) });
    add(point, "circle", { cx: x(i), cy: y(value), r: dense ? 1.5 : 3.5 });
  });
  return svg;
}

// An element, appended to its parent. Positions are rounded: a hundredth of a unit is below a pixel.
function add(parent, name, attributes, text) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) {
    element.setAttribute(key, typeof value === "number" ? Math.round(100 * value) / 100 : value);
  }
  if (text !== undefined) element.textContent = text;
  parent.append(element);
  return element;
}

function frame(xLabel, yLabel, description) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", description);
  const { left, right, top, bottom } = FRAME;
  add(svg, "rect", { class: "frame", x: left, y: top, width: right - left, height: bottom - top });
  add(svg, "text", { class: "label", x: right, y: HEIGHT - 8, "text-anchor": "end" }, xLabel);
  add(svg, "text", { class: "label", x: 16, y: top, "text-anchor": "end", transform: `rotate(-90 16 ${top})` }, yLabel);
  return svg;
}

function empty(svg, text) {
  add(svg, "text", { class: "label", x: WIDTH / 2, y: HEIGHT / 2, "text-anchor": "middle" }, text);
  return svg;
}

function drawXAxis(svg, ticks, x) {
  for (const { value, text } of ticks) {
    add(svg, "line", { class: "tick", x1: x(value), x2: x(value), y1: FRAME.bottom, y2: FRAME.bottom - (text ? 8 : 4) });
    if (text) add(svg, "text", { class: "x", x: x(value), y: FRAME.bottom + 18, "text-anchor": "middle" }, text);
  }
}

function drawYAxis(svg, ticks, y) {
  for (const { value, text } of ticks) {
    add(svg, "line", { class: "tick", x1: FRAME.left, x2: FRAME.left + (text ? 8 : 4), y1: y(value), y2: y(value) });
    if (text) add(svg, "text", { class: "y", x: FRAME.left - 7, y: y(value) + 5, "text-anchor": "end" }, text);
  }
}

function linearScale(low, high, start, end) {
  return (value) => start + ((value - low) / (high - low)) * (end - start);
}

function logScale(low, high, start, end) {
  const linear = linearScale(Math.log(low), Math.log(high), start, end);
  return (value) => linear(Math.log(value));
}

// Multiples of 1, 2 or 5 times a power of ten: at most `most` of them.
function linearTicks(low, high, most) {
  const raw = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= raw * (1 - 1e-9));
  const digits = Math.min(Math.max(0, -Math.floor(Math.log10(step) + 1e-9)), 12);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i += 1) {
    ticks.push({ value: i * step, text: (i * step).toFixed(digits) });
  }
  return ticks;
}

// Powers of ten with their multiples; over less than two decades also 2 and 5 are named, over many not every power.
function logTicks(low, high) {
  const decades = Math.log10(high / low);
  const every = Math.ceil(decades / 8);
  const ticks = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
    for (let factor = 1; factor < 10; factor += 1) {
      const value = factor * 10 ** power;
      const named = factor === 1 ? power % every === 0 : decades < 2 && (factor === 2 || factor === 5);
      if (value >= low && value <= high) ticks.push({ value, text: named ? plain(value) : "" });
    }
  }
  return ticks;
}

function plain(value) {
  if (value >= 1e-3 && value < 1e5) return String(Number(value.toPrecision(1)));
  const power = Math.floor(Math.log10(value) + 1e-9);
  const factor = Math.round(value / 10 ** power);
  return `${factor === 1 ? "" : `${factor}·`}10${superscript(power)}`;
}

function superscript(number) {
  return String(number).replace(/[-0-9]/g, (digit) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(digit)]);
}

// Not Math.min(...values): a spectrum has more bins than a call may have arguments.
function smallest(values) {
  return values.reduce((a, b) => Math.min(a, b), Infinity);
}

function largest(values) {
  return values.reduce((a, b) => Math.max(a, b), -Infinity);
}
