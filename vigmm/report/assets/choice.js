// The chosen cluster: one for the whole page, and everything that shows clusters follows it.

const clusters = data.clusters;
const byId = new Map(clusters.map((cluster) => [cluster.id, cluster]));
const followers = [];
let chosen = null;

const tint = (cluster) => (cluster.colour === null ? "--soft" : `--c${cluster.colour}`);

function choose(id, { toggle = false } = {}) {
  chosen = toggle && chosen === id ? null : byId.has(id) ? id : null;
  document.body.classList.toggle("choosing", chosen !== null);
  for (const node of document.querySelectorAll("[data-cluster]")) {
    const on = chosen !== null && Number(node.dataset.cluster) === chosen;
    node.classList.toggle("on", on);
    if (node.hasAttribute("aria-pressed")) node.setAttribute("aria-pressed", String(on));
  }
  $("choice").value = chosen === null ? "" : String(chosen);
  for (const follow of followers) follow(chosen);
  // What followers have made anew carries the mark too.
  for (const node of document.querySelectorAll("[data-cluster]")) {
    node.classList.toggle("on", chosen !== null && Number(node.dataset.cluster) === chosen);
  }
  say(chosen === null ? "No cluster is highlighted" : `Cluster ${byId.get(chosen).name} is highlighted`);
}

function chip(cluster) {
  const node = el(
    "button",
    {
      type: "button",
      class: `chip${cluster.colour === null ? "" : ` c${cluster.colour}`}`,
      "data-cluster": cluster.id,
      "aria-pressed": String(chosen === cluster.id),
      "aria-label": `cluster ${cluster.name}`,
    },
    el("i", { "aria-hidden": "true" }),
    cluster.name,
  );
  return node;
}

function setUpChoice() {
  const select = $("choice");
  select.append(el("option", { value: "" }, "All"));
  for (const cluster of clusters) {
    const share = cluster.share ? ` · ${percent(cluster.share[0])}` : "";
    select.append(el("option", { value: String(cluster.id) }, `${cluster.name}${share}`));
  }
  select.addEventListener("change", () => choose(select.value === "" ? null : Number(select.value)));
  document.addEventListener("click", (event) => {
    const node = event.target.closest("button[data-cluster], [data-pick]");
    if (node) choose(Number(node.dataset.cluster ?? node.dataset.pick), { toggle: true });
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && chosen !== null) choose(null);
  });
}

// Colours of the page: as the system says, or as the reader does.
function setUpTheme() {
  const order = ["system", "light", "dark"];
  const words = { system: "as the system", light: "light", dark: "dark" };
  const icons = {
    system: "M8 2a6 6 0 100 12zM8 2a6 6 0 010 12",
    light: "M8 5a3 3 0 100 6 3 3 0 000-6M8 1v1.6M8 13.4V15M1 8h1.6M13.4 8H15M3 3l1.2 1.2M11.8 11.8L13 13M13 3l-1.2 1.2M4.2 11.8L3 13",
    dark: "M13 9.6A5.6 5.6 0 016.4 3 5.6 5.6 0 1013 9.6z",
  };
  const button = $("theme");
  let now = "system";
  try {
    now = localStorage.getItem("vigmm-theme") || "system";
  } catch {
    // A browser may forbid storage to files; the choice then lasts as long as the page.
  }
  const show = () => {
    if (!order.includes(now)) now = "system";
    document.documentElement.dataset.theme = now;
    const drawing = svg("svg", { viewBox: "0 0 16 16", class: `icon ${now}`, "aria-hidden": "true" }, svg("path", { d: icons[now] }));
    button.replaceChildren(drawing);
    button.setAttribute("aria-label", `Colours: ${words[now]}`);
    button.title = `Colours: ${words[now]}`;
    for (const again of redraws) again();
  };
  button.addEventListener("click", () => {
    now = order[(order.indexOf(now) + 1) % order.length];
    try {
      localStorage.setItem("vigmm-theme", now);
    } catch {
      // As above.
    }
    show();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  show();
}
