/* Numbers as text. */

const SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** A number to three digits, with × 10ⁿ where it is small or large. */
export function scientific(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  const power = Number(exponent);
  if (power >= -2 && power < 5) return minus(Number(value.toPrecision(digits)).toString());
  const raised = String(Math.abs(power)).replace(/\d/g, (digit) => SUPERSCRIPT[digit]);
  return minus(`${mantissa} × 10${power < 0 ? "⁻" : ""}${raised}`);
}

/** The text at a tick: all of an axis are written in the same way. */
export function tickText(value, _, ticks) {
  const greatest = Math.max(...ticks.map((tick) => Math.abs(tick.value)));
  return greatest < 0.001 ? scientific(value, 2) : minus(String(Number(value.toPrecision(3))));
}

export const minus = (text) => text.replace(/^-/, "−");
export const count = (value) => value.toLocaleString("en-US");
export const cosineText = (value) => (value === null ? "–" : minus(value.toFixed(2)));
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

export function percent(share) {
  if (share === 0) return "0 %";
  const value = 100 * share;
  return `${value >= 0.1 ? Number(value.toPrecision(2)) : scientific(value, 2)} %`;
}

export function quantile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.round(share * (sorted.length - 1))))];
}

/** Class of an effect: whether a latent lowers the MSE. */
export function effectClass(delta) {
  if (delta === null) return "";
  return delta < 0 ? "decreases" : "increases";
}
