// Two columns at a time: counts of rows in bins on a canvas, ellipses and axes over it.

const RADIUS = Math.sqrt(-2 * Math.log(0.1)); // of the ellipse that holds 90 % of a plane Gaussian
const FEW = 5000; // below so many rows a bin is drawn as a dot

function ellipse(mean, cov, x, y) {
  // The lower Cholesky factor turns a circle into the ellipse.
  const a = Math.sqrt(Math.max(cov[0], 0));
  const b = a > 0 ? cov[1] / a : 0;
  const c = Math.sqrt(Math.max(cov[2] - b * b, 0));
  const points = [];
  for (let i = 0; i < 72; i++) {
    const angle = (i * Math.PI) / 36;
    const [u, v] = [RADIUS * Math.cos(angle), RADIUS * Math.sin(angle)];
    points.push(`${x(mean[0] + a * u).toFixed(1)} ${y(mean[1] + b * u + c * v).toFixed(1)}`);
  }
  return `M${points.join("L")}Z`;
}

// Counts with the first column along, whichever way round they were stored.
async function gridOf(i, j) {
  const packed = data.pairs.grids[`${Math.min(i, j)},${Math.max(i, j)}`];
  if (!packed) return null;
  const raw = await counts(packed);
  const [num, up, along] = packed.shape;
  const turned = i > j;
  return {
    num,
    outside: packed.outside,
    at: turned ? (k, x, y) => raw[(k * up + x) * along + y] : (k, x, y) => raw[(k * up + y) * along + x],
  };
}

function totals(grid, nx, ny, plane) {
  const all = new Float64Array(nx * ny);
  const most = new Float64Array(nx * ny);
  const whose = new Int32Array(nx * ny).fill(-1);
  const mine = new Float64Array(nx * ny);
  for (let k = 0; k < grid.num; k++) {
    for (let y = 0; y < ny; y++) {
      for (let x = 0; x < nx; x++) {
        const value = grid.at(k, x, y);
        if (value === 0) continue;
        const cell = y * nx + x;
        all[cell] += value;
        if (k === plane) mine[cell] = value;
        if (value > most[cell]) {
          most[cell] = value;
          whose[cell] = k;
        }
      }
    }
  }
  return { all, whose, mine };
}

function paint(canvas, found, box, nx, ny, plane, num) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const [width, height] = [box.right - box.left, box.bottom - box.top];
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const tints = new Map(clusters.map((cluster) => [cluster.id, colour(tint(cluster))]));
  const grey = colour("--soft");
  const of = (k) => tints.get(idOf(k, num)) || grey;
  const top = Math.max(...found.all, 1);
  const mineTop = Math.max(...found.mine, 1);
  const [w, h] = [width / nx, height / ny];
  const dots = data.rows <= FEW;
  const size = clamp(width / 600, 0.45, 1);
  const strength = (value, most) => 0.16 + 0.84 * (Math.log1p(value) / Math.log1p(most));
  const mark = (x, y, value, parts, alpha) => {
    context.fillStyle = rgba(parts, alpha);
    if (dots) {
      context.beginPath();
      context.arc((x + 0.5) * w, height - (y + 0.5) * h, size * Math.min(2.4 + 1.1 * Math.sqrt(value), 10), 0, 2 * Math.PI);
      context.fill();
    } else {
      // Whole pixels: neighbouring bins neither overlap nor leave a seam.
      const [left, right] = [Math.round(x * w * ratio) / ratio, Math.round((x + 1) * w * ratio) / ratio];
      const [upper, lower] = [Math.round((height - (y + 1) * h) * ratio) / ratio, Math.round((height - y * h) * ratio) / ratio];
      context.fillRect(left, upper, right - left, lower - upper);
    }
  };
  for (let y = 0; y < ny; y++) {
    for (let x = 0; x < nx; x++) {
      const cell = y * nx + x;
      const value = found.all[cell];
      if (value === 0) continue;
      if (plane === null) mark(x, y, value, of(found.whose[cell]), dots ? 0.75 : strength(value, top));
      else if (found.mine[cell] > 0) mark(x, y, found.mine[cell], of(plane), dots ? 0.85 : strength(found.mine[cell], mineTop));
      else mark(x, y, value, grey, dots ? 0.25 : 0.3 * strength(value, top));
    }
  }
}

function labels(parent, shown, x, y, box) {
  // The larger cluster keeps its label where two would overlap; the chosen one always has its own.
  const taken = [];
  const order = [...shown].sort((a, b) => (b.id === chosen) - (a.id === chosen));
  for (const one of order) {
    const [cx, cy] = [x(one.at[0]), y(one.at[1])];
    if (cx < box.left || cx > box.right || cy < box.top || cy > box.bottom) continue;
    const wide = 9 + 7.5 * one.name.length;
    if (taken.some(([a, b, w]) => Math.abs(a - cx) < (w + wide) / 2 && Math.abs(b - cy) < 18)) continue;
    taken.push([cx, cy, wide]);
    parent.append(
      svg("g", { class: "tag", "data-cluster": one.id, "data-pick": one.id }, svg("rect", { x: cx - wide / 2, y: cy - 9, width: wide, height: 18, rx: 9 }), svg("text", { x: cx, y: cy + 4, "text-anchor": "middle" }, one.name)),
    );
  }
}

function pairs(figure) {
  const node = figure.querySelector(".plot");
  const [across, up] = [$("pair-x"), $("pair-y")];
  const out = el("output", { class: "readout" });
  node.after(out);
  [across.value, up.value] = data.pairs.first.map(String);
  node.tabIndex = 0;
  let cursor = null;
  let turn = 0;
  const draw = async (width) => {
    const mine = ++turn;
    const [i, j] = [Number(across.value), Number(up.value)];
    const [a, b] = [data.pairs.columns[i], data.pairs.columns[j]];
    const [ax, ay] = [data.pairs.axes[a], data.pairs.axes[b]];
    const found = await gridOf(i, j);
    if (mine !== turn) return; // a later choice was faster
    const height = clamp(Math.round(width * 0.8), 300, 640);
    const xs = ticks(ax.low, ax.low + ax.width * ax.count, width < 420 ? 4 : 7);
    const ys = ticks(ay.low, ay.low + ay.width * ay.count, 6);
    const box = { left: 16 + margin(ys), right: width - 12, top: 12, bottom: height - 44 };
    const x = scale(ax.low, ax.low + ax.width * ax.count, box.left, box.right);
    const y = scale(ay.low, ay.low + ay.width * ay.count, box.bottom, box.top);
    const one = chosen === null ? null : byId.get(chosen);
    const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    const back = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true", class: "back" });
    axes(back, box, x, y, { xs, ys, xLabel: null });
    back.append(svg("text", { x: (box.left + box.right) / 2, y: height - 8, "text-anchor": "middle", class: "label" }, data.columns[a]));
    back.append(svg("text", { x: 16, y: (box.top + box.bottom) / 2, transform: `rotate(-90 16 ${(box.top + box.bottom) / 2})`, "text-anchor": "middle", class: "label" }, data.columns[b]));
    const layers = [back];
    let sums = null;
    if (found) {
      const plane = one ? (one.id < 0 ? found.num - 1 : one.id) : null;
      sums = totals(found, ax.count, ay.count, plane);
      const canvas = el("canvas", { "aria-hidden": "true" });
      paint(canvas, sums, box, ax.count, ay.count, plane, found.num);
      canvas.style.left = `${box.left}px`;
      canvas.style.top = `${box.top}px`;
      canvas.style.width = `${box.right - box.left}px`;
      canvas.style.height = `${box.bottom - box.top}px`;
      layers.push(canvas);
    }
    picture.append(svg("clipPath", { id: "pair-clip" }, svg("rect", { x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top })));
    const shapes = svg("g", { class: "shapes", "clip-path": "url(#pair-clip)" });
    const shown = clusters.filter((cluster) => cluster.cov && (cluster.share[0] * data.rows >= 1 || cluster === one)).slice(0, 100);
    if ($("pair-ellipses").checked) {
      for (const cluster of [...shown].reverse().sort((p, q) => (p === one) - (q === one))) {
        const d = ellipse([cluster.mean[i], cluster.mean[j]], [cluster.cov[i][i], cluster.cov[i][j], cluster.cov[j][j]], x, y);
        shapes.append(svg("path", { d, class: "halo", "data-cluster": cluster.id }), svg("path", { d, class: `ellipse c${cluster.colour}`, "data-cluster": cluster.id, "data-pick": cluster.id }, svg("title", {}, `cluster ${cluster.name}`)));
      }
      labels(shapes, shown.map((cluster) => ({ id: cluster.id, name: cluster.name, at: [cluster.mean[i], cluster.mean[j]] })), x, y, box);
    }
    const ring = svg("rect", { class: "cursor", width: (box.right - box.left) / ax.count, height: (box.bottom - box.top) / ay.count, visibility: "hidden" });
    picture.append(shapes, ring);
    node.replaceChildren(...layers, picture);
    node.style.height = `${height}px`;
    for (const marked of node.querySelectorAll("[data-cluster]")) marked.classList.toggle("on", Number(marked.dataset.cluster) === chosen);
    const outside = found ? found.outside.reduce((p, q) => p + q, 0) : 0;
    const rest = !found ? "The rows are not shown here." : outside ? `${outside.toLocaleString("en-GB")} rows lie outside the frame or have a value missing.` : "All rows are inside the frame.";
    fill(node, { role: "img", "aria-roledescription": "chart", "aria-label": `${data.columns[a]} and ${data.columns[b]}: ${shown.length} clusters. ${rest} Arrow keys read the bins.` }, []);
    const read = (cx, cy) => {
      cursor = [clamp(cx, 0, ax.count - 1), clamp(cy, 0, ay.count - 1)];
      const edge = (axis, bin) => `${number(axis.low + axis.width * bin, 4)} to ${number(axis.low + axis.width * (bin + 1), 4)}`;
      const value = sums ? sums.all[cursor[1] * ax.count + cursor[0]] : null;
      const k = sums ? sums.whose[cursor[1] * ax.count + cursor[0]] : -1;
      const owner = k < 0 ? null : byId.get(idOf(k, found.num)) || { name: String(k) };
      const told = value === null ? "" : `: ${value.toLocaleString("en-GB")} ${value === 1 ? "row" : "rows"}${owner ? `, most of cluster ${owner.name}` : ""}`;
      out.textContent = `${data.columns[a]} ${edge(ax, cursor[0])}, ${data.columns[b]} ${edge(ay, cursor[1])}${told}`;
      fill(ring, { x: x(ax.low + ax.width * cursor[0]), y: y(ay.low + ay.width * (cursor[1] + 1)), visibility: "visible" }, []);
    };
    out.textContent = rest;
    picture.onpointermove = (event) => {
      const bounds = picture.getBoundingClientRect();
      const [px, py] = [event.clientX - bounds.left, event.clientY - bounds.top];
      if (px < box.left || px > box.right || py < box.top || py > box.bottom) return;
      read(Math.floor(((px - box.left) / (box.right - box.left)) * ax.count), Math.floor(((box.bottom - py) / (box.bottom - box.top)) * ay.count));
    };
    picture.onpointerleave = () => {
      ring.setAttribute("visibility", "hidden");
      out.textContent = rest;
    };
    node.onkeydown = (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!step) return;
      event.preventDefault();
      const [cx, cy] = cursor || [Math.floor(ax.count / 2), Math.floor(ay.count / 2)];
      read(cx + step[0], cy + step[1]);
      say(out.textContent);
    };
  };
  const again = () => {
    cursor = null;
    if (node.clientWidth > 0) draw(node.clientWidth);
  };
  const keepApart = (changed, other) => {
    if (changed.value === other.value) other.value = String((Number(changed.value) + 1) % data.pairs.columns.length);
    again();
  };
  across.addEventListener("change", () => keepApart(across, up));
  up.addEventListener("change", () => keepApart(up, across));
  $("pair-swap").addEventListener("click", () => {
    [across.value, up.value] = [up.value, across.value];
    again();
  });
  $("pair-ellipses").addEventListener("change", again);
  followers.push(again);
  drawn(node, draw);
}
