// GradientPlayground: task gradients in the plane, and what each rule makes of them.

// ---- ten rules for two gradients, from G = [[a, b], [b, c]]; a text says why a rule is not defined ----
// The same α as mtl_course.balancing (a test compares them); there each rule names its paper.
const SAME = 1e-13;  // gradients whose cosines differ by less count as one direction

const norms = (a, c) => [Math.sqrt(a), Math.sqrt(c)];
const cosine = (a, b, c) => a && c ? b / (Math.sqrt(a) * Math.sqrt(c)) : 0;
const zero = rule => `${rule} is not defined where the gradient of a task is zero: leave that task out`;
const surgery = (a, b, c) => [a && b < 0 ? 1 - b / a : 1, c && b < 0 ? 1 - b / c : 1];

function mgda(a, b, c) {
  if (!a || !c) return a || c ? [Number(!a), Number(!c)] : [0.5, 0.5];  // a zero gradient is the shortest
  const least = Math.min(a, c);
  if (cosine(a + least, b + least, c + least) > 1 - SAME) return [0.5, 0.5];  // one gradient twice
  const first = Math.min(1, Math.max(0, (c - b) / (a + c - 2 * b)));
  return [first, 1 - first];
}

function cagrad(a, b, c, share = 0.5) {  // α = ½ + x: x helps the shorter gradient, whose gᵢ·g₀ is the smaller
  const mean = Math.max((a + 2 * b + c) / 4, 0), radius = share * Math.sqrt(mean);
  const [short, long] = c < a ? [c, a] : [a, c];
  if (!short || !radius) return [0.5, 0.5];
  const length = Math.sqrt(short), reach = radius / length;
  const order = x => c < a ? [x[1], x[0]] : x;
  if (cosine(a, b, c) > 1 - SAME && Math.sqrt(long) - length <= SAME * length)
    return [0.5 + reach / 2, 0.5 + reach / 2];
  const met = b < short ? (long - short) / 2 / (short - b) : Infinity;  // there the other task becomes as bad
  if (met >= reach) return order([0.5 + reach, 0.5]);
  // Both alike: d = κ m, m the shortest point of the line through the tips, and |d - g₀| = radius.
  const apart = a + c - 2 * b, shortest = (a * c - b * b) / apart;
  const kappa = 1 + Math.sqrt(Math.max(0, 1 - (mean - radius ** 2) / shortest));
  return [kappa * (c - b) / apart, kappa * (a - b) / apart];
}

function imtlG(a, b, c) {
  if (!a || !c) return zero("imtl_g");
  if (1 - Math.abs(cosine(a, b, c)) < 1e-12)
    return "imtl_g is not defined where G is singular: some task gradients depend on the others";
  const [first, second] = norms(a, c);
  return [second / (first + second), first / (first + second)];
}

/** Gα = α^(-power). With βᵢ = αᵢ‖gᵢ‖ and β₂/β₁ = 1 + (1 + cos) y one equation in y is left; its left side falls. */
function fair(a, b, c, power, rule) {
  if (!a || !c) return zero(rule);
  const [first, second] = norms(a, c), cos = cosine(a, b, c), near = 1 + cos;
  if (near < 1e-13) return `${rule} has no solution here: the task gradients cancel, no step helps them all`;
  const left = y => Math.log(1 + cos * y) - Math.log(1 + y) + (1 - power) * Math.log(first / second) - power * Math.log(1 + near * y);
  let low = -Math.min(1, 1 / near), high = cos < 0 ? -1 / cos : 1;
  while (cos >= 0 && left(high) > 0) high *= 2;
  for (let round = 0; round < 200; round++) {
    const y = (low + high) / 2;
    if (left(y) > 0) low = y; else high = y;
  }
  const beta = (first ** (power - 1) / (near * (1 + cos * low))) ** (1 / (1 + power));
  return [beta / first, beta * (1 + near * low) / second];
}

function aligned(a, b, c) {  // √λ₁ V Λ^(-1/2) Vᵀ w, w = ½
  const half = (a + c) / 2, large = half + Math.hypot((a - c) / 2, b);
  if (!(large > 0)) return "aligned is not defined where every task gradient is zero";
  const small = Math.max(a, c) / large * Math.min(a, c) - b / large * b;
  const angle = Math.atan2(2 * b, a - c) / 2, x = Math.cos(angle), y = Math.sin(angle);  // of the large eigenvalue
  const along = (x + y) / 2, across = (x - y) / 2;
  if (!(small > 2 * Number.EPSILON * large)) return [along * x, along * y];
  const ratio = Math.sqrt(small / large);
  return [ratio * along * x - across * y, ratio * along * y + across * x];
}

const RULES = {
  equal: () => [1, 1],
  pcgrad: surgery,
  mgda,
  cagrad,
  imtl_g: imtlG,
  nash: (a, b, c) => fair(a, b, c, 1, "nash"),
  fairgrad: (a, b, c) => fair(a, b, c, 0.5, "fairgrad"),
  aligned,
  upgrad: (a, b, c) => surgery(a, b, c).map(one => one / 2),
  dual_projection: (a, b, c) => [a, c].map(own => own ? Math.max(0.5, -b / (2 * own)) : 0.5),
};

const dot = (g, k) => g[0] * k[0] + g[1] * k[1];

/** α of all ten rules for two gradients. */
function alphas([g, k]) {
  const G = [dot(g, g), dot(g, k), dot(k, k)];
  return Object.fromEntries(Object.entries(RULES).map(([name, rule]) => [name, rule(...G)]));
}

// ---- the picture: SVG, one unit = 80 pixels, y upwards ----
const ROOM = 3, UNIT = 80, COLORS = ["#0072b2", "#d55e00", "#009e73"], THIRD = [0.8, -0.6];
const SMALL = 1e-9;  // inner products below this share of the lengths are rounding

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

const below = k => "₁₂₃"[k];
const length = v => Math.hypot(v[0], v[1]);
const vector = v => `(${v.map(x => number(x, 2)).join(", ")})`;
const at = v => [ROOM + v[0], ROOM - v[1]].map(x => x * UNIT);

/** d, the gᵢ·d, and whom a step along -d harms. */
function step(gradients, alpha) {
  const d = [0, 1].map(x => gradients.reduce((sum, g, k) => sum + alpha[k] * g[x], 0));
  const along = gradients.map(g => dot(g, d));
  const parts = gradients.reduce((sum, g, k) => sum + Math.abs(alpha[k]) * length(g), 0);
  const harmed = along.flatMap((value, k) => value < -SMALL * parts * length(gradients[k]) ? [k] : []);
  return { d, along, harmed };
}

const blame = harmed => harmed.length ? `harms task ${harmed.map(k => k + 1).join(" and ")}` : "harms no task";

function render({ model, el }) {
  const data = model.get("data");
  const bound = bind(model, draw), { get, set } = bound;
  const WAIT = "Three gradients are answered by Python: this needs a running kernel.";

  /** α by rule; null until Python has answered. */
  function answer(gradients) {
    if (gradients.length === 2) return alphas(gradients);
    const key = JSON.stringify(gradients);
    return JSON.stringify(model.get("answers").gradients) === key ? model.get("answers").rules : null;
  }

  // ---- moving the tips ----
  const inside = x => Math.min(ROOM, Math.max(-ROOM, Math.round(x * 20) / 20));  // whole twentieths can be hit again
  const place = (k, tip) => set({ chosen: k, gradients: get().gradients.map((g, i) => i === k ? tip : g) });
  function move(by) {
    const { chosen, gradients } = get();
    place(chosen, gradients[chosen].map((x, i) => inside(x + by[i])));
  }
  function stretch(to) {
    const { chosen, gradients } = get(), g = gradients[chosen], now = length(g);
    const most = now && ROOM * now / Math.max(...g.map(Math.abs));  // the tip stays in the picture
    place(chosen, now ? g.map(x => x * Math.min(to, most) / now) : [to, 0]);
  }
  function press(event) {
    const by = event.shiftKey ? 0.5 : 0.05, count = get().gradients.length;
    const arrow = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, by], ArrowDown: [0, -by] }[event.key];
    if (arrow) move(arrow);
    else if (Number(event.key) >= 1 && Number(event.key) <= count) set({ chosen: Number(event.key) - 1 });
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  const side = 2 * ROOM * UNIT;
  const plane = svg("svg", { viewBox: `0 0 ${side} ${side}`, class: "mtl-plane", tabindex: 0, role: "application",
                             "data-lm-suppress-shortcuts": "true" });
  plane.addEventListener("keydown", press);
  const pointed = event => {
    const box = plane.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width * 2 * ROOM - ROOM, ROOM - (event.clientY - box.top) / box.height * 2 * ROOM];
  };
  let dragged = null;
  plane.addEventListener("pointerdown", event => {
    const here = pointed(event), far = get().gradients.map(g => length([g[0] - here[0], g[1] - here[1]]));
    const nearest = far.indexOf(Math.min(...far));
    if (far[nearest] > 0.4) return;
    plane.setPointerCapture(event.pointerId);
    dragged = nearest;
    set({ chosen: nearest });
  });
  plane.addEventListener("pointermove", event => { if (dragged !== null) place(dragged, pointed(event).map(inside)); });
  for (const end of ["pointerup", "pointercancel"]) plane.addEventListener(end, () => { dragged = null; });

  // ---- drawing ----
  const line = (from, to, attributes) => {
    const [x1, y1] = at(from), [x2, y2] = at(to);
    return svg("line", { x1, y1, x2, y2, ...attributes });
  };
  const ticks = [...Array(2 * ROOM + 1).keys()].map(k => k - ROOM);
  const grid = svg("g", { class: "mtl-grid" }, ...ticks.flatMap(k => [
    line([k, -ROOM], [k, ROOM], k ? {} : { "stroke-width": 2 }), line([-ROOM, k], [ROOM, k], k ? {} : { "stroke-width": 2 }),
  ]));
  /** Dots where a step harms no task. */
  function region(gradients) {
    const dots = [];
    for (let x = -ROOM + 0.125; x < ROOM; x += 0.25) for (let y = -ROOM + 0.125; y < ROOM; y += 0.25)
      if (gradients.every(g => dot(g, [x, y]) >= 0)) {
        const [cx, cy] = at([x, y]);
        dots.push(svg("circle", { cx, cy, r: 1.5 }));
      }
    return svg("g", { class: "mtl-region" }, ...dots);
  }
  const shapes = [
    ([x, y], r) => svg("circle", { cx: x, cy: y, r }),
    ([x, y], r) => svg("rect", { x: x - r, y: y - r, width: 2 * r, height: 2 * r }),
    ([x, y], r) => svg("path", { d: `M${x} ${y - r}l${r} ${2 * r}h${-2 * r}z` }),
  ];
  function arrow(k, g, harmed, chosen) {
    const color = COLORS[k], mark = shapes[k](at(g), 8), [x, y] = at(g);
    for (const [name, value] of [["fill", color], ["stroke", chosen ? "currentColor" : color], ["stroke-width", 3]])
      mark.setAttribute(name, value);
    const dash = harmed ? { "stroke-dasharray": "7 6" } : {};
    return svg("g", { class: "mtl-tip" }, line([0, 0], g, { stroke: color, "stroke-width": 4, ...dash }), mark,
      svg("text", { x: x + 12, y: y - 8 }, `g${below(k)}${harmed ? ": harmed" : ""}`));
  }
  /** d as an arrow, cut off where the picture ends. */
  function direction(d, unit) {
    const size = length(d);
    if (!size) return svg("text", { x: at([0, 0])[0] + 8, y: at([0, 0])[1] + 20, class: "mtl-d" }, "d = 0");
    const shown = unit ? d.map(x => x / size) : d, cut = Math.min(1, 0.97 * ROOM / Math.max(...shown.map(Math.abs)));
    const tip = shown.map(x => x * cut), [x, y] = at(tip), [u, v] = [d[0] / size, -d[1] / size];
    const head = `M${x} ${y}L${x - 14 * u - 7 * v} ${y - 14 * v + 7 * u}L${x - 14 * u + 7 * v} ${y - 14 * v - 7 * u}z`;
    const text = unit ? "d/‖d‖" : cut < 1 ? "d, goes on" : "d";
    return svg("g", { class: "mtl-d" }, line([0, 0], tip, { stroke: "currentColor", "stroke-width": 2.5 }),
      svg("path", { d: head, fill: "currentColor" }),
      svg("text", { x: x > 380 ? x - 80 : x + 10, y: y < 30 ? y + 24 : y + 18 }, text));
  }

  // ---- controls ----
  const count = choice([[2, "two"], [3, "three"]], text => {
    const { gradients, chosen } = get(), wanted = Number(text);
    set({ gradients: [...gradients, THIRD].slice(0, wanted), chosen: Math.min(chosen, wanted - 1) });
  });
  const chosen = choice([], k => set({ chosen: Number(k) }));
  bound.on(s => {
    count.value = String(s.gradients.length);
    fill(chosen, s.gradients.map((_, k) => [k, `g${below(k)}`]));
    chosen.value = String(s.chosen);
  });
  const size = bound.slider("length", "its length", { min: 0, max: 4.2, step: 0.05,
    format: (_, s) => number(length(s.gradients[s.chosen]), 2),
    read: s => length(s.gradients[s.chosen]), write: v => { stretch(v); return {}; } });
  const reset = button("first gradients", () => set({ gradients: data.gradients, chosen: 0 }));

  const group = `mtl-rule-${Math.random().toString(36).slice(2)}`;
  const rows = Object.keys(RULES).map(name => {
    const radio = h("input", { type: "radio", name: group, "aria-label": `rule ${name}`, onchange: () => set({ rule: name }) });
    const cells = [0, 1, 2, 3].map(() => h("td", {})), mark = h("span", { "aria-hidden": "true" });
    const row = h("tr", { onclick: () => set({ rule: name }) }, h("td", {}, radio), h("th", { scope: "row" }, mark, name), ...cells);
    bound.on(s => {
      radio.checked = s.rule === name;
      row.className = s.rule === name ? "mtl-chosen" : "";
      mark.textContent = s.rule === name ? "▶ " : "";
    });
    return { name, cells };
  });
  const table = h("table", { class: "mtl-legend mtl-rules" }, h("caption", {}, "All rules; the marked one is drawn"),
    h("thead", {}, h("tr", {}, ...["draw", "rule", "α", "‖d‖", "angle", "gᵢ·d < 0"].map(text => h("th", { scope: "col" }, text)))),
    h("tbody", {}, ...rows.map(({ name, cells }) => cells[0].parentNode)));
  const said = h("output", { class: "mtl-said", "aria-live": "polite" });
  const result = h("output", { class: "mtl-result", "aria-live": "polite" });

  function draw(s) {
    const { gradients } = s, answers = answer(gradients), alpha = answers?.[s.rule];
    const found = Array.isArray(alpha) ? step(gradients, alpha) : null;
    for (const { name, cells } of rows) {
      const alpha = answers?.[name], one = Array.isArray(alpha) ? step(gradients, alpha) : null;
      cells[0].textContent = one ? alpha.map(x => number(x, 3)).join(", ") : answers ? "not defined" : "?";
      cells[1].textContent = one ? number(length(one.d), 3) : "–";
      cells[2].textContent = one && length(one.d) > SMALL ? `${number(Math.atan2(one.d[1], one.d[0]) * 180 / Math.PI, 0)}°` : "–";
      cells[3].textContent = one ? (one.harmed.length ? `task ${one.harmed.map(k => k + 1).join(", ")}` : "none") : "–";
    }
    plane.replaceChildren(grid, region(gradients),
      ...gradients.map((g, k) => arrow(k, g, found?.harmed.includes(k), k === s.chosen)), ...(found ? [direction(found.d, s.unit)] : []));
    const pairs = gradients.flatMap((g, i) => gradients.slice(i + 1).map((k, j) => [i, i + 1 + j, dot(g, k), length(g) * length(k)]));
    said.textContent = gradients.map((g, k) => `g${below(k)} = ${vector(g)}`).join(", ") + "; " + pairs.map(([i, j, product, sizes]) => `cos(g${below(i)}, g${below(j)}) = ${number(product / sizes, 2)}`
      + (product < -SMALL * sizes ? ": in conflict" : "")).join("; ");
    result.textContent = !answers ? WAIT : !found ? alpha ?? "this rule is not known to Python"
      : `${s.rule}: d = ${vector(found.d)}, ‖d‖ = ${number(length(found.d), 2)}, `
        + `${found.along.map((x, k) => `g${below(k)}·d = ${number(x, 2)}`).join(", ")}: ${blame(found.harmed)}`;
    plane.setAttribute("aria-label", `${said.textContent}. `
      + `Arrow keys move the tip of g${below(s.chosen)}, with Shift in large steps; 1, 2, 3 choose a gradient.`);
  }

  el.append(h("div", { class: "mtl-viewer", role: "group", "aria-label": data.title },
    h("div", { class: "mtl-row" }, field("gradients", count), field("move", chosen), size,
      bound.toggle("unit", "draw d with length 1"), reset),
    h("div", { class: "mtl-columns" },
      h("div", {}, plane, h("p", { class: "mtl-key" },
        "Dots: where d harms no task. Dashed: gᵢ·d < 0. Drag a tip, or use the arrow keys."), said, result),
      table)));
  const stop = bound.start(), redraw = () => draw(get());
  model.on("change:answers", redraw);
  return () => { stop(); model.off("change:answers", redraw); };
}

export default { render };
