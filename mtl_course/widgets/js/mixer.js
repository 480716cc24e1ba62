// AlphaMixer: f(x) = Σ αᵢ gᵢ(x), drawn anew while the sliders move.

const SCALE = ["#00224e", "#002f6d", "#213b6e", "#39486c", "#4c556c", "#5d616e", "#6c6e72", "#7d7c78",
  "#8e8978", "#9f9775", "#b1a570", "#c5b568", "#d9c55c", "#edd54a", "#fee838"];  // cividis in 15 steps
const MASK = ["#1a1a1a", "#e69f00", "#ffffff"].map(rgb);  // no, yes, ignored; as in mixer.py

/** f at each of `size` pixels. `outputs` holds the parts one after the other; α is one number a part, or one a pixel. */
function mixed(outputs, alpha, size) {
  const f = new Float64Array(size), everywhere = alpha.length < outputs.length;
  for (let i = 0, at = 0; at < outputs.length; i++)
    for (let p = 0; p < size; p++, at++) f[p] += (everywhere ? alpha[i] : alpha[at]) * outputs[at];
  return f;
}

/** αᵢ(x) = softmaxᵢ(sharpness · zᵢ(x) + bᵢ), for each part and pixel. */
function gated(gate, [sharpness, ...b], size) {
  const alpha = new Float64Array(gate.length);
  for (let p = 0; p < size; p++) {
    const scores = b.map((offset, i) => sharpness * gate[i * size + p] + offset);
    const top = Math.max(...scores), powers = scores.map(score => Math.exp(score - top));
    const sum = powers.reduce((all, one) => all + one, 0);
    powers.forEach((power, i) => { alpha[i * size + p] = power / sum; });
  }
  return alpha;
}

/** IoU of f > 0, ignored pixels left out. */
function iouOf(f, truth) {
  let both = 0, either = 0;
  for (let p = 0; p < f.length; p++) {
    if (truth[p] === IGNORE) continue;
    both += f[p] > 0 && truth[p] === 1;
    either += f[p] > 0 || truth[p] === 1;
  }
  return both / either;
}

const meanError = (f, truth) => f.reduce((sum, value, p) => sum + Math.abs(value - truth[p]), 0) / f.length;
const below = k => [...String(k + 1)].map(digit => "₀₁₂₃₄₅₆₇₈₉"[digit]).join("");

function render({ model, el }) {
  const data = model.get("data"), { pictures, height, width, labels, tasks } = data;
  const size = height * width, all = pictures * size;
  const outputs = floats(data.outputs), gate = data.gate && floats(data.gate);
  const truths = tasks.map(task => task.unit === null ? bytes(task.truth) : floats(task.truth));
  const steps = SCALE.map(rgb);
  const image = data.image.byteLength ? bytes(data.image) : null;
  const bound = bind(model, draw), { get, set } = bound;

  const ofRow = row => gate ? mixed(outputs, gated(gate, row, all), all) : mixed(outputs, row, all);
  const score = (t, f, truth) => tasks[t].unit === null ? number(iouOf(f, truth))
    : `${number(meanError(f, truth))} ${tasks[t].unit}`;
  const learned = data.learned && data.learned.map((row, t) => score(t, ofRow(row), truths[t]));

  // ---- maps ----
  const room = tasks.length > 1 || gate || image ? 128 : 192;
  const map = text => {
    const target = canvas(width, height, room, { role: "img", "aria-label": text });
    return { target, figure: h("figure", { class: "mtl-map" }, target, h("figcaption", {}, text)) };
  };
  function paintMap({ target }, color) {
    const rgba = new Uint8ClampedArray(4 * size).fill(255);
    for (let p = 0; p < size; p++) rgba.set(color(p), 4 * p);
    put(target, rgba);
  }
  const heat = (value, [low, high]) =>
    steps[Math.min(steps.length - 1, Math.max(0, Math.floor((value - low) / (high - low) * steps.length)))];
  /** The colours of a map in words of their two ends. */
  const key = ([low, high], unit) => h("p", { class: "mtl-key" }, `${number(low, 1)} `,
    h("span", { class: "mtl-scale", style: `background:linear-gradient(90deg,${SCALE.join(",")})` }),
    ` ${number(high, 1)}${unit ? ` ${unit}` : ""}`);

  // ---- sliders ----
  const names = gate ? ["sharpness", ...labels.map((label, i) => `b${below(i)} ${label}`)]
    : labels.map((label, i) => `α${below(i)} ${label}`);
  function slider(t, i) {
    const mark = data.learned?.[t][i];
    const limit = gate ? (i ? 6 : 3) : 1.5 * Math.max(1, Math.ceil(Math.abs(mark ?? 0)));
    const low = gate && i === 0 ? 0 : -limit;
    const row = bound.slider(`value-${t}-${i}`, names[i], {
      min: low, max: limit, step: limit / 30,
      read: s => s.values[t][i],
      write: v => ({ values: get().values.map((one, r) => r === t ? one.map((was, c) => c === i ? v : was) : one) }),
      format: (_, s) => number(s.values[t][i], 2) + (mark === undefined ? "" : ` (learned ${number(mark, 2)})`),
    });
    if (mark !== undefined) {  // the thumb's centre stays half a thumb inside the track
      const input = row.querySelector("input"), holder = h("span", { class: "mtl-marked" });
      input.replaceWith(holder);
      const share = (mark - low) / (limit - low);
      holder.append(input, h("span", { class: "mtl-mark", "aria-hidden": "true",
        style: `left:calc(8px + (100% - 16px) * ${share})` }, "▲"));
    }
    return row;
  }

  // ---- a row for each task: its maps, then its sliders ----
  const rows = tasks.map((task, t) => {
    const isMask = task.unit === null;
    const maps = { ...(image && t === 0 ? { x: map("picture x") } : {}), ...(gate ? { alpha: map(`α₁(x) ${labels[0]}`) } : {}),
                   f: map("f(x)"), ...(isMask ? { answer: map("answer f > 0") } : {}), truth: map("truth") };
    const result = h("output", { class: "mtl-result", "aria-live": "polite" });
    const row = h("fieldset", { class: "mtl-task" }, h("legend", {}, task.name),
      h("div", { class: "mtl-columns" },
        h("div", {}, h("div", { class: "mtl-row" }, ...Object.values(maps).map(one => one.figure)),
          key(task.range, task.unit), result),
        h("div", { class: "mtl-controls" }, ...names.map((_, i) => slider(t, i)))));
    return { maps, result, row, isMask };
  });

  function draw(s) {
    const from = s.picture * size, to = from + size;
    rows.forEach(({ maps, result, isMask }, t) => {
      const f = ofRow(s.values[t]), here = f.subarray(from, to), truth = truths[t].subarray(from, to);
      const mask = found => MASK[Math.min(2, Number(found))];
      if (maps.x) paintMap(maps.x, p => image.subarray(3 * (from + p), 3 * (from + p) + 3));
      if (maps.alpha) {
        const alpha = gated(gate, s.values[t], all);
        paintMap(maps.alpha, p => heat(alpha[from + p], [0, 1]));
      }
      paintMap(maps.f, p => heat(here[p], tasks[t].range));
      if (isMask) paintMap(maps.answer, p => mask(here[p] > 0));
      paintMap(maps.truth, p => isMask ? mask(truth[p]) : heat(truth[p], tasks[t].range));
      const told = pictures > 1 ? `${score(t, here, truth)} on this picture, ${score(t, f, truths[t])} on all ${pictures} sent`
        : `${score(t, f, truths[t])} on the picture`;
      result.textContent = `${isMask ? "IoU" : "mean error"} ${told}${learned ? `; learned α: ${learned[t]}` : ""}`;
    });
  }

  const choices = [...Array(pictures).keys()].map(k => [k, String(k + 1)]);
  const controls = h("div", { class: "mtl-row" },
    ...(pictures > 1 ? [bound.choice("picture", "picture", choices)] : []),
    ...(learned ? [button("learned α", () => set({ values: data.learned }))] : []),
    button("equal α", () => set({ values: data.equal })));
  const keyText = gate ? "α₁ from blue (0) to yellow (1)." : "Maps from blue (low) to yellow (high).";
  el.append(h("div", { class: "mtl-viewer", role: "group", "aria-label": data.title },
    controls, ...rows.map(one => one.row), h("p", { class: "mtl-key" }, keyText)));
  return bound.start();
}

export default { render };
