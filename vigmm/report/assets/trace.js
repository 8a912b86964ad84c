// Axes; the run's trace, with a read-out under the pointer and for the arrow keys; and the strip of k-hats.

// Texts along the foot of a plot: none over another, none beyond the edges.
function footTexts(parent, texts, y, left, right) {
  let end = -Infinity;
  for (const [at, text] of texts) {
    const half = textWidth(text) / 2;
    const middle = clamp(at, left + half, right - half);
    if (middle - half < end) continue;
    end = middle + half + 6;
    parent.append(svg("text", { x: middle, y, "text-anchor": "middle" }, text));
  }
}

function axes(parent, box, x, y, { xs, ys, xLabel }) {
  const group = svg("g", { class: "axes" });
  for (const value of ys) {
    const at = y(value);
    group.append(svg("line", { x1: box.left, x2: box.right, y1: at, y2: at, class: "grid" }));
    group.append(svg("text", { x: box.left - 8, y: at + 4, "text-anchor": "end" }, tickText(value, ys)));
  }
  for (const value of xs) {
    const at = x(value);
    group.append(svg("line", { x1: at, x2: at, y1: box.bottom, y2: box.bottom + 4, class: "tick" }));
  }
  footTexts(group, xs.map((value) => [x(value), tickText(value, xs)]), box.bottom + 17, 0, box.right + 10);
  group.append(svg("line", { x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom, class: "tick" }));
  if (xLabel) group.append(svg("text", { x: box.right, y: box.bottom + 33, "text-anchor": "end", class: "label" }, xLabel));
  parent.append(group);
}

function trace(figure) {
  const curve = data.traces[Number(figure.dataset.trace)];
  const node = figure.querySelector(".plot");
  const last = curve.x.length - 1;
  let at = last;
  const out = el("output", { class: "readout" });
  node.after(out);
  const told = (i) => `Pass ${number(curve.x[i], 3)}: ${number(curve.mean[i], 6)} ${curve.unit}`;
  node.tabIndex = 0;
  fill(node, { role: "slider", "aria-label": `${curve.title}, point by point`, "aria-valuemin": 0, "aria-valuemax": last }, []);
  let place = () => {};
  const move = (i) => {
    at = clamp(i, 0, last);
    out.textContent = told(at);
    node.setAttribute("aria-valuenow", at);
    node.setAttribute("aria-valuetext", told(at));
    place();
  };
  drawn(node, (width) => {
    const ys = ticks(curve.low, curve.high, 5);
    const box = { left: margin(ys), right: width - 10, top: 8, bottom: 150 };
    const few = width < 420 ? 4 : 6;
    const x = scale(Math.min(0, curve.x[0]), curve.x[last], box.left, box.right);
    const y = scale(curve.low, curve.high, box.bottom, box.top);
    const inside = (value) => clamp(y(value), box.top - 40, box.bottom + 40);
    const points = (values) => values.map((value, i) => `${x(curve.x[i]).toFixed(1)} ${inside(value).toFixed(1)}`);
    const id = `clip-${figure.dataset.trace}`;
    const picture = svg("svg", { width, height: 190, viewBox: `0 0 ${width} 190`, "aria-hidden": "true" });
    picture.append(svg("clipPath", { id }, svg("rect", { x: box.left, y: box.top, width: Math.max(box.right - box.left, 1), height: box.bottom - box.top })));
    axes(picture, box, x, y, { xs: ticks(0, curve.x[last], few), ys, xLabel: "passes over the data" });
    const lines = svg("g", { "clip-path": `url(#${id})` });
    if (curve.steps > curve.x.length) {
      lines.append(svg("path", { class: "band", d: `M${points(curve.max).join("L")}L${points(curve.min).reverse().join("L")}Z` }));
    }
    lines.append(svg("path", { class: "line", d: `M${points(curve.mean).join("L")}` }));
    const rule = svg("line", { class: "rule", y1: box.top, y2: box.bottom });
    const dot = svg("circle", { class: "dot", r: 4.5 });
    picture.append(lines, rule, dot);
    node.replaceChildren(picture);
    place = () => {
      fill(rule, { x1: x(curve.x[at]), x2: x(curve.x[at]) }, []);
      fill(dot, { cx: x(curve.x[at]), cy: clamp(y(curve.mean[at]), box.top, box.bottom) }, []);
    };
    place();
    picture.addEventListener("pointermove", (event) => {
      const pass = curve.x[0] + ((event.offsetX - x(curve.x[0])) / (x(curve.x[last]) - x(curve.x[0]) || 1)) * (curve.x[last] - curve.x[0]);
      let nearest = 0;
      curve.x.forEach((value, i) => {
        if (Math.abs(value - pass) < Math.abs(curve.x[nearest] - pass)) nearest = i;
      });
      move(nearest);
    });
  });
  node.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10, Home: -last, End: last }[event.key];
    if (step === undefined) return;
    event.preventDefault();
    move(at + step);
  });
  move(last);
}

// Each block's k-hat on one line, with the limits of what is good and what is usable.
function strip(figure) {
  const node = figure.querySelector(".plot");
  const known = data.blocks.filter((block) => block.khat !== null);
  const top = Math.max(1, ...known.map((block) => block.khat)) * 1.05;
  const low = Math.min(0, ...known.map((block) => block.khat));
  const words = data.blocks.map((block) => `${block.name} ${number(block.khat, 2)}`).join(", ");
  fill(node, { role: "img", "aria-label": `k-hat of each block: ${words}` }, []);
  drawn(node, (width) => {
    const box = { left: 10, right: width - 10, top: 8, bottom: 58 };
    const x = scale(low, top, box.left, box.right);
    const picture = svg("svg", { width, height: 84, viewBox: `0 0 ${width} 84` });
    for (const [from, to, kind] of [[low, 0.5, "good"], [0.5, 0.7, "caution"], [0.7, top, "bad"]]) {
      picture.append(svg("rect", { x: x(from), width: Math.max(x(to) - x(from) - 2, 0), y: box.bottom, height: 4, class: `zone ${kind}` }));
    }
    const floor = new Map();
    for (const block of known) {
      const found = /^component (\d+)$/.exec(block.name);
      const cluster = found ? byId.get(Number(found[1])) : null;
      const cell = Math.round(x(block.khat) / 9);
      const level = floor.get(cell) || 0;
      floor.set(cell, level + 1);
      const dot = svg(
        "circle",
        { cx: cell * 9, cy: box.bottom - 9 - 9 * Math.min(level, 4), r: 4, class: cluster ? `mark c${cluster.colour}` : "mark", "data-cluster": cluster ? cluster.id : null, "data-pick": cluster ? cluster.id : null },
        svg("title", {}, `${cluster ? `cluster ${cluster.name}` : block.name}: ${number(block.khat, 2)}`),
      );
      picture.append(dot);
    }
    // The limits first: what lies too close to them goes without.
    const marks = [0.5, 0.7, 0, 1, ...ticks(1, top, 4).filter((value) => value % 1 === 0)];
    const shown = [];
    for (const value of marks) {
      if (value > top || shown.some((one) => Math.abs(x(one) - x(value)) < 20)) continue;
      shown.push(value);
      picture.append(svg("text", { x: x(value), y: box.bottom + 20, "text-anchor": "middle" }, number(value)));
    }
    node.replaceChildren(picture);
  });
}
