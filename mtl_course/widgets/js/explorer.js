// MaskExplorer: pictures with their masks, to compare, question and edit.

const NAMES = { picture: "picture alone", truth: "truth", drawing: "my drawing", chosen: "the class alone", errors: "errors of the class" };

/** A sample as typed arrays, those that it has; `drawing` is ours to change. */
function unpack({ name, width, height, parts }, saved) {
  const sample = { name, width, height, image: null, truth: null, prediction: null, second: null, probabilities: null };
  for (const [part, content] of Object.entries(parts)) sample[part] = bytes(content);
  sample.drawing = new Uint8Array(width * height).fill(IGNORE);
  if (saved) sample.drawing.set(bytes(saved));
  return sample;
}

/** What has come for a model beside its traits, by number of the sample: several views of one model share it. */
const received = model => arrived.get(model) ?? arrived.set(model, {}).get(model);
const arrived = new WeakMap();

function render({ model, el }) {
  const data = model.get("data"), look = data.look, known = look.classes.length;
  const saved = model.get("drawings") ?? {};
  const samples = data.samples.map((one, k) => ({ ...unpack(one, saved[k]), ...received(model)[k] }));
  const bound = bind(model, draw);
  const { get, set } = bound;
  const has = name => samples.some(sample => sample[name]);
  const answers = ["prediction", "second"].filter(has);
  const titles = { ...NAMES, prediction: data.names[0], second: data.names[1] };
  const views = ["picture", ...["truth", ...answers].filter(has), "drawing",
    ...(has("probabilities") ? ["chosen"] : []), ...(has("truth") ? ["errors"] : [])];
  const scored = has("truth") ? [...answers, "drawing"] : [];
  const cursor = { x: 0, y: 0 };
  const view = { zoom: 1, left: 0, top: 0 };  // of this view alone
  let sample = samples[get().sample], out = null, dragged = null;

  // ---- the stage: canvas, divider and cursor, zoomed and moved together ----
  const picture = h("canvas", { class: "mtl-canvas", tabindex: 0, role: "application", onkeydown: press });
  const divider = h("div", { class: "mtl-divider", "aria-hidden": "true" });
  const mark = h("div", { class: "mtl-cursor", "aria-hidden": "true" });
  const stage = h("div", { class: "mtl-stage" }, picture, divider, mark);
  const window_ = h("div", { class: "mtl-window" }, stage);
  const said = h("output", { class: "mtl-said", "aria-live": "polite" });
  const result = h("output", { class: "mtl-result", "aria-live": "polite" });

  const pixelAt = event => {
    const box = picture.getBoundingClientRect();
    const inside = (share, size) => Math.min(size - 1, Math.max(0, Math.floor(share * size)));
    return { x: inside((event.clientX - box.left) / box.width, sample.width),
             y: inside((event.clientY - box.top) / box.height, sample.height) };
  };
  stage.addEventListener("pointerdown", event => {
    if (event.button || dragged) return;  // the first finger, the first button
    stage.setPointerCapture(event.pointerId);
    const tool = event.target === divider ? "divider" : get().tool;
    dragged = { tool, pointer: event.pointerId, picture: get().sample, ...pixelAt(event), clientX: event.clientX, clientY: event.clientY, start: { ...view } };
    if (tool === "brush" || tool === "eraser") stroke(dragged, dragged);
  });
  stage.addEventListener("pointermove", event => {
    const at = pixelAt(event);
    if (dragged && dragged.pointer !== event.pointerId) return;
    if (!dragged || dragged.picture !== get().sample) return moveTo(at);
    if (dragged.tool === "divider") return set({ split: Math.round(100 * at.x / Math.max(1, sample.width - 1)) });
    if (dragged.tool === "look") return place({ ...view, left: dragged.start.left + event.clientX - dragged.clientX,
                                                top: dragged.start.top + event.clientY - dragged.clientY });
    stroke(dragged, at);
    Object.assign(dragged, at);
    moveTo(at);
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, event => {
    if (dragged?.pointer !== event.pointerId) return;
    if (dragged?.tool === "brush" || dragged?.tool === "eraser") keepDrawing(dragged.picture);
    dragged = null;
  });
  window_.addEventListener("wheel", event => {
    if (!event.ctrlKey) return;  // without Ctrl the page scrolls
    event.preventDefault();
    zoomBy(event.deltaY < 0 ? 1.25 : 0.8);
  }, { passive: false });

  function press(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;  // the browser's own
    const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const by = event.shiftKey ? 10 : 1;
    if (steps) moveTo({ x: cursor.x + by * steps[0], y: cursor.y + by * steps[1] }, true);
    else if (event.key === " ") { if (get().tool !== "look") { stroke(cursor, cursor); keepDrawing(); } }
    else if (event.key === "+" || event.key === "=") zoomBy(2);
    else if (event.key === "-") zoomBy(0.5);
    else if (event.key === "0") place({ zoom: 1, left: 0, top: 0 });
    else if (event.key === "[" || event.key === "]") step(event.key === "]" ? 1 : -1);
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  // ---- zoom, cursor and what is under it ----
  function place({ zoom, left, top }) {
    const width = window_.clientWidth, height = window_.clientHeight;
    view.zoom = Math.min(32, Math.max(1, zoom));
    view.left = Math.min(0, Math.max(width - width * view.zoom, left));
    view.top = Math.min(0, Math.max(height - height * view.zoom, top));
    stage.style.setProperty("--mtl-zoom", view.zoom);  // divider and cursor stay thin
    stage.style.transform = `translate(${view.left}px, ${view.top}px) scale(${view.zoom})`;
  }

  function zoomBy(factor) {  // the cursor's pixel stays where it is
    const zoom = Math.min(32, Math.max(1, view.zoom * factor)), by = zoom / view.zoom;
    const x = (cursor.x + 0.5) / sample.width * window_.clientWidth * view.zoom + view.left;
    const y = (cursor.y + 0.5) / sample.height * window_.clientHeight * view.zoom + view.top;
    place({ zoom, left: x - (x - view.left) * by, top: y - (y - view.top) * by });
  }

  function moveTo({ x, y }, follow = false) {
    cursor.x = Math.min(sample.width - 1, Math.max(0, x));
    cursor.y = Math.min(sample.height - 1, Math.max(0, y));
    const share = { left: cursor.x / sample.width, top: cursor.y / sample.height,
                    width: 1 / sample.width, height: 1 / sample.height };
    for (const [name, value] of Object.entries(share)) mark.style[name] = `${100 * value}%`;
    if (follow) {  // scroll so far that the cursor is seen
      const [w, tall] = [window_.clientWidth, window_.clientHeight];
      const px = share.left * w * view.zoom, py = share.top * tall * view.zoom;
      place({ zoom: view.zoom, left: Math.min(-px + w - share.width * w * view.zoom, Math.max(-px, view.left)),
              top: Math.min(-py + tall - share.height * tall * view.zoom, Math.max(-py, view.top)) });
    }
    tell();
  }

  function tell() {
    if (!sample.image) return;
    const i = cursor.y * sample.width + cursor.x;
    const name = value => value === IGNORE ? "ignored" : look.classes[value];
    const parts = [`row ${cursor.y}, column ${cursor.x}`];
    for (const one of ["truth", ...answers]) if (sample[one]) parts.push(`${titles[one]} ${name(sample[one][i])}`);
    if (sample.drawing[i] !== IGNORE) parts.push(`drawn ${name(sample.drawing[i])}`);
    if (sample.probabilities) {
      const p = k => sample.probabilities[half(sample, k, cursor.x, cursor.y)] / 255;
      const best = [...look.classes.keys()].reduce((a, k) => p(k) > p(a) ? k : a, 0);
      parts.push([...new Set([best, get().chosen])].map(k => `P(${name(k)}) ${p(k).toFixed(2)}`).join(", "));
    }
    said.textContent = parts.join("; ");
  }

  // ---- drawing ----
  function stroke(from, to) {
    const { width, height, drawing } = sample, { tool, brush, chosen } = get();
    const steps = Math.max(1, Math.abs(to.x - from.x), Math.abs(to.y - from.y)), reach = Math.floor(brush / 2);
    for (let n = 0; n <= steps; n++) {
      const cx = Math.round(from.x + (to.x - from.x) * n / steps), cy = Math.round(from.y + (to.y - from.y) * n / steps);
      for (let y = Math.max(0, cy - reach); y <= Math.min(height - 1, cy + reach); y++)
        for (let x = Math.max(0, cx - reach); x <= Math.min(width - 1, cx + reach); x++)
          if (4 * ((x - cx) ** 2 + (y - cy) ** 2) <= brush * brush)
            drawing[y * width + x] = tool === "eraser" ? IGNORE : chosen;
    }
    draw(get());
  }

  function keepDrawing(k = get().sample) {
    const mask = samples[k].drawing.slice();
    model.set("drawings", { ...(model.get("drawings") ?? {}), [k]: new DataView(mask.buffer) });
    bound.save();
  }

  // ---- thumbnails ----
  const counted = {};  // confusions, by answer
  const counts = (k, answer) => {
    const one = samples[k];
    if (answer === "drawing") return confusion(one.truth, one.drawing, known);
    counted[answer] ??= [];
    return counted[answer][k] ??= confusion(one.truth, one[answer], known);
  };
  const judged = s => s.scored === "drawing" ? answers[0] : s.scored;  // the thumbnails judge a model
  const canJudge = (k, s) => Boolean(samples[k].truth && judged(s) && samples[k][judged(s)]);

  function order(s) {
    let kept = [...samples.keys()];
    const both = s.true !== null && s.predicted !== null;
    if (s.true !== null || s.predicted !== null) kept = kept.filter(k => {
      if (!canJudge(k, s)) return false;
      const all = counts(k, judged(s));
      if (both) return all[s.true * 256 + s.predicted] > 0;
      const one = s.true ?? s.predicted, found = ofClass(all, one, known);
      return (s.true !== null ? found.truth : found.answer) > 0;
    });
    const value = {
      "worst mIoU": k => meanIou(counts(k, judged(s)), known),
      "worst IoU of the class": k => ofClass(counts(k, judged(s)), s.chosen, known).iou,
      "most of the class": k => -ofClass(counts(k, judged(s)), s.chosen, known).truth,
    }[s.order];
    marks.forEach(one => { one.textContent = ""; });
    if (!value) return kept;
    const values = new Map(kept.map(k => [k, canJudge(k, s) ? value(k) : NaN]));
    kept.forEach(k => { marks[k].textContent = Number.isNaN(values.get(k)) ? "–" : number(Math.abs(values.get(k)), 2); });
    const last = k => Number.isNaN(values.get(k)) ? Infinity : values.get(k);
    return kept.sort((a, b) => last(a) - last(b) || a - b);
  }

  const list = h("div", { class: "mtl-list", role: "listbox", tabindex: 0, "aria-label": "samples", onkeydown: event => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    const end = { Home: -Infinity, End: Infinity }[event.key];
    if (!by && !end) return;
    event.preventDefault();
    step(by ?? end);
  } });
  const id = `mtl-list-${++named}-${Math.random().toString(36).slice(2)}`;
  const marks = samples.map(() => h("small", {}));  // what the order goes by
  const thumbnails = samples.map((one, k) => {
    const scale = Math.max(one.width, one.height) / 48;
    const small = h("canvas", { width: Math.ceil(one.width / scale), height: Math.ceil(one.height / scale), "aria-hidden": "true" });
    return h("div", { role: "option", id: `${id}-${k}`, class: "mtl-thumb", onclick: () => set({ sample: k }) },
      small, h("span", {}, one.name), marks[k]);
  });
  function showSmall(one, k) {
    const small = thumbnails[k].firstChild, scale = Math.max(one.width, one.height) / 48;
    const rgba = new Uint8ClampedArray(4 * small.width * small.height).fill(255);
    for (let y = 0, i = 0; y < small.height; y++)
      for (let x = 0; x < small.width; x++, i++) {
        const from = 3 * (Math.min(one.height - 1, Math.floor(y * scale)) * one.width + Math.min(one.width - 1, Math.floor(x * scale)));
        rgba.set(one.image.subarray(from, from + 3), 4 * i);
      }
    put(small, rgba);
  }
  samples.forEach((one, k) => { if (one.image) showSmall(one, k); });
  const overall = h("output", { class: "mtl-said" });
  let arranged = null, seen = null, shownOrder = [];

  function step(by) {
    const at = shownOrder.indexOf(get().sample);
    const next = shownOrder[Math.min(shownOrder.length - 1, Math.max(0, at + by))];
    if (next !== undefined) set({ sample: next });
  }

  /** The chosen class over all pictures shown: IoU of the summed pixels, and the mean of the pictures' own IoU. */
  function sumUp(s) {
    const kept = shownOrder.filter(k => canJudge(k, s));
    if (!kept.length) return "";
    const every = kept.map(k => ofClass(counts(k, judged(s)), s.chosen, known));
    const sum = name => every.reduce((total, one) => total + one[name], 0), own = every.map(one => one.iou).filter(Number.isFinite);
    const all = sum("both") / (sum("truth") + sum("answer") - sum("both"));
    return `${look.classes[s.chosen]} in ${kept.length === 1 ? "this picture" : `these ${kept.length} pictures`}, ${titles[judged(s)]}: IoU of all pixels ${number(all)}, `
      + `mean of the pictures ${number(own.reduce((a, b) => a + b, 0) / own.length)}`;
  }

  function arrange(s) {
    const key = JSON.stringify([s.order, s.chosen, s.true, s.predicted, judged(s)]);
    const moved = s.sample !== seen, sorted = arranged !== null && key !== arranged;
    seen = s.sample;
    if (key !== arranged) {
      arranged = key;
      shownOrder = order(s);
      list.replaceChildren(...shownOrder.map(k => thumbnails[k]));
      if (!shownOrder.length) list.append("no picture has this confusion");
      overall.textContent = sumUp(s);
    }
    thumbnails.forEach((one, k) => one.setAttribute("aria-selected", String(k === s.sample)));
    if (shownOrder.includes(s.sample)) list.setAttribute("aria-activedescendant", `${id}-${s.sample}`);
    else list.removeAttribute("aria-activedescendant");
    const chosen = thumbnails[s.sample];
    if (sorted) list.scrollLeft = 0;
    else if (moved && chosen.parentNode) list.scrollLeft = chosen.offsetLeft - list.offsetLeft - list.clientWidth / 2 + 30;
  }

  // ---- legend ----
  const rows = [...look.classes, "ignored"].map((name, k) => {
    const shown = h("input", { type: "checkbox", "aria-label": `show ${name}`, onchange: () => {
      set({ visible: get().visible.map((was, j) => j === k ? shown.checked : was) });
    } });
    const chosen = h("input", { type: "radio", name: `${id}-chosen`, "aria-label": `choose ${name}`, onchange: () => set({ chosen: k }) });
    bound.on(s => { shown.checked = s.visible[k]; chosen.checked = s.chosen === k; });
    const color = swatch(look.colors[k] ?? look.ignoreColor);
    const cells = [0, 1, 2].map(() => h("td", { class: "mtl-number" }));
    const row = h("tr", {}, h("td", {}, shown), h("td", {}, ...(k < known ? [chosen] : [])),
      h("th", { scope: "row" }, color, name), ...cells);
    return { row, cells };
  });
  const column = h("span", {}, "answer"), heads = ["show", "class", "name", "truth", column, "IoU"];
  const legend = h("table", { class: "mtl-legend" }, h("caption", {}, "Classes: share of pixels, IoU in this picture"),
    h("thead", {}, h("tr", {}, ...heads.map(text => h("th", { scope: "col" }, text)))),
    h("tbody", {}, ...rows.map(one => one.row)));
  let filled = null;

  function fillLegend(s) {
    column.textContent = titles[s.scored];
    const key = `${s.sample} ${s.scored}`;
    if (key === filled && s.scored !== "drawing") return;
    filled = key;
    const mask = sample[s.scored], size = sample.width * sample.height;
    const shares = values => { const n = histogram(values); return k => n ? n[k] / size : NaN; };
    const inTruth = shares(sample.truth), inAnswer = shares(mask);
    const all = sample.truth && mask ? counts(s.sample, s.scored) : null;
    rows.forEach(({ cells }, k) => {
      const value = k < known ? k : IGNORE;
      cells[0].textContent = percent(inTruth(value));
      cells[1].textContent = k < known ? percent(inAnswer(value)) : "–";
      cells[2].textContent = k < known && all ? number(ofClass(all, k, known).iou, 2) : "–";
    });
  }

  // ---- the whole ----
  function draw(s) {
    if (samples[s.sample] !== sample || !out) {
      sample = samples[s.sample];
      Object.assign(picture, { width: sample.width, height: sample.height });
      const scale = Math.min(416 / sample.width, 416 / sample.height);
      const fit = scale >= 1 ? Math.floor(scale) : scale;
      window_.style.width = `${sample.width * fit}px`;
      window_.style.aspectRatio = `${sample.width} / ${sample.height}`;
      out = new Uint8ClampedArray(4 * sample.width * sample.height);
      place({ zoom: 1, left: 0, top: 0 });
      moveTo(cursor);
    }
    if (!sample.image) {  // it will come
      put(picture, out.fill(0));
      said.textContent = "this picture is on its way from the kernel";
      return arrange(s);
    }
    put(picture, paint(sample, s, look, out));
    const shows = s.right === null ? titles[s.left] : `left ${titles[s.left]}, right ${titles[s.right]}`;
    picture.setAttribute("aria-label", `${sample.name}: ${shows}. Arrow keys move the cursor, + and − zoom, [ and ] change the picture, space draws.`);
    divider.style.display = s.right === null ? "none" : "block";
    divider.style.left = `${100 * Math.floor((sample.width * s.split + 50) / 100) / sample.width}%`;
    stage.style.touchAction = view.zoom === 1 && s.tool === "look" ? "pan-y" : "none";
    arrange(s);
    fillLegend(s);
    tell();
    judge(s);
  }

  function judge(s) {
    const who = !thresholds(s) ? titles[s.scored] : `P ≥ ${(s.threshold / 255).toFixed(2)}, at half the resolution`;
    if (!sample.truth) {
      const share = answer(sample, s).reduce((n, v) => n + (v === s.chosen), 0) / (sample.width * sample.height);
      const told = sample.probabilities ? `${look.classes[s.chosen]}, ${who}: ${percent(share)} of the pixels; ` : "";
      result.textContent = `${told}no truth is known for this picture`;
      return;
    }
    const found = scores(errors(sample, s));
    const text = `${look.classes[s.chosen]}, ${who}: IoU ${number(found.iou)}, precision ${number(found.precision)}, recall ${number(found.recall)}`;
    const model_ = s.scored === "drawing" && answers.length && sample[answers[0]]
      ? `; ${titles[answers[0]]}: IoU ${number(ofClass(counts(s.sample, answers[0]), s.chosen, known).iou)}` : "";
    result.textContent = text + model_;
  }

  const threshold = has("probabilities") ? [bound.slider("threshold", "threshold on P(class)", {
    min: 0, max: 256, read: s => s.threshold === null ? 0 : s.threshold, write: v => ({ threshold: v || null }),
    format: (v, s) => s.threshold === null ? "off" : v > 255 ? "never" : (v / 255).toFixed(2),
  })] : [];
  const save = button("save as PNG", () => picture.toBlob(blob => {
    const link = h("a", { href: URL.createObjectURL(blob), download: `${sample.name.replace(/\.(png|jpe?g)$/i, "").replace(/[^\p{L}\p{N}._-]+/gu, "_")}.png` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }));
  const clear = button("clear drawing", () => { sample.drawing.fill(IGNORE); keepDrawing(); });
  const classes = look.classes.map((name, k) => [k, name]);
  const controls = [
    bound.choice("left", "show", views.map(name => [name, titles[name]])),
    bound.choice("right", "right of the divider", [[null, "the same"], ...views.map(name => [name, titles[name]])]),
    bound.slider("split", "divider", { min: 0, max: 100, format: v => `${v} %` }),
    bound.slider("opacity", "opacity", { min: 0, max: 100, format: v => `${v} %` }),
    bound.toggle("outline", "outlines only"),
    bound.toggle("patterns", "patterns"),
    ...threshold,
    ...(scored.length ? [bound.choice("scored", "score", scored.map(name => [name, titles[name]]))] : []),
    bound.choice("tool", "tool", [["look", "look and move"], ["brush", "brush"], ["eraser", "eraser"]]),
    bound.slider("brush", "width of the brush", { min: 1, max: 41, step: 2, format: v => `${v} px` }),
  ];
  const buttons = h("div", { class: "mtl-buttons" }, button("zoom in", () => zoomBy(2)), button("zoom out", () => zoomBy(0.5)),
    button("whole picture", () => place({ zoom: 1, left: 0, top: 0 })), clear, save);
  const browse = samples.length > 1 ? [h("div", { class: "mtl-row" },
    ...(scored.length > 1 ? [
      bound.choice("order", "order", ["given", "worst mIoU", "worst IoU of the class", "most of the class"].map(name => [name, name])),
      bound.choice("true", "only where truth is", [[null, "any"], ...classes]),
      bound.choice("predicted", "and the answer is", [[null, "any"], ...classes]),
    ] : [])), list, overall] : [];
  el.append(h("div", { class: "mtl-viewer", role: "group", "aria-label": data.title },
    ...browse,
    h("div", { class: "mtl-columns" },
      h("div", {}, window_, said, result, buttons, ...(has("truth") ? [errorKey()] : [])),
      h("div", { class: "mtl-controls" }, ...controls, legend))));

  const stop = bound.start();

  // ---- pictures that did not come with the viewer: asked for one by one, the one to be shown first ----
  const ask = () => {
    const next = samples[get().sample].image ? samples.findIndex(one => !one.image) : get().sample;
    if (next >= 0) try { model.send({ sample: next }); } catch { /* no kernel any more */ }
  };
  const receive = ({ sample: k, parts }, buffers) => {
    const come = received(model)[k] ??= Object.fromEntries(parts.map((name, n) => [name, bytes(buffers[n])]));
    if (!samples[k].image) {
      Object.assign(samples[k], come);
      showSmall(samples[k], k);
      if (samples.every(one => one.image)) arranged = null;  // now all can be judged
      draw(get());
    }
    ask();
  };
  model.on("msg:custom", receive);
  ask();
  const reload = () => {
    if (dragged) return;  // the stroke goes first
    const now = model.get("drawings") ?? {};
    samples.forEach((one, k) => { if (now[k]) one.drawing.set(bytes(now[k])); else one.drawing.fill(IGNORE); });
    draw(get());
  };
  model.on("change:drawings", reload);
  return () => { stop(); model.off("change:drawings", reload); model.off("msg:custom", receive); };
}

export default { render };
