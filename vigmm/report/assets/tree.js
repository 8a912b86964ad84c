// The merge tree: leaves are clusters, branches meet at the cost of making them one.

function tree(figure) {
  const node = figure.querySelector(".plot");
  const { leaves, joins } = data.tree;
  const num = leaves.length;
  const slider = $("groups");
  const children = (k) => (k < num ? [] : [joins[k - num].first, joins[k - num].second]);
  const members = (k) => (k < num ? [k] : children(k).flatMap(members));
  const root = num + joins.length - 1;
  const order = members(root);
  const place = new Map(order.map((leaf, i) => [leaf, i]));
  const row = 24;
  // The square root: costs span many sizes, and zero is among them.
  const top = Math.sqrt(joins.length ? joins[joins.length - 1].height : 1) || 1;

  const groupsOf = (many) => {
    const open = new Set([root]);
    while (open.size < many) {
      const next = Math.max(...[...open].filter((k) => k >= num));
      open.delete(next);
      for (const child of children(next)) open.add(child);
    }
    return [...open].map(members);
  };

  const height = num * row + 44;
  const draw = (width) => {
    const box = { left: 66, right: width - 16, top: 6, bottom: num * row + 6 };
    const x = (cost) => box.left + (Math.sqrt(Math.max(cost, 0)) / top) * (box.right - box.left);
    const picture = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    const costs = ticks(0, top, width < 420 ? 4 : 8).map((value) => value * value);
    for (const cost of costs) {
      picture.append(svg("line", { class: "grid", x1: x(cost), x2: x(cost), y1: box.top, y2: box.bottom }));
      picture.append(svg("text", { x: x(cost), y: box.bottom + 16, "text-anchor": "middle" }, number(cost, 3)));
    }
    picture.append(svg("text", { x: box.right, y: box.bottom + 32, "text-anchor": "end", class: "label" }, "cost, nats per row"));
    const middle = (k) => (k < num ? box.top + (place.get(k) + 0.5) * row : (middle(children(k)[0]) + middle(children(k)[1])) / 2);
    const costOf = (k) => (k < num ? 0 : joins[k - num].height);
    const groups = groupsOf(Number(slider.value));
    const inside = new Set();
    const collect = (k) => {
      if (k >= num) {
        inside.add(k);
        children(k).forEach(collect);
      }
    };
    for (const group of groups) {
      const set = new Set(group);
      for (let k = num; k <= root; k++) if (members(k).every((leaf) => set.has(leaf))) collect(k);
    }
    for (let k = num; k <= root; k++) {
      const [a, b] = children(k);
      const d = `M${x(costOf(a))} ${middle(a)}H${x(costOf(k))}V${middle(b)}H${x(costOf(b))}`;
      const names = members(k).map((leaf) => byId.get(leaves[leaf]).name).join(", ");
      const join = joins[k - num];
      picture.append(
        svg("path", { d, class: inside.has(k) ? "branch inside" : "branch" }, svg("title", {}, `clusters ${names}: one for ${number(join.cost, 3)} nats per row, ${percent(join.weight)} of the rows`)),
      );
    }
    for (const leaf of order) {
      const cluster = byId.get(leaves[leaf]);
      const at = middle(leaf);
      picture.append(
        svg("g", { class: `leaf c${cluster.colour}`, "data-cluster": cluster.id, "data-pick": cluster.id }, svg("rect", { x: 0, y: at - 11, width: box.left - 4, height: 22, rx: 4 }), svg("circle", { cx: 12, cy: at, r: 5 }), svg("text", { x: 24, y: at + 4 }, cluster.name)),
      );
    }
    node.replaceChildren(picture);
    for (const marked of node.querySelectorAll("[data-cluster]")) marked.classList.toggle("on", Number(marked.dataset.cluster) === chosen);
  };
  const tell = () => {
    const many = Number(slider.value);
    const groups = groupsOf(many).map((group) => group.map((leaf) => byId.get(leaves[leaf])).sort((a, b) => b.share[0] - a.share[0]));
    groups.sort((a, b) => b.reduce((s, c) => s + c.share[0], 0) - a.reduce((s, c) => s + c.share[0], 0));
    $("groups-out").textContent = String(many);
    const cost = Math.max(0, ...joins.slice(0, num - many).map((join) => join.height));
    const joined = many === num ? "nothing joined" : `with joins of at most ${number(cost, 3)} nats per row`;
    $("groups-words").textContent = `${many === 1 ? "One group" : `${many} groups`}, ${joined}: ${groups.map((group) => group.map((cluster) => cluster.name).join(" + ")).join("; ")}.`;
  };
  const first = joins.length ? joins[0] : null;
  fill(node, { role: "img", "aria-label": first ? `Merge tree of ${num} clusters; the cheapest join is of clusters ${byId.get(leaves[first.first]).name} and ${byId.get(leaves[first.second]).name}` : "Merge tree" }, []);
  slider.addEventListener("input", () => {
    tell();
    if (node.clientWidth > 0) draw(node.clientWidth);
  });
  tell();
  drawn(node, draw);
}
