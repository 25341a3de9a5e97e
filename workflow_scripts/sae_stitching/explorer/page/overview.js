/* The study: its SAEs and pairs. */

import { latentLink, link } from "./address.js";
import { fact, facts, h, heading, scrolled } from "./elements.js";
import { count, scientific } from "./numbers.js";
import { pairLabel, pairName, saeLabel, study } from "./study.js";

const PAIR_TITLES = [
  "Larger → smaller",
  "θ",
  "Novel latents",
  "Families",
  "MSE of the smaller",
  "MSE of the larger",
];

const CREDIT = "Charts are drawn by Chart.js, © Chart.js Contributors, MIT licence.";

export function studyView() {
  const title = `Study ${study.study}`;
  const view = [
    heading(title),
    facts(
      fact("Model", study.model),
      fact("Hook", study.hook),
      fact("Eval tokens", count(study.n_tokens)),
    ),
    h("h2", {}, "SAEs"),
    plainTable("SAEs", ["SAE", "Latents"], study.saes.map(saeCells)),
    h("h2", {}, "Pairs"),
    plainTable("Pairs", PAIR_TITLES, study.pairs.map(pairCells)),
    h("h2", {}, "What is shown"),
    h(
      "p",
      { class: "lead" },
      "Numbers are over the eval tokens, whose documents no SAE was trained on. The change in MSE " +
        "is that of the smaller SAE when one latent of the larger is added to it. A latent of the " +
        "larger SAE is novel if its greatest decoder cosine to the smaller SAE is below θ, " +
        "otherwise a reconstruction latent. Of each sequence only the token with the latent's " +
        "greatest activation starts a passage. A token that is part of a character is shown as �.",
    ),
    h("p", { class: "note" }, CREDIT),
  ];
  return { title, view };
}

const saeCells = ({ d_sae: size }, i) => [
  h("a", { href: latentLink(i, 0) }, saeLabel(i)),
  count(size),
];

function pairCells(pair) {
  const to = (view, text) => h("a", { href: link(view, { pair: pairName(pair) }) }, text);
  return [
    to("effects", pairLabel(pair)),
    `${pair.theta}`,
    count(pair.n_novel),
    to("families", count(pair.n_families)),
    scientific(pair.mse_small, 4),
    scientific(pair.mse_large, 4),
  ];
}

function plainTable(caption, titles, rows) {
  const heads = titles.map((title) => h("th", { scope: "col" }, title));
  const row = (cells) => h("tr", {}, cells.map((cell) => h("td", {}, cell)));
  return scrolled(
    caption,
    h("caption", {}, caption),
    h("thead", {}, h("tr", {}, heads)),
    h("tbody", {}, rows.map(row)),
  );
}
