// All pairs of columns, small: each a button that shows its pair in the large view.

function overview(figure) {
  const node = figure.querySelector(".plot");
  const names = data.pairs.columns.map((column) => data.columns[column]);
  const stale = new Set();
  const draw = async (button) => {
    const [i, j] = [Number(button.dataset.i), Number(button.dataset.j)];
    const [ax, ay] = [data.pairs.axes[data.pairs.columns[i]], data.pairs.axes[data.pairs.columns[j]]];
    const grid = await gridOf(i, j);
    if (!grid) return;
    const one = chosen === null ? null : byId.get(chosen);
    const plane = one ? (one.id < 0 ? grid.num - 1 : one.id) : null;
    const canvas = button.querySelector("canvas");
    const box = { left: 0, top: 0, right: canvas.clientWidth, bottom: canvas.clientHeight };
    paint(canvas, totals(grid, ax.count, ay.count, plane), box, ax.count, ay.count, plane, grid.num);
  };
  // Only what is seen is drawn, for there may be dozens.
  const watch = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      target.dataset.seen = String(isIntersecting);
      if (isIntersecting && stale.delete(target)) draw(target);
    }
  });
  const buttons = [];
  names.forEach((up, j) =>
    names.slice(0, j).forEach((across, i) => {
      if (!data.pairs.grids[`${i},${j}`]) return;
      const button = el("button", { type: "button", class: "thumb", "data-i": i, "data-j": j, "aria-label": `${across} and ${up}` }, el("canvas", { "aria-hidden": "true" }), el("span", {}, `${across} · ${up}`));
      button.addEventListener("click", () => {
        [$("pair-x").value, $("pair-y").value] = [String(i), String(j)];
        $("pair-x").dispatchEvent(new Event("change"));
      });
      buttons.push(button);
      stale.add(button);
      watch.observe(button);
    }),
  );
  node.append(...buttons);
  const mark = () => {
    const shown = [$("pair-x").value, $("pair-y").value].map(Number).sort((a, b) => a - b).join();
    for (const button of buttons) button.setAttribute("aria-pressed", String(`${button.dataset.i},${button.dataset.j}` === shown));
  };
  const again = () => {
    for (const button of buttons) {
      if (button.dataset.seen === "true") draw(button);
      else stale.add(button);
    }
  };
  for (const name of ["pair-x", "pair-y"]) $(name).addEventListener("change", mark);
  mark();
  followers.push(again);
  redraws.push(again);
}
