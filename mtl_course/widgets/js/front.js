// FrontExplorer: points of two scores, the front that no other point beats, and what one point is.

function render({ model, el }) {
  const data = model.get("data"), { groups, sweep } = data;
  const points = data.points.map(one => ({ ...one, group: groups.indexOf(one.group) }));
  const bound = bind(model, draw), { get, set } = bound;
  const good = points.map(one => [one.x, one.y].map((v, k) => data.higher[k] ? v : -v));
  const ends = ["x", "y"].map(a => span(points.flatMap(one =>
    [one[a] - (one[`${a}_error`] ?? 0), one[a] + (one[`${a}_error`] ?? 0), ...one.runs.map(run => run[a === "x" ? 0 : 1])])));
  const digits = ends.map(([low, high]) => Math.max(0, 2 - Math.floor(Math.log10(high - low))));
  const names = [data.x, data.y].map((name, k) => data.higher[k] ? `${name}; higher is better →` : `${name}; ← lower is better`);
  const color = one => LINE_COLORS[one.group % LINE_COLORS.length];

  // ---- which points there are, and which beat which ----
  const shown = s => [...points.keys()].filter(k => s.shown[points[k].group]);
  const beats = (a, b) => good[a].every((v, k) => v >= good[b][k]) && good[a].some((v, k) => v > good[b][k]);
  const front = ids => ids.filter(k => !ids.some(j => beats(j, k))).sort((a, b) => points[a].x - points[b].x);
  const choose = k => ({ chosen: k, shown: get().shown.map((on, g) => on || g === points[k].group) });

  function step(along, by) {  // the next shown point along an axis
    const ids = shown(get()).sort((a, b) => points[a][along] - points[b][along] || a - b);
    const at = ids.indexOf(get().chosen), next = ids[Math.min(ids.length - 1, Math.max(0, at + by))];
    if (next !== undefined) set(choose(next));
  }

  function press(event) {
    const move = { ArrowLeft: ["x", -1], ArrowRight: ["x", 1], ArrowUp: ["y", 1], ArrowDown: ["y", -1], Home: ["x", -Infinity],
                   End: ["x", Infinity] }[event.key];
    if (!move) return;
    event.preventDefault();
    event.stopPropagation();
    step(...move);
  }

  const plot = chart(560, 420, { tabindex: 0, role: "application", onkeydown: press, onclick: event => {
    const { x, y } = plot.mouse(event), far = k => Math.hypot(place.x(points[k].x) - x, place.y(points[k].y) - y);
    const ids = shown(get());
    if (ids.length) set(choose(ids.reduce((a, b) => far(b) < far(a) ? b : a)));
  } });
  const { pen, element } = plot;
  let place = null;

  // ---- the chart ----
  const spot = k => [place.x(points[k].x), place.y(points[k].y)];

  function bars(k) {
    const { x, y, x_error: dx, y_error: dy } = points[k];
    pen.lineWidth = 1.2;
    if (dx !== null) line(pen, [[place.x(x - dx), place.y(y)], [place.x(x + dx), place.y(y)]]);
    if (dy !== null) line(pen, [[place.x(x), place.y(y - dy)], [place.x(x), place.y(y + dy)]]);
  }

  function runs(k, radius, alpha) {
    pen.globalAlpha = alpha;
    for (const [x, y] of points[k].runs) mark(pen, 0, place.x(x), place.y(y), radius);
    pen.globalAlpha = 1;
  }

  function labels(ids) {  // those that find room; the first ones first
    const taken = [];
    pen.fillStyle = place.text;
    pen.textAlign = "left";
    for (const k of ids) {
      const [x, y] = spot(k), wide = pen.measureText(points[k].label).width;
      const free = [[9, -11], [9, 12], [-9 - wide, -11], [-9 - wide, 12]].map(([a, b]) => [x + a, y + b]).find(([a, b]) =>
        a > place.left && a + wide < place.right && !taken.some(([c, d, w]) => a < c + w && c < a + wide && Math.abs(b - d) < 14));
      if (!free) continue;
      pen.fillText(points[k].label, ...free);
      taken.push([...free, wide]);
    }
  }

  function draw(s) {
    place = plot.axes({ x: ends[0], y: ends[1], xName: names[0], yName: names[1] });
    const ids = shown(s), best = front(ids), chosen = ids.includes(s.chosen) ? [s.chosen] : [];
    for (const k of ids) { pen.fillStyle = color(points[k]); runs(k, 2, 0.35); }
    pen.strokeStyle = place.text;
    pen.globalAlpha = 0.6;
    line(pen, sweep.filter(k => ids.includes(k)).map(spot));
    Object.assign(pen, { globalAlpha: 1, lineWidth: 2.5 });
    pen.setLineDash(LINE_DASHES[1]);
    line(pen, best.map(spot));
    pen.setLineDash([]);
    for (const k of s.intervals ? ids : chosen) { pen.strokeStyle = color(points[k]); bars(k); }
    for (const k of ids) { pen.fillStyle = color(points[k]); mark(pen, points[k].group, ...spot(k), 5); }
    for (const k of chosen) {
      pen.fillStyle = color(points[k]);
      runs(k, 4, 0.8);
      mark(pen, points[k].group, ...spot(k), 8);
      Object.assign(pen, { strokeStyle: place.text, lineWidth: 2 });
      pen.beginPath(); pen.arc(...spot(k), 12, 0, 2 * Math.PI); pen.stroke();
    }
    labels([...new Set([...chosen, ...best, ...(s.labels ? ids : [])])]);
    tell(s, ids, best);
  }

  // ---- what it says ----
  const said = h("output", { class: "mtl-result", "aria-live": "polite" });
  const frontier = h("output", { class: "mtl-said", "aria-live": "polite" });
  const few = ids => ids.slice(0, 5).map(k => points[k].label).join(", ") + (ids.length > 5 ? ` and ${ids.length - 5} more` : "");
  const value = (one, a, k) => {
    const error = one[`${a}_error`];
    return `${data[a]} ${number(one[a], digits[k])}${error === null ? "" : ` ± ${number(error, digits[k])}`}`;
  };

  function tell(s, ids, best) {
    const one = points[s.chosen], better = ids.filter(k => beats(k, s.chosen));
    const weights = one.weights ? `, weights ${one.weights}` : "";
    const rank = better.length ? `Beaten by ${few(better)}.` : "No other shown point beats it.";
    said.textContent = ids.includes(s.chosen)
      ? `${one.label} (${groups[one.group]}${weights}): ${value(one, "x", 0)}; ${value(one, "y", 1)}. ${rank}` : "no point is shown";
    frontier.textContent = best.length ? `Front: ${best.map(k => points[k].label).join(", ")}.` : "";
    const keys = `Left and right go along ${data.x}, up and down along ${data.y}.`;
    element.setAttribute("aria-label", `${data.title}. Chosen: ${one.label}. ${keys}`);
    if (picture) showPicture(one);
  }

  const picture = data.height ? canvas(data.width, data.height, 320, { role: "img", class: "mtl-picture" }) : null;
  const caption = h("figcaption", {});
  function showPicture(one) {
    const rgb_ = bytes(one.picture), rgba = new Uint8ClampedArray(4 * data.width * data.height).fill(255);
    for (let i = 0; i < data.width * data.height; i++) rgba.set(rgb_.subarray(3 * i, 3 * i + 3), 4 * i);
    put(picture, rgba);
    caption.textContent = one.label;
    picture.setAttribute("aria-label", `picture of ${one.label}`);
  }

  // ---- controls ----
  const switches = groups.map((name, g) => {
    const box = h("input", { type: "checkbox", onchange: () => {
      const now = get().shown.map((was, k) => k === g ? box.checked : was), ids = shown({ shown: now });
      set({ shown: now, chosen: ids.includes(get().chosen) || !ids.length ? get().chosen : front(ids)[0] });
    } });
    bound.on(s => { box.checked = s.shown[g]; });
    return field(`${MARKS[g % 6]} ${name}`, box, swatch(LINE_COLORS[g % LINE_COLORS.length]));
  });
  const slider = sweep.length > 1 ? [bound.slider("chosen", "along the swept weights", {
    min: 0, max: sweep.length - 1, read: s => sweep.indexOf(s.chosen) < 0 ? null : sweep.indexOf(s.chosen), write: v => choose(sweep[v]),
    format: (v, s) => sweep.includes(s.chosen) ? points[s.chosen].label : "not on it",
  })] : [];
  const hasErrors = points.some(one => one.x_error !== null || one.y_error !== null);
  const key = ["Dashed: the front. A point beats another if it is at least as good in both scores, and better in one."];
  if (sweep.length > 1) key.push("Thin line: the swept weights.");
  if (points.some(one => one.runs.length)) key.push("Small dots: single runs.");
  if (hasErrors) key.push(`±, bars: ${data.interval}.`);
  el.append(h("div", { class: "mtl-viewer", role: "group", "aria-label": data.title }, h("div", { class: "mtl-columns" },
    h("div", {}, element, said, frontier),
    h("div", { class: "mtl-controls" }, ...(picture ? [h("figure", { style: "margin:0" }, picture, caption)] : []), ...slider, ...switches,
      ...(hasErrors ? [bound.toggle("intervals", "all intervals")] : []), bound.toggle("labels", "all names"),
      h("p", { class: "mtl-key", style: "max-width:300px" }, key.join(" "))))));
  const stop = bound.start(), still = themed(element, () => draw(get()));
  return () => { stop(); still(); };
}

export default { render };
