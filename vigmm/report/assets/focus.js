// One cluster in detail: the chosen one, or the largest.

const caption = (title, note) => el("caption", {}, el("div", { class: "words" }, el("span", {}, title), el("span", { class: "note" }, note)));

function rowsTable(cluster) {
  const title = "Rows of the cluster";
  const heads = [["Row", "n"], ["Place", ""], ["Probability", "n"], ...data.rowColumns.map((name) => [name, "n"])];
  const places = [[cluster.typical, "typical"], [cluster.edge, "rim"]];
  const body = places.flatMap(([rows, place]) =>
    rows.map((one) =>
      el("tr", {}, el("th", { scope: "row", class: "n" }, one.row.toLocaleString("en-GB")), el("td", {}, place), el("td", { class: "n" }, percent(one.probability)), one.values.map((value) => el("td", { class: "n" }, value))),
    ),
  );
  const table = el("table", {}, caption(title, "typical: of the highest density in the cluster; rim: of the lowest"), el("thead", {}, el("tr", {}, heads.map(([text, kind]) => el("th", { scope: "col", class: kind || null }, text)))), el("tbody", {}, body));
  return el("div", { class: "frame", tabindex: "0", role: "region", "aria-label": title }, table);
}

function featureTable(cluster) {
  const drawings = [];
  const heads = [["Column", ""], ["Rows", "hist"], ["Mean", "n"], ["Spread", "n"], ["Difference", "n"], ["Overlap", "n"]];
  const order = cluster.features.map((_, i) => i).sort((a, b) => Math.abs(cluster.features[b].difference) - Math.abs(cluster.features[a].difference));
  const percentText = `${Math.round(100 * data.level)}%`;
  const body = order.map((i) => {
    const feature = cluster.features[i];
    const column = data.features[i];
    const plot = el("div", { class: "plot" });
    drawings.push([plot, column]);
    return el(
      "tr",
      {},
      el("th", { scope: "row" }, data.columns[column]),
      el("td", { class: "hist" }, plot),
      el("td", { class: "n" }, feature.mean, el("small", {}, feature.meanInterval)),
      el("td", { class: "n" }, feature.sd, el("small", {}, feature.sdInterval)),
      el("td", { class: "n" }, signed(feature.difference)),
      el("td", { class: "n" }, percent(feature.overlap)),
    );
  });
  const words = caption("Columns, most telling first", `small: ${percentText} interval; difference from all other clusters in standard deviations; overlap of the two densities`);
  const table = el("table", {}, words, el("thead", {}, el("tr", {}, heads.map(([text, kind]) => el("th", { scope: "col", class: kind || null }, text)))), el("tbody", {}, body));
  for (const [plot, column] of drawings) histogram(plot, column, cluster, { width: 150, height: 36 });
  return el("div", { class: "frame", tabindex: "0", role: "region", "aria-label": "Columns of the cluster" }, table);
}

function showFocus() {
  const cluster = byId.get(chosen) || clusters[0];
  const size = cluster.share ? `${percent(cluster.share[0])} of the rows, between ${percent(cluster.share[1])} and ${percent(cluster.share[2])}` : "";
  const assigned = cluster.count === 1 ? "1 row is" : `${(cluster.count || 0).toLocaleString("en-GB")} rows are`;
  const unsure = cluster.count ? `, ${percent(cluster.doubtful / cluster.count)} of them with a probability below 80%` : "";
  const seen = cluster.count === undefined ? "" : `${size ? "; " : ""}${assigned} assigned to it${unsure}`;
  const parts = [
    el("p", { class: `name ${cluster.colour === null ? "" : `c${cluster.colour}`}` }, el("i", { "aria-hidden": "true" }), `Cluster ${cluster.name}`),
    el("p", { class: "words" }, `Stands out by: ${cluster.words}.`),
    el("p", { class: "note" }, `${size}${seen}.`),
  ];
  if (cluster.features) parts.push(featureTable(cluster));
  if (cluster.typical && cluster.typical.length) {
    parts.push(rowsTable(cluster));
  }
  $("focus").replaceChildren(...parts);
}

function setUpFocus() {
  const step = (by) => {
    const now = clusters.findIndex((cluster) => cluster.id === chosen);
    // With none chosen the first is shown already.
    choose(clusters[(Math.max(now, 0) + by + clusters.length) % clusters.length].id);
  };
  $("focus-previous").addEventListener("click", () => step(-1));
  $("focus-next").addEventListener("click", () => step(1));
  followers.push(showFocus);
  showFocus();
}
