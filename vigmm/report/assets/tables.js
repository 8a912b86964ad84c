// Tables: sorting by a heading, and the table of clusters by column, which can show several numbers.

function sortKey(row, column) {
  const cell = row.cells[column];
  if (cell.dataset.sort !== undefined) return Number(cell.dataset.sort);
  const text = cell.textContent.trim();
  return text === "–" ? null : text;
}

function sortBy(table, column, descending) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row, index) => ({ row, index, key: sortKey(row, column) }));
  rows.sort((a, b) => {
    if (a.key === null || b.key === null) return (a.key === null) - (b.key === null) || a.index - b.index;
    const order = typeof a.key === "number" && typeof b.key === "number" ? a.key - b.key : String(a.key).localeCompare(String(b.key));
    return (descending ? -order : order) || a.index - b.index;
  });
  body.append(...rows.map((one) => one.row));
}

function setUpSorting() {
  for (const button of document.querySelectorAll("button.sort")) {
    const heading = button.closest("th");
    const table = button.closest("table");
    button.addEventListener("click", () => {
      const now = heading.getAttribute("aria-sort");
      // Numbers are mostly asked for from the largest down, names from the first on.
      const descending = now === "none" ? heading.classList.contains("n") || heading.classList.contains("bars") : now === "ascending";
      for (const other of table.tHead.rows[0].cells) {
        if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
      }
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortBy(table, heading.cellIndex, descending);
      say(`Sorted by ${button.textContent.trim()}, ${descending ? "descending" : "ascending"}`);
    });
  }
}

// In tables that scroll, the chosen cluster comes into view; the page itself stays where it is.
function showRow() {
  for (const row of document.querySelectorAll("tbody tr.on")) {
    const frame = row.closest(".frame");
    const [top, head] = [row.offsetTop, row.closest("table").tHead.offsetHeight];
    if (top - head < frame.scrollTop || top + row.offsetHeight > frame.scrollTop + frame.clientHeight) frame.scrollTop = top - head - row.offsetHeight;
  }
}

// A frame is a stop of the Tab key only where there is something to scroll.
function setUpFrames() {
  const check = () => {
    for (const frame of document.querySelectorAll(".frame, pre")) {
      const scrolls = frame.scrollWidth > frame.clientWidth + 1 || frame.scrollHeight > frame.clientHeight + 1;
      if (scrolls) frame.tabIndex = 0;
      else frame.removeAttribute("tabindex");
    }
  };
  followers.push(() => requestAnimationFrame(check));
  document.addEventListener("toggle", check, true);
  new ResizeObserver(check).observe(document.querySelector("main"));
}

function signed(value) {
  if (value === null) return "–";
  const size = Math.abs(value).toFixed(1);
  return size === "0.0" ? size : `${value < 0 ? "−" : "+"}${size}`;
}

const PROFILE = {
  mean: (f) => [`${f.mean} ± ${f.sd}`, f.at],
  meanInterval: (f) => [f.meanInterval, f.at],
  sdInterval: (f) => [f.sdInterval, f.wide],
  difference: (f) => [signed(f.difference), f.difference],
  overlap: (f) => [percent(f.overlap), f.overlap],
};

function setUpProfile() {
  const table = $("profile");
  for (const radio of document.querySelectorAll("input[name=profile]")) {
    radio.addEventListener("change", () => {
      for (const row of table.tBodies[0].rows) {
        const features = byId.get(Number(row.dataset.cluster)).features;
        features.forEach((feature, i) => {
          const [text, key] = PROFILE[radio.value](feature);
          const cell = row.cells[i + 1];
          cell.textContent = text;
          if (key === null) delete cell.dataset.sort;
          else cell.dataset.sort = String(key);
        });
      }
    });
  }
}
