/* The live scatter of effects against cosines, by Chart.js. */

import { effectClass, minus, quantile, tickText } from "./numbers.js";

/** A latent's effect against its max cosine. `open` is called with a latent that is clicked. */
export class Scatter {
  constructor(canvas, { theta, x, y, xTitle, yTitle, describe, open }) {
    Object.assign(this, { canvas, x, y, xTitle, yTitle, open });
    const least = x.reduce((lowest, value) => Math.min(lowest, value), Math.min(0, theta));
    this.usual = { x: [least, 1], y: usualLimits(y) };
    this.guides = guides(theta);
    this.tooltip = new Tooltip(canvas, describe);
    this.chart = null;
    this.last = null; // what is drawn, to be drawn again in the colours of another theme
    this.redraw = () => this.last && this.show(...this.last);
    document.addEventListener("theme", this.redraw);
  }

  /** Draw some of the latents, and return how many lie beyond the axis. */
  show(latents, limits) {
    this.last = [latents, limits];
    const finite = (wanted, standard) =>
      wanted.map((value, i) => (Number.isFinite(value) ? value : standard[i]));
    const [left, right] = finite(limits.x, this.usual.x);
    const [bottom, top] = finite(limits.y, this.usual.y);
    const sets = { decreases: [], increases: [] };
    let nBeyond = 0;
    for (const latent of latents) {
      const [x, effect] = [this.x[latent], this.y[latent]];
      const y = Math.min(top, Math.max(bottom, effect));
      const beyond = Math.sign(effect - y);
      nBeyond += y !== effect;
      sets[effectClass(effect)].push({ x, y, latent, beyond });
    }
    const axes = {
      x: axis(this.xTitle, left, right, (value) => minus(String(Number(value.toFixed(3))))),
      y: axis(this.yTitle, bottom, top, tickText),
    };
    const datasets = Object.entries(sets).map(([name, data]) => points(name, data, latents.length));
    this.chart?.destroy();
    this.chart = new Chart(this.canvas, {
      type: "scatter",
      data: { datasets },
      options: this.options(axes),
      plugins: [this.guides],
    });
    return nBeyond;
  }

  options(scales) {
    return {
      animation: false,
      maintainAspectRatio: false,
      interaction: { mode: "nearest", intersect: true },
      scales,
      plugins: {
        legend: { display: false },
        tooltip: { enabled: false, external: ({ tooltip }) => this.tooltip.follow(tooltip) },
      },
      onHover: (_, found) => {
        this.canvas.style.cursor = found.length ? "pointer" : "default";
      },
      onClick: (_, found) => {
        if (found.length) this.open(found[0].element.$context.raw.latent);
      },
    };
  }

  destroy() {
    document.removeEventListener("theme", this.redraw);
    this.tooltip.hide();
    this.chart?.destroy();
  }
}

/** What is said of the point under the mouse. */
class Tooltip {
  constructor(canvas, describe) {
    Object.assign(this, { canvas, describe });
    this.element = document.getElementById("tooltip");
  }

  hide() {
    this.element.hidden = true;
  }

  /** Show what Chart.js says is to be shown. */
  follow({ opacity, dataPoints, caretX, caretY }) {
    if (!opacity || !dataPoints?.length) {
      this.hide();
      return;
    }
    const { element } = this;
    element.replaceChildren(...this.describe(dataPoints[0].raw.latent));
    element.hidden = false;
    // Right of the point and below it, or on the other side where the window ends.
    const box = this.canvas.getBoundingClientRect();
    const { clientWidth, clientHeight } = document.documentElement;
    const beside = (point, gap, size, end) =>
      point + gap + size > end ? Math.max(4, point - gap - size) : point + gap;
    const left = beside(box.left + caretX, 14, element.offsetWidth, clientWidth);
    const top = beside(box.top + caretY, 10, element.offsetHeight, clientHeight);
    element.style.left = `${window.scrollX + left}px`;
    element.style.top = `${window.scrollY + top}px`;
  }
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function axis(title, min, max, callback) {
  return {
    type: "linear",
    min,
    max,
    title: { display: true, text: title, color: colour("text") },
    ticks: { color: colour("muted"), callback, maxRotation: 0, includeBounds: false },
    grid: { color: colour("line") },
    border: { color: colour("muted") },
  };
}

/** Points of one colour, smaller where the plot has many; a triangle lies beyond the axis. */
function points(name, data, n) {
  let radius = 3;
  if (n > 4000) radius = 2;
  if (n > 20000) radius = 1.5;
  return {
    data,
    parsing: false,
    backgroundColor: `${colour(name)}99`,
    borderWidth: 0,
    pointRadius: ({ raw }) => (raw?.beyond ? 5 : radius),
    pointHoverRadius: 6,
    hoverBackgroundColor: colour(name),
    pointStyle: ({ raw }) => (raw?.beyond ? "triangle" : "circle"),
    pointRotation: ({ raw }) => (raw?.beyond < 0 ? 180 : 0),
    clip: 6,
  };
}

/** Lines at no effect, and dashed at θ. */
function guides(theta) {
  return {
    id: "guides",
    beforeDatasetsDraw({ ctx, chartArea: area, scales }) {
      const line = (from, to, dash) => {
        ctx.setLineDash(dash);
        ctx.beginPath();
        ctx.moveTo(...from);
        ctx.lineTo(...to);
        ctx.stroke();
      };
      ctx.save();
      ctx.strokeStyle = colour("muted");
      ctx.lineWidth = 1;
      const [zero, at] = [scales.y.getPixelForValue(0), scales.x.getPixelForValue(theta)];
      if (zero >= area.top && zero <= area.bottom) line([area.left, zero], [area.right, zero], []);
      if (at >= area.left && at <= area.right) line([at, area.top], [at, area.bottom], [5, 4]);
      ctx.restore();
    },
  };
}

/**
 * The bulk of the effects, as in Figure 4: the central 99 % and a margin, or all if little lies
 * beyond.
 */
function usualLimits(y) {
  const values = y.filter((value) => value !== null).sort((a, b) => a - b);
  if (!values.length) return [-1, 1];
  const [least, greatest] = [values[0], values[values.length - 1]];
  let [low, high] = [Math.min(0, quantile(values, 0.005)), Math.max(0, quantile(values, 0.995))];
  const span = high - low || greatest - least || 1;
  [low, high] = [Math.min(low, -0.1 * span), Math.max(high, 0.1 * span)];
  const [reach, margin] = [0.25 * (high - low), 0.05 * (high - low)];
  return [
    (least < low - reach ? low : Math.min(low, least)) - margin,
    (greatest > high + reach ? high : Math.max(high, greatest)) + margin,
  ];
}
