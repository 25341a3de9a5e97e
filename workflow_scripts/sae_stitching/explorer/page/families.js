/* The families of a pair. */

import { familyLink, findPair, keeper } from "./address.js";
import { h, heading } from "./elements.js";
import { bounds, choice, filterForm, pairChoice, range } from "./filters.js";
import { count, effectClass, scientific } from "./numbers.js";
import { load } from "./parts.js";
import { pairLabel, saeLabel, study, topToken } from "./study.js";
import { PagedTable } from "./table.js";

const KINDS = [
  ["", "all"],
  ["one", "1 to 1"],
  ["split", "1 to several"],
  ["merge", "several to 1"],
  ["many", "several to several"],
];

const TOKENS = 4; // latents whose top tokens stand for a family

export async function familiesView(settings) {
  const number = findPair(settings);
  const pair = study.pairs[number];
  const [data, info] = await Promise.all([load(`pair/${number}`), load(`latents/${pair.small}`)]);
  const { n_small: nSmall, n_large: nLarge } = data.families;
  const keep = keeper("families", settings);
  const name = `Families of ${saeLabel(pair.small)} and ${saeLabel(pair.large)}`;
  const table = new PagedTable(name, columns(pair, data, info), settings, keep);

  function refresh() {
    const kind = settings.get("kind");
    const [low, high] = bounds(settings, "size");
    table.update(
      [...nSmall.keys()].filter((i) => {
        const size = nSmall[i] + nLarge[i];
        return (!kind || kindOf(nSmall[i], nLarge[i]) === kind) && size >= low && size <= high;
      }),
    );
  }

  const change = (changes) => {
    keep({ ...changes, page: null });
    refresh();
  };
  const view = [
    heading(name),
    h(
      "p",
      { class: "lead" },
      `Latents of the two SAEs that are linked by decoder cosines of θ = ${pair.theta} or more. ` +
        `A swap takes a family's latents of the smaller SAE out and puts those of the larger in.`,
    ),
    filterForm(
      pairChoice("families", number),
      choice(settings, change, "kind", "Latents, smaller to larger SAE", KINDS),
      range(settings, change, "size", "Latents of both SAEs"),
    ),
    table.place,
  ];
  return { title: `Families ${pairLabel(pair)}`, view, shown: refresh };
}

function columns(pair, data, info) {
  const { n_small: nSmall, n_large: nLarge, delta_mse: delta, delta_l0: deltaL0 } = data.families;
  const first = firstLatents(data.small.family);
  const size = (key, n) => {
    const title = `Latents of ${saeLabel(pair[key])}`;
    return { key, title, value: (i) => n[i], cell: (i) => count(n[i]) };
  };
  const familyCell = (i) => h("a", { href: familyLink(pair, i) }, i);
  const tokensCell = (i) => (first.get(i) || []).flatMap((latent) => [topToken(info, latent), " "]);
  const effectCell = (i) => h("span", { class: effectClass(delta[i]) }, scientific(delta[i]));
  const l0Cell = (i) => scientific(deltaL0[i]);
  return [
    { key: "family", title: "Family", value: (i) => i, cell: familyCell },
    { key: "token", title: "Top tokens", text: true, cell: tokensCell },
    size("small", nSmall),
    size("large", nLarge),
    { key: "effect", title: "Change in MSE, swapped", value: (i) => delta[i], cell: effectCell },
    { key: "l0", title: "Change in L0", value: (i) => deltaL0[i], cell: l0Cell },
  ];
}

/** Family → its first latents, of the families of an SAE's latents. */
function firstLatents(families) {
  const first = new Map();
  families.forEach((family, latent) => {
    if (family >= 0) first.set(family, [...(first.get(family) || []), latent].slice(0, TOKENS));
  });
  return first;
}

function kindOf(nSmall, nLarge) {
  if (nSmall === 1) return nLarge === 1 ? "one" : "split";
  return nLarge === 1 ? "merge" : "many";
}
