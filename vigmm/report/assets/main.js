// Everything is set up once; plots draw themselves whenever their width, the theme or the choice changes.

setUpChoice();
setUpSorting();
followers.push(showRow);
setUpFrames();
setUpProfile();
setUpFocus();
setUpHistograms();
const PLOTS = { trace, strip, pairs, overview, tree, certainty };
for (const figure of document.querySelectorAll("[data-plot]")) {
  const plot = PLOTS[figure.dataset.plot];
  if (plot) plot(figure);
}
setUpTheme();

$("copy").addEventListener("click", async () => {
  const text = $("config-text").textContent;
  try {
    await navigator.clipboard.writeText(text);
    $("copy").textContent = "Copied";
  } catch {
    // Files may not write to the clipboard everywhere: then the text is selected, ready to be copied.
    getSelection().selectAllChildren($("config-text"));
    $("copy").textContent = "Selected";
  }
});

// The section that is being read is marked in the bar.
const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
const watch = new IntersectionObserver(
  (entries) => {
    for (const entry of entries) {
      const link = links.get(entry.target.id);
      if (!link || !entry.isIntersecting) continue;
      for (const other of links.values()) other.removeAttribute("aria-current");
      link.setAttribute("aria-current", "true");
    }
  },
  { rootMargin: "-30% 0px -65% 0px" },
);
for (const section of document.querySelectorAll("main > section[id]")) watch.observe(section);
document.documentElement.dataset.ready = "true";
