// Numbers as text, and the round ones that stand along an axis.

const minus = (text) => text.replaceAll("-", "−");
const power = (value, digits) => minus(value.toExponential(digits).replace("e+", "e"));

// A number with so many significant digits, thousands apart, a true minus sign.
function number(value, digits = 4) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (size >= 1e12 || (size > 0 && size < 1e-4)) return power(value, digits - 1);
  if (size >= 10 ** (digits - 1)) return minus(Math.round(value).toLocaleString("en-GB"));
  return minus((value + 0).toLocaleString("en-GB", { maximumSignificantDigits: digits })); // -0 + 0 is 0
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
  const ten = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * ten).find((s) => s >= raw * 0.8);
  const first = Math.ceil(low / step - 1e-9);
  const found = [];
  // Counted, for beyond 2^53 a number plus one may be the same number.
  for (let n = 0; n <= 2 * many && (first + n) * step <= high + 1e-9 * step; n++) {
    const value = (first + n) * step + 0;
    if (value !== found.at(-1)) found.push(value);
  }
  return found;
}

// The text of a tick, to the digit in which neighbours differ; with a power of ten where zeros would fill the page.
function tickText(value, all) {
  if (all.length < 2) return number(value);
  const place = Math.floor(Math.log10(Math.abs(all[1] - all[0])) + 1e-9);
  const most = Math.max(...all.map(Math.abs));
  if (most >= 1e12 || (most < 1e-3 && place < -5)) {
    const digits = clamp(Math.floor(Math.log10(most) + 1e-9) - place, 0, 16);
    return value === 0 ? "0" : power(value, digits);
  }
  const decimals = clamp(-place, 0, 15);
  return minus(value.toLocaleString("en-GB", { minimumFractionDigits: decimals, maximumFractionDigits: decimals }));
}

// The width of a tick's text, and room for the longest of some, in pixels.
const textWidth = (text) => 7.2 * text.length;
const margin = (all) => 16 + Math.max(...all.map((value) => textWidth(tickText(value, all))));

const scale = (low, high, from, to) => (value) => from + ((value - low) / (high - low || 1)) * (to - from);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
