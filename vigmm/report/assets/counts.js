// Counts of rows: decoding them, and pictures of a column.

async function decode(packed) {
  const bytes = Uint8Array.from(atob(packed.bytes), (sign) => sign.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const raw = new Uint8Array(await new Response(stream).arrayBuffer());
  const size = packed.shape.reduce((a, b) => a * b, 1);
  const counts = new Uint32Array(size);
  for (let plane = 0; plane < packed.planes; plane++) {
    for (let i = 0; i < size; i++) counts[i] += raw[plane * size + i] * 256 ** plane;
  }
  return counts;
}

const decoded = new Map();
function counts(packed) {
  if (!decoded.has(packed)) decoded.set(packed, decode(packed));
  return decoded.get(packed);
}

// Where a cluster's counts are: components are in the model's order, the noise is last.
const planeOf = (cluster, shape) => (cluster.id < 0 ? shape[0] - 1 : cluster.id);

const idOf = (plane, num) => (byId.has(-1) && plane === num - 1 ? -1 : plane);

// A column: all rows in grey and, in front, the rows of one cluster as a part of its own largest bin.
async function histogram(node, column, cluster, { width, height, labels = false }) {
  const packed = data.histograms[column];
  if (!packed) return;
  const all = await counts(packed);
  const [num, bins] = packed.shape;
  const total = new Array(bins).fill(0);
  for (let k = 0; k < num; k++) for (let i = 0; i < bins; i++) total[i] += all[k * bins + i];
  const foot = labels ? 22 : 1;
  const bottom = height - foot;
  const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  const side = labels ? 12 : 0;
  const x = scale(0, bins, side, width - side);
  const path = (values, top) => {
    const steps = values.map((value, i) => `L${x(i).toFixed(1)} ${(bottom - (bottom - 2) * (top > 0 ? value / top : 0)).toFixed(1)}H${x(i + 1).toFixed(1)}`);
    return `M${x(0)} ${bottom}${steps.join("")}V${bottom}Z`;
  };
  const most = Math.max(...total);
  picture.append(svg("path", { class: "all", d: path(total, most) }));
  if (labels && !cluster) {
    // Every cluster in its colour, one on top of the other: from the highest outline down.
    const heights = [...total];
    for (const one of clusters) {
      const from = planeOf(one, packed.shape) * bins;
      picture.append(svg("path", { class: `mine ${one.colour === null ? "" : `c${one.colour}`}`, d: path(heights, most) }));
      for (let i = 0; i < bins; i++) heights[i] -= all[from + i];
    }
  }
  if (cluster) {
    const from = planeOf(cluster, packed.shape) * bins;
    const mine = Array.from(all.slice(from, from + bins));
    // Small clusters would vanish on the scale of all rows.
    picture.append(svg("path", { class: `mine ${cluster.colour === null ? "" : `c${cluster.colour}`}`, d: path(mine, Math.max(...mine)) }));
  }
  picture.append(svg("line", { class: "tick", x1: side, x2: width - side, y1: bottom, y2: bottom }));
  if (labels) {
    const high = packed.x.low + packed.x.width * packed.x.count;
    const place = scale(packed.x.low, high, side, width - side);
    const marks = ticks(packed.x.low, high, width < 420 ? 4 : 8);
    footTexts(picture, marks.map((value) => [place(value), tickText(value, marks)]), height - 5, 0, width);
  }
  node.replaceChildren(picture);
}

function setUpHistograms() {
  for (const node of document.querySelectorAll("[data-histogram]")) {
    const draw = () => histogram(node, node.dataset.histogram, chosen === null ? null : byId.get(chosen), { width: 120, height: 30 });
    followers.push(draw);
    draw();
  }
  for (const figure of document.querySelectorAll("[data-plot=column]")) {
    const node = figure.querySelector(".plot");
    fill(node, { role: "img", "aria-label": `Rows along ${data.columns[0]}` }, []);
    const draw = () => {
      if (node.clientWidth > 0) histogram(node, 0, chosen === null ? null : byId.get(chosen), { width: node.clientWidth, height: 260, labels: true });
    };
    followers.push(draw);
    drawn(node, draw);
  }
}

function certainty(figure) {
  const node = figure.querySelector(".plot");
  const bins = data.certainty;
  const total = bins.reduce((a, b) => a + b, 0);
  const top = Math.max(...bins);
  const sure = bins.slice(Math.round(0.8 * bins.length)).reduce((a, b) => a + b, 0);
  fill(node, { role: "img", "aria-label": `${percent(sure / total)} of the rows have a probability of 0.8 or more` }, []);
  drawn(node, (width) => {
    const ys = ticks(0, top, 5);
    const box = { left: margin(ys), right: width - 10, top: 8, bottom: 130 };
    const x = scale(0, 1, box.left, box.right);
    const y = scale(0, top, box.bottom, box.top);
    const picture = svg("svg", { width, height: 168, viewBox: `0 0 ${width} 168`, "aria-hidden": "true" });
    axes(picture, box, x, y, { xs: [0, 0.2, 0.4, 0.6, 0.8, 1], ys, xLabel: "probability of the row’s cluster" });
    bins.forEach((value, i) => {
      const [from, to] = [i / bins.length, (i + 1) / bins.length];
      const bar = svg(
        "rect",
        { class: from >= 0.8 - 1e-9 ? "sure" : "unsure", x: x(from) + 1, width: Math.max(x(to) - x(from) - 2, 1), y: y(value), height: Math.max(box.bottom - y(value), value > 0 ? 1 : 0) },
        svg("title", {}, `${number(from, 2)} to ${number(to, 2)}: ${value.toLocaleString("en-GB")} rows`),
      );
      picture.append(bar);
    });
    node.replaceChildren(picture);
  });
}
