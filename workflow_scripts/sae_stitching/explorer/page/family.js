/* A family: the cosines in it, and its latents' passages side by side. */

import { change, familyLink, findNumber, findPair, latentLink, link } from "./address.js";
import { drawing, untangle } from "./drawing.js";
import { fact, facts, h, heading } from "./elements.js";
import { activity, effectFacts, nearestOf, passagesOf } from "./latent.js";
import { effectClass, plural, scientific } from "./numbers.js";
import { load } from "./parts.js";
import { pairLabel, pairName, saeLabel, study, topToken } from "./study.js";
import { PagedTable } from "./table.js";

const CARDS = 6; // latents of one side with their passages, until more are asked for
const PASSAGES = 5; // of a card

export async function familyView(settings) {
  const number = findPair(settings);
  const pair = study.pairs[number];
  const [data, links, small, large] = await Promise.all([
    load(`pair/${number}`),
    load(`links/${number}`),
    load(`latents/${pair.small}`),
    load(`latents/${pair.large}`),
  ]);
  const family = findNumber(settings, "family", pair.n_families, pairName(pair));
  const edges = edgesOf(family, data, links);
  const members = (side) =>
    data[side].family.flatMap((other, latent) => (other === family ? [latent] : []));
  const sides = untangle(members("small"), members("large"), edges);
  const view = [
    heading(`Family ${family} of ${saeLabel(pair.small)} and ${saeLabel(pair.large)}`),
    h(
      "p",
      { class: "lead" },
      `${plural(sides.small.length, "latent")} of ${saeLabel(pair.small)} and ` +
        `${plural(sides.large.length, "latent")} of ${saeLabel(pair.large)}, ` +
        `linked by cosines of θ = ${pair.theta} or more.`,
    ),
    swapFacts(data.families, family),
    steps(pair, family),
    h("h2", {}, "Decoder cosines"),
    drawing(pair, sides, edges, { small, large }),
    edgeTable(pair, edges),
    h("h2", {}, "Top activating passages, side by side"),
    h(
      "div",
      { class: "cards" },
      await cardColumn(pair.small, sides.small, small),
      await cardColumn(pair.large, sides.large, large),
    ),
  ];
  return { title: `Family ${family}, ${pairLabel(pair)}`, view };
}

function edgesOf(family, data, { edges }) {
  return edges.small.flatMap((small, i) =>
    data.small.family[small] === family
      ? [{ small, large: edges.large[i], cosine: edges.cosine[i] }]
      : [],
  );
}

function swapFacts(swaps, family) {
  const delta = swaps.delta_mse[family];
  return facts(
    fact(
      "Swapped, the MSE changes by",
      h("span", { class: effectClass(delta) }, scientific(delta)),
      ` ± ${scientific(swaps.standard_error[family], 2)}`,
    ),
    fact("and L0 by", scientific(swaps.delta_l0[family])),
  );
}

function steps(pair, family) {
  const step = (to, text) => h("a", { href: familyLink(pair, to) }, text);
  return h(
    "p",
    { class: "pages" },
    family > 0 ? step(family - 1, "Previous family") : null,
    family + 1 < pair.n_families ? step(family + 1, "Next family") : null,
    h("a", { href: link("families", { pair: pairName(pair) }) }, "All families"),
  );
}

function edgeTable(pair, edges) {
  const settings = new URLSearchParams(); // not those of the address: that is the view's
  const end = (side) => ({
    key: side,
    title: saeLabel(pair[side]),
    value: (i) => edges[i][side],
    cell: (i) => h("a", { href: latentLink(pair[side], edges[i][side]) }, edges[i][side]),
  });
  const cosineCell = (i) => edges[i].cosine.toFixed(3);
  const table = new PagedTable(
    `Edges: cosines of ${pair.theta} or more`,
    [
      end("small"),
      end("large"),
      { key: "cosine", title: "Cosine", value: (i) => edges[i].cosine, cell: cosineCell },
    ],
    settings,
    (changes) => change(settings, changes),
  );
  table.update(edges.keys());
  const name = h("summary", {}, `${plural(edges.length, "edge")} as a table`);
  return h("details", {}, name, table.place);
}

async function cardColumn(sae, latents, info) {
  const column = h("section", { "aria-label": saeLabel(sae) });
  let shown = 0;
  const more = h("button", { type: "button", onclick: () => grow() });
  async function grow() {
    const next = latents.slice(shown, shown + CARDS);
    shown += next.length;
    const cards = await Promise.all(next.map((latent) => card(sae, latent, info)));
    more.remove();
    column.append(...cards);
    more.textContent = `${plural(latents.length - shown, "more latent")} of ${saeLabel(sae)}`;
    if (shown < latents.length) column.append(more);
  }
  await grow();
  return column;
}

async function card(sae, latent, info) {
  const name = h("a", { href: latentLink(sae, latent) }, `${saeLabel(sae)}, latent ${latent}`);
  return h(
    "article",
    { class: "card" },
    h("h3", {}, name, " ", topToken(info, latent)),
    activity(info, latent),
    ...(await effectFacts(sae, latent)),
    h("h4", {}, "Nearest elsewhere"),
    await nearestOf(sae, latent),
    h("h4", {}, "Top activating passages"),
    await passagesOf(sae, latent, info, PASSAGES),
  );
}
