// Small tools: elements, colours, drawing anew. Text goes in as text, never as markup.

const data = JSON.parse(document.getElementById("payload").textContent);
const $ = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(3)) {
    if (child !== null && child !== undefined) node.append(child);
  }
  return node;
}

const el = (name, attributes, ...children) => fill(document.createElement(name), attributes, children);
const svg = (name, attributes, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

// Colours as the page now has them: custom properties may depend on the theme, so an element resolves them.
const probe = el("span", { hidden: true });
document.body.append(probe);
function colour(property) {
  probe.style.color = `var(${property})`;
  const parts = getComputedStyle(probe).color.match(/[\d.]+/g) || [0, 0, 0];
  return parts.slice(0, 3).map(Number);
}
const rgba = (parts, alpha) => `rgba(${parts.join(",")},${alpha})`;

// Draw now, and again whenever the width or the theme changes.
const redraws = [];
function drawn(node, draw) {
  let width = 0;
  const again = () => {
    if (node.clientWidth > 0) draw(node.clientWidth);
  };
  new ResizeObserver(() => {
    if (Math.abs(node.clientWidth - width) < 1) return;
    width = node.clientWidth;
    again();
  }).observe(node);
  redraws.push(again);
}

function say(text) {
  $("said").textContent = text;
}
