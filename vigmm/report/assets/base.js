// Small tools: elements, numbers, colours, scales. Text goes in as text, never as markup.

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

// A number with so many significant digits, thousands apart, a true minus sign.
function number(value, digits = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  const text =
    size >= 10 ** (digits - 1) ? Math.round(value).toLocaleString("en-GB")
    : size > 0 && size < 1e-4 ? value.toExponential(digits - 1)
    : String(Number(value.toPrecision(digits)));
  return text.replace("-", "−");
}

function percent(value) {
  if (value === null || value === undefined) return "–";
  const part = 100 * value;
  if (part > 0 && part < 0.005) return "<0.01%";
  return `${part === 0 || part === 100 ? part : part >= 0.1 ? part.toFixed(1) : part.toFixed(2)}%`;
}

// Round values that divide an interval into about `many` parts.
function ticks(low, high, many) {
  const raw = (high - low) / Math.max(many, 1);
  if (!(raw > 0)) return [low];
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + 1e-9 * step; i++) found.push(i * step + 0);
  return found;
}

// The text of a tick, to the digit in which neighbours differ.
function tickText(value, all) {
  const step = all.length > 1 ? Math.abs(all[1] - all[0]) : Math.abs(value) || 1;
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  if (Math.abs(value) >= 1e7 || decimals > 9) return number(value, 3);
  return value.toLocaleString("en-GB", { minimumFractionDigits: decimals, maximumFractionDigits: decimals }).replace("-", "−");
}

// Room for the longest of some tick texts, in pixels.
const margin = (all) => 16 + 7.2 * Math.max(...all.map((value) => tickText(value, all).length));

const scale = (low, high, from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

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
