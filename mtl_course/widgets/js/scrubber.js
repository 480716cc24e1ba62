// EpochScrubber: the mask that a model predicts, epoch by epoch, and the curves of its scores.

const SECONDS = 0.6;  // an epoch, while it plays; it never starts to play by itself

function render({ model, el }) {
  const data = model.get("data"), { look, epochs } = data, last = epochs.length - 1;
  const samples = data.samples.map(one => {
    const size = one.width * one.height, all = bytes(one.parts.predictions);
    const sample = { ...one, image: bytes(one.parts.image), truth: bytes(one.parts.truth) };
    return epochs.map((_, k) => ({ ...sample, prediction: all.subarray(k * size, (k + 1) * size) }));
  });
  const bound = bind(model, draw), { get, set } = bound;
  const counted = {};  // the IoU of a class in a picture, at every epoch
  const ious = s => counted[`${s.sample} ${s.chosen}`] ??= samples[s.sample].map(one => scores(errors(one, s)).iou);

  // ---- the picture and the curves ----
  const holder = h("div", {}), said = h("output", { class: "mtl-result" });
  let picture = null;
  const plot = chart(420, 250, { role: "img", onclick: event => {
    const { x } = plot.mouse(event), far = k => Math.abs(place.x(epochs[k]) - x);
    stop();
    set({ epoch: [...epochs.keys()].reduce((a, b) => far(b) < far(a) ? b : a) });
  } });
  const { pen, element } = plot;
  let place = null;

  function curves(s) {
    const lines = [...Object.entries(data.scores), [`IoU of ${look.classes[s.chosen]}, this picture`, ious(s)]];
    const values = lines.flatMap(([, one]) => one).filter(Number.isFinite);
    const y = values.length ? span(values) : [0, 1];
    place = plot.axes({ x: span(epochs), y, xName: "epoch", yName: "score" });
    line(pen, [[place.x(epochs[s.epoch]), place.top], [place.x(epochs[s.epoch]), place.bottom]]);
    lines.forEach(([, one], k) => {
      const known = [...epochs.keys()].filter(e => Number.isFinite(one[e])).map(e => [place.x(epochs[e]), place.y(one[e]), e]);
      Object.assign(pen, { strokeStyle: LINE_COLORS[k % 5], fillStyle: LINE_COLORS[k % 5], lineWidth: 2 });
      pen.setLineDash(LINE_DASHES[k % 4]);
      line(pen, known);
      pen.setLineDash([]);
      for (const [x, y, e] of known) mark(pen, k, x, y, e === s.epoch ? 7 : 3);
    });
    key.replaceChildren(...lines.map(([name], k) => h("div", {},
      swatch(LINE_COLORS[k % 5]), `${MARKS[k % 6]} ${name}`)));
    return lines;
  }

  function draw(s) {
    const one = samples[s.sample][s.epoch];
    if (picture?.width !== one.width || picture?.height !== one.height) {
      picture = canvas(one.width, one.height, 320, { role: "img", class: "mtl-picture" });
      holder.replaceChildren(picture);
    }
    put(picture, paint(one, s, look));
    picture.setAttribute("aria-label", `${one.name}: ${titles[s.left]}, epoch ${epochs[s.epoch]}`);
    const told = curves(s).map(([name, values]) => `${name} ${number(values[s.epoch])}`).join("; ");
    said.textContent = `epoch ${epochs[s.epoch]}: ${told}`;
    element.setAttribute("aria-label", `Scores against the epoch. ${said.textContent}`);
  }

  // ---- play ----
  let timer = null;
  const play = button("play", () => timer === null ? start() : stop());
  const tell = () => {
    play.textContent = timer === null ? "play" : "pause";
    said.setAttribute("aria-live", timer === null ? "polite" : "off");  // nobody can listen as fast
  };
  function stop() { clearInterval(timer); timer = null; tell(); }
  function start() {
    if (get().epoch === last) set({ epoch: 0 });
    timer = setInterval(() => {
      if (get().epoch < last) set({ epoch: get().epoch + 1 });
      if (get().epoch >= last || !el.isConnected) stop();
    }, 1000 * SECONDS);
    tell();
  }
  tell();

  // ---- controls ----
  const titles = { prediction: "prediction", errors: "errors of the class", truth: "truth", picture: "picture alone" };
  const classes = look.classes.map((name, k) => [k, name]);
  const key = h("div", { class: "mtl-key" });
  const wrong = errorKey();
  const names = h("p", { class: "mtl-key" }, ...look.classes.flatMap((name, k) =>
    [h("span", { style: "white-space:nowrap" }, swatch(look.colors[k]), name), " "]));
  bound.on(s => { wrong.hidden = s.left !== "errors"; names.hidden = s.left === "errors"; });
  const controls = [
    ...(samples.length > 1 ? [bound.choice("sample", "picture", samples.map((one, k) => [k, one[0].name]))] : []),
    bound.slider("epoch", "epoch", { min: 0, max: last, format: v => String(epochs[v]), write: v => { stop(); return { epoch: v }; } }),
    h("div", { class: "mtl-buttons" }, play),
    bound.choice("left", "show", Object.entries(titles)),
    bound.choice("chosen", "class", classes),
    bound.slider("opacity", "opacity", { min: 0, max: 100, format: v => `${v} %` }),
    bound.toggle("outline", "outlines only"),
    bound.toggle("patterns", "patterns"),
  ];
  el.append(h("div", { class: "mtl-viewer", role: "group", "aria-label": data.title }, h("div", { class: "mtl-columns" },
    h("div", { style: "max-width:330px" }, holder, names, wrong), h("div", { class: "mtl-controls" }, ...controls, element, key)), said));
  const end = bound.start(), still = themed(element, () => draw(get()));
  return () => { stop(); end(); still(); };
}

export default { render };
