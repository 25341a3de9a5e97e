/* The drawing of a family: its latents of both SAEs, and lines for the cosines between them. */

import { latentLink } from "./address.js";
import { h, svg, visible } from "./elements.js";
import { cosineText, plural } from "./numbers.js";
import { saeLabel, topText } from "./study.js";

const DRAWN = 24; // latents of one side in a drawing
const SIDES = ["small", "large"];

/**
 * Order both sides so that few edges cross: each latent by the mean place of those it is linked to.
 */
export function untangle(small, large, edges) {
  const sides = { small: [...small], large: [...large] };
  const passes = [
    ["large", "small"],
    ["small", "large"],
    ["large", "small"],
  ];
  for (const [side, other] of passes) {
    const place = new Map(sides[other].map((latent, i) => [latent, i]));
    const sums = new Map(sides[side].map((latent) => [latent, [0, 0]]));
    for (const edge of edges) {
      const sum = sums.get(edge[side]);
      sum[0] += place.get(edge[other]);
      sum[1] += 1;
    }
    const mean = (latent) => sums.get(latent)[0] / Math.max(1, sums.get(latent)[1]);
    sides[side].sort((a, b) => mean(a) - mean(b) || a - b);
  }
  return sides;
}

/** A drawing that follows the width of the page. `info` holds the part latents/ of each side. */
export function drawing(pair, sides, edges, info) {
  const place = h("div", { class: "drawing" });
  const shown = { small: sides.small.slice(0, DRAWN), large: sides.large.slice(0, DRAWN) };
  const total = sides.small.length + sides.large.length;
  const hidden = total - shown.small.length - shown.large.length;
  let width = 0;
  new ResizeObserver(() => {
    if (place.clientWidth === width) return;
    width = place.clientWidth;
    place.replaceChildren(picture(pair, layout(shown, width), edges, info));
    if (hidden) {
      const more = `${plural(hidden, "more latent")} not drawn; the table has all edges.`;
      place.append(h("p", { class: "note" }, more));
    }
  }).observe(place);
  return place;
}

/** Where things are, for a width of the page in pixels. */
function layout(shown, available) {
  const width = Math.max(300, Math.min(1180, available - 20));
  const box = Math.min(250, 0.36 * width); // width of a latent's
  const [step, top] = [46, 30];
  const rows = Math.max(shown.small.length, shown.large.length);
  return {
    shown,
    width,
    box,
    height: top + rows * step,
    /** Height of a latent's middle, null where it is not drawn. */
    at(side, latent) {
      const i = shown[side].indexOf(latent);
      const offset = ((rows - shown[side].length) * step) / 2;
      return i < 0 ? null : top + offset + i * step + step / 2;
    },
  };
}

function picture(pair, place, edges, info) {
  const { shown, width, box, height } = place;
  const lines = drawnEdges(place, edges);
  const nodes = SIDES.flatMap((side) =>
    shown[side].map((latent) => node(place, side, pair[side], latent, info[side])),
  );
  return svg(
    "svg",
    {
      viewBox: `0 0 ${width} ${height}`,
      style: `max-width: ${width}px`,
      role: "group",
      "aria-label": "Latents and the cosines between them",
    },
    svg("text", { class: "side", x: 1, y: 18 }, saeLabel(pair.small)),
    svg("text", { class: "side", x: width - box, y: 18 }, saeLabel(pair.large)),
    lines.map(({ line }) => line),
    lines.map(({ label }) => label),
    nodes,
  );
}

/** A line and a label for each edge between drawn latents. */
function drawnEdges({ at, box, width }, edges) {
  const degree = { small: new Map(), large: new Map() };
  for (const edge of edges)
    for (const side of SIDES)
      degree[side].set(edge[side], (degree[side].get(edge[side]) || 0) + 1);
  const [left, right] = [box, width - box];
  return edges.flatMap(({ small, large, cosine }, i) => {
    const [from, to] = [at("small", small), at("large", large)];
    if (from === null || to === null) return [];
    const thickness = 1 + 5 * Math.max(0, cosine - 0.5);
    const ends = { x1: left, y1: from, x2: right, y2: to };
    const share = labelPlace(degree.small.get(small), degree.large.get(large), i);
    const [x, y] = [left + share * (right - left), from + share * (to - from) + 4];
    return [
      {
        line: svg("line", { ...ends, "stroke-width": thickness }),
        label: svg("text", { class: "cosine", x, y }, cosineText(cosine)),
      },
    ];
  });
}

/**
 * Share of the way along edge `i` at which its cosine is written: near the end where fewer edges
 * meet, so that the labels of a fan stand apart.
 */
function labelPlace(degreeSmall, degreeLarge, i) {
  if (degreeSmall > degreeLarge) return 0.76;
  if (degreeSmall < degreeLarge) return 0.24;
  return degreeSmall === 1 ? 0.5 : [0.3, 0.5, 0.7][i % 3];
}

/** A latent's box with its number and top token, cut where the box ends. */
function node({ at, box, width }, side, sae, latent, info) {
  const [x, y] = [side === "small" ? 1 : width - box, at(side, latent)];
  const top = topText(info, latent);
  const text = top === null ? "" : visible(top).trim();
  const room = Math.floor((box - 16) / 8.2) - String(latent).length - 3;
  const short = text.length > room ? `${text.slice(0, Math.max(1, room - 1))}…` : text;
  return svg(
    "a",
    {
      href: latentLink(sae, latent),
      "aria-label": `${saeLabel(sae)}, latent ${latent} ${text}`,
    },
    svg("rect", { x, y: y - 15, width: box - 1, height: 30, rx: 6 }),
    svg("text", { x: x + 8, y: y + 5 }, `${latent}${short ? ` · ${short}` : ""}`),
  );
}
