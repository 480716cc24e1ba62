// What all viewers share. Each viewer's own file is appended to this one; together they are one module.

const IGNORE = 255, HIT = 1, FALSE_ALARM = 2, MISS = 3;  // see render.py
const ERROR_COLORS = ["", "#009e73", "#e69f00", "#8c00ff"];
const ERROR_NAMES = ["", "found (true positive)", "false alarm (false positive)", "missed (false negative)"];
const FOCUSABLE = ["INPUT", "SELECT", "BUTTON"];

/** An element. Children that are texts stay texts: nothing is ever read as HTML. */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean") element.toggleAttribute(name, value);
    else element.setAttribute(name, value);
  }
  // JupyterLab would take arrow keys and letters for itself.
  if (FOCUSABLE.includes(element.tagName) || "tabindex" in attributes)
    element.setAttribute("data-lm-suppress-shortcuts", "true");
  element.append(...children);
  return element;
}

let named = 0;
/** A control with its label before it; `told` is a text after it. */
function field(text, control, ...told) {
  control.id = control.id || `mtl-${++named}-${Math.random().toString(36).slice(2)}`;
  return h("div", { class: "mtl-field" }, h("label", { for: control.id }, text), control, ...told);
}

/** A select whose options are [value, text]. */
function choice(options, onchange) {
  const select = h("select", { onchange: () => onchange(select.value) });
  fill(select, options);
  return select;
}

function fill(select, options) {
  select.replaceChildren(...options.map(([value, text]) => h("option", { value: String(value) }, text)));
}

const swatch = color => h("span", { class: "mtl-color", style: `background:${color}` });
const errorKey = () => h("p", { class: "mtl-key" }, ...[HIT, FALSE_ALARM, MISS].flatMap(kind =>
  [h("span", { style: "white-space:nowrap" }, swatch(ERROR_COLORS[kind]), ERROR_NAMES[kind]), " "]));
const button = (text, onclick, attributes = {}) => h("button", { type: "button", onclick, ...attributes }, text);
const percent = share => Number.isFinite(share) ? `${(100 * share).toFixed(1)} %` : "–";
const number = (value, digits = 3) => Number.isFinite(value) ? value.toFixed(digits).replace("-", "−") : "–";
const rgb = color => [1, 3, 5].map(k => parseInt(color.slice(k, k + 2), 16));

/** Uint8Array over what the kernel sent (a DataView inside a larger buffer), without a copy; null stays null. */
function bytes(value) {
  if (value === null || value === undefined) return null;
  return value instanceof ArrayBuffer ? new Uint8Array(value)
    : new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
}

/** The same for float32, which must begin at a multiple of four bytes. */
const floats = value => new Float32Array(bytes(value).slice().buffer);

/**
 * Controls tied to the keys of the trait `settings`. A control writes its key; whoever wrote it, kernel, other view or
 * this one, `draw` is then called once with all settings.
 */
function bind(model, draw) {
  const controls = [];  // functions that set a control to the settings
  const get = () => model.get("settings");
  const save = () => { try { model.save_changes(); } catch { /* no kernel any more: the viewer goes on without it */ } };
  const set = part => { model.set("settings", { ...get(), ...part }); save(); };
  const update = () => { const s = get(); controls.forEach(show => show(s)); draw(s); };
  const on = show => { controls.push(show); };
  return {
    get, set, on, save,
    slider(key, text, { min, max, step = 1, format = String, read = s => s[key], write = v => ({ [key]: v }) }) {
      const told = h("output", {});
      const input = h("input", { type: "range", min, max, step, oninput: () => set(write(Number(input.value))) });
      on(s => { input.value = read(s) ?? min; told.textContent = format(Number(input.value), s); });
      return field(text, input, told);
    },
    choice(key, text, options) {
      const values = options.map(([value]) => value);
      const select = choice(options.map(([, label], k) => [k, label]), k => set({ [key]: values[k] }));
      on(s => { select.value = String(values.indexOf(s[key] ?? null)); });
      return field(text, select);
    },
    toggle(key, text) {
      const box = h("input", { type: "checkbox", onchange: () => set({ [key]: box.checked }) });
      on(s => { box.checked = s[key]; });
      return field(text, box);
    },
    /** Draw, and from now on with every change; gives the function that ends it. */
    start() {
      model.on("change:settings", update);
      update();
      return () => model.off("change:settings", update);
    },
  };
}

/** A canvas of `width` × `height` pixels, shown as large as fits into `room` without a blur. */
function canvas(width, height, room, attributes = {}) {
  const scale = width < room ? Math.max(1, Math.floor(room / width)) : room / width;
  return h("canvas", { width, height, style: `width:${width * scale}px;height:${height * scale}px`, ...attributes });
}

/** Put RGBA bytes onto a canvas of that size. */
function put(target, rgba) {
  target.getContext("2d").putImageData(new ImageData(rgba, target.width, target.height), 0, 0);
}

// ---- masks: the same results as render.py ------------------------------------------------------------------------

function strong(pattern, x, y) {
  switch (pattern) {
    case 1: return (y & 3) < 2;
    case 2: return (x & 3) < 2;
    case 3: return ((x + y) & 3) < 2;
    case 4: return ((x - y) & 3) < 2;
    case 5: return (((x >> 1) + (y >> 1)) & 1) === 0;
    default: return true;
  }
}

function onOutline(mask, i, x, y, width, height) {
  const v = mask[i];
  return (x > 0 && mask[i - 1] !== v) || (x < width - 1 && mask[i + 1] !== v)
    || (y > 0 && mask[i - width] !== v) || (y < height - 1 && mask[i + width] !== v);
}

/** Where in the probabilities, which are sent for every second pixel, pixel (x, y) of a class is. */
const half = (sample, value, x, y) => {
  const columns = (sample.width + 1) >> 1, rows = (sample.height + 1) >> 1;
  return (value * rows + (y >> 1)) * columns + (x >> 1);
};

/** Whether the threshold counts: the probabilities are those of the prediction. */
const thresholds = s => s.threshold !== null && s.scored === "prediction";

/** The chosen class where the scored mask, or the thresholded probability, says it; IGNORE elsewhere. */
function answer(sample, s) {
  const { width, height, probabilities } = sample, mask = sample[s.scored], chosen = s.chosen;
  const values = new Uint8Array(width * height).fill(IGNORE);
  const byMask = !thresholds(s);
  if (byMask ? !mask : !probabilities) return values;
  for (let y = 0, i = 0; y < height; y++)
    for (let x = 0; x < width; x++, i++)
      if (byMask ? mask[i] === chosen : probabilities[half(sample, chosen, x, y)] >= s.threshold) values[i] = chosen;
  return values;
}

/** HIT, FALSE_ALARM, MISS or 0 for each pixel, for the chosen class. */
function errors(sample, s) {
  const { truth } = sample, found = answer(sample, s);
  if (!truth) return new Uint8Array(found.length);
  return found.map((value, i) => truth[i] === IGNORE ? 0
    : value === s.chosen ? (truth[i] === s.chosen ? HIT : FALSE_ALARM) : (truth[i] === s.chosen ? MISS : 0));
}

function scores(kinds) {
  const counts = [0, 0, 0, 0];
  for (const kind of kinds) counts[kind]++;
  const [, hit, alarm, miss] = counts;
  return { iou: hit / (hit + alarm + miss), precision: hit / (hit + alarm), recall: hit / (hit + miss) };
}

/** Lay a view over columns `from` to `to` of the picture; `out` holds RGBA. */
function layer(sample, view, s, look, out, from, to) {
  const { width, height, image } = sample, isErrors = view === "errors";
  const values = view === "picture" ? null : isErrors ? errors(sample, s) : view === "chosen" ? answer(sample, s) : sample[view];
  const shown = new Uint8Array(256), table = new Uint8Array(768);
  (isErrors ? ERROR_COLORS : look.colors).forEach((color, k) => {
    if (color) table.set(rgb(color), 3 * k);
    shown[k] = isErrors ? k > 0 : s.visible[k];
  });
  table.set(rgb(look.ignoreColor), 3 * IGNORE);
  shown[IGNORE] = view !== "drawing" && view !== "chosen" && s.visible[look.colors.length];
  const strength = Math.floor((s.opacity * 255 + 50) / 100), weak = strength >> 2;
  for (let y = 0; y < height; y++)
    for (let x = from; x < to; x++) {
      const i = y * width + x, v = values ? values[i] : 0;
      let share = values && shown[v] ? strength : 0;
      if (share && s.outline && !isErrors && !onOutline(values, i, x, y, width, height)) share = 0;
      if (share && s.patterns && !strong(isErrors ? v - 1 : v % 6, x, y)) share = weak;
      for (let c = 0; c < 3; c++)
        out[4 * i + c] = Math.floor((image[3 * i + c] * (255 - share) + table[3 * v + c] * share + 127) / 255);
      out[4 * i + 3] = 255;
    }
}

/** RGBA of a sample with what the settings lay over it. */
function paint(sample, s, look, out = new Uint8ClampedArray(4 * sample.width * sample.height)) {
  const columns = s.right === null ? sample.width : Math.floor((sample.width * s.split + 50) / 100);
  layer(sample, s.left, s, look, out, 0, columns);
  if (s.right !== null) layer(sample, s.right, s, look, out, columns, sample.width);
  return out;
}

/** How many pixels have each value; null of no mask. */
function histogram(mask) {
  const counts = mask && new Uint32Array(256);
  if (mask) for (const value of mask) counts[value]++;
  return counts;
}

/** Pixels by true class (rows) and answer (256 columns); ignored pixels are left out. */
function confusion(truth, answer, known) {
  const counts = new Uint32Array(known * 256);
  for (let i = 0; i < truth.length; i++) if (truth[i] !== IGNORE) counts[truth[i] * 256 + answer[i]]++;
  return counts;
}

/** What a confusion says of a class: pixels in truth, in the answer and in both, and the IoU. */
function ofClass(counts, k, known) {
  let truth = 0, answer = 0;
  for (let j = 0; j < 256; j++) truth += counts[k * 256 + j];
  for (let j = 0; j < known; j++) answer += counts[j * 256 + k];
  const both = counts[k * 257];
  return { truth, answer, both, iou: both / (truth + answer - both) };
}

/** The mean IoU over the classes that are in truth or answer. */
function meanIou(counts, known) {
  const all = [...Array(known).keys()].map(k => ofClass(counts, k, known).iou).filter(Number.isFinite);
  return all.reduce((sum, one) => sum + one, 0) / all.length;
}

// ---- charts ------------------------------------------------------------------------------------------------------

const LINE_COLORS = ["#0072b2", "#d55e00", "#009e73", "#8c00ff", "#cc79a7"];  // seen on light and on dark
const LINE_DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]];
const MARKS = "●▲■◆✚✖";  // as `mark` draws them

/** Call `redraw` when the element gets a size (first shown), and when the theme changes; gives the function that ends it. */
function themed(element, redraw) {
  const sized = new ResizeObserver(redraw), jupyter = new MutationObserver(redraw);
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  sized.observe(element);
  jupyter.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-name", "data-jp-theme-light"] });
  system.addEventListener("change", redraw);
  return () => { sized.disconnect(); jupyter.disconnect(); system.removeEventListener("change", redraw); };
}

/** Round numbers from low to high, about `count` of them, and the digits that they need. */
function ticks(low, high, count = 5) {
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find(k => k * power >= 0.7 * rough);
  const first = Math.ceil(low / step - 1e-9), last = Math.floor(high / step + 1e-9);
  const values = Array.from({ length: last - first + 1 }, (_, k) => (first + k) * step);
  return { values, digits: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
}

/** The least and the greatest number, with a margin. */
function span(values, margin = 0.05) {
  const known = values.filter(Number.isFinite), low = Math.min(...known), high = Math.max(...known);
  const room = margin * (high - low || Math.abs(low) || 1);
  return [low - room, high + room];
}

/** A canvas for lines and marks. `axes` clears it, draws the axes of two spans [low, high], and says where numbers lie. */
function chart(width, height, attributes = {}) {
  const sharp = 2, style = `width:${width}px;max-width:100%;height:auto;image-rendering:auto`;
  const element = h("canvas", { class: "mtl-chart", width: sharp * width, height: sharp * height, style, ...attributes });
  const pen = element.getContext("2d"), left = 56, right = width - 12, top = 14, bottom = height - 42;
  function axes({ x, y, xName, yName, xTicks = ticks(...x, 6), yTicks = ticks(...y) }) {
    const text = getComputedStyle(element).color || "#111";
    const share = (v, [low, high]) => (v - low) / (high - low);
    const at = { x: v => left + share(v, x) * (right - left), y: v => bottom - share(v, y) * (bottom - top) };
    pen.setTransform(sharp, 0, 0, sharp, 0, 0);
    pen.clearRect(0, 0, width, height);
    const even = { textBaseline: "middle", textAlign: "center", font: "12px system-ui, sans-serif" };
    Object.assign(pen, { fillStyle: text, strokeStyle: text, lineWidth: 1, ...even });
    pen.setLineDash([]);
    const rule = (v, ...ends) => {
      pen.globalAlpha = v === 0 ? 0.6 : 0.18;
      pen.beginPath(); pen.moveTo(...ends[0]); pen.lineTo(...ends[1]); pen.stroke();
      pen.globalAlpha = 1;
    };
    for (const v of xTicks.values) {
      rule(v, [at.x(v), top], [at.x(v), bottom]);
      pen.fillText(number(v, xTicks.digits), at.x(v), bottom + 12);
    }
    pen.fillText(xName, (left + right) / 2, height - 9);
    pen.textAlign = "right";
    for (const v of yTicks.values) {
      rule(v, [left, at.y(v)], [right, at.y(v)]);
      pen.fillText(number(v, yTicks.digits), left - 5, at.y(v));
    }
    pen.textAlign = "center";
    pen.save(); pen.translate(11, (top + bottom) / 2); pen.rotate(-Math.PI / 2); pen.fillText(yName, 0, 0); pen.restore();
    pen.strokeRect(left, top, right - left, bottom - top);
    return { ...at, text, left, right, top, bottom };
  }
  /** Where the mouse is, in the pixels of `axes`. */
  const mouse = event => {
    const box = element.getBoundingClientRect();
    return { x: (event.clientX - box.left) / box.width * width, y: (event.clientY - box.top) / box.height * height };
  };
  return { element, pen, axes, mouse };
}

/** Fill the mark number `kind` of MARKS around (x, y). */
function mark(pen, kind, x, y, r) {
  const corners = [[], [[0, -1.2], [1.1, 0.8], [-1.1, 0.8]], [[-0.9, -0.9], [0.9, -0.9], [0.9, 0.9], [-0.9, 0.9]],
    [[0, -1.3], [1.3, 0], [0, 1.3], [-1.3, 0]]][kind % 6];
  pen.beginPath();
  if (kind % 6 === 0) pen.arc(x, y, r, 0, 2 * Math.PI);
  else if (corners) { corners.forEach(([a, b]) => pen.lineTo(x + a * r, y + b * r)); pen.closePath(); }
  else {  // two bars, crossed
    pen.save(); pen.translate(x, y); pen.rotate(kind % 6 === 5 ? Math.PI / 4 : 0);
    pen.rect(-1.2 * r, -0.35 * r, 2.4 * r, 0.7 * r); pen.rect(-0.35 * r, -1.2 * r, 0.7 * r, 2.4 * r); pen.restore();
  }
  pen.fill();
}

/** A line through places [x, y] of the canvas. */
function line(pen, places) {
  pen.beginPath();
  for (const [x, y] of places) pen.lineTo(x, y);
  pen.stroke();
}
