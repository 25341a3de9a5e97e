/* Effects, as in Figure 4: what each latent of the larger SAE does when added to the smaller. */

import { familyLink, findPair, keeper, latentLink, link } from "./address.js";
import { h, heading } from "./elements.js";
import { bounds, choice, filterForm, pairChoice, range } from "./filters.js";
import { cosineText, count, effectClass, percent, plural, scientific } from "./numbers.js";
import { load } from "./parts.js";
import { Scatter } from "./scatter.js";
import { pairLabel, pairName, saeLabel, study, topText, topToken } from "./study.js";
import { PagedTable } from "./table.js";

export async function effectsView(settings) {
  const effects = await readEffects(findPair(settings));
  const { pair } = effects;
  const keep = keeper("effects", settings);
  const caption = `Latents of ${saeLabel(pair.large)}`;
  const table = new PagedTable(caption, columns(effects), settings, keep);
  const status = h("p", { role: "status", class: "note" });
  const canvas = h("canvas", { role: "img" });
  const plot = scatter(canvas, effects);

  function refresh() {
    const limits = { x: bounds(settings, "cosine"), y: bounds(settings, "effect") };
    const found = effects.all.filter(chosen(settings, effects, limits));
    const drawn = found.filter((i) => effects.delta[i] !== null);
    const nBeyond = plot.show(drawn, limits);
    status.textContent = summary(effects, found, drawn, nBeyond);
    canvas.setAttribute(
      "aria-label",
      `Scatter of the change in MSE against the max cosine for ${plural(drawn.length, "latent")} ` +
        `of ${saeLabel(pair.large)}; the table below holds the same values.`,
    );
    table.update(found);
  }

  const change = (changes) => {
    keep({ ...changes, page: null });
    refresh();
  };
  const view = [
    heading(`Adding each latent of ${saeLabel(pair.large)} to ${saeLabel(pair.small)}`),
    lead(effects),
    filters(settings, change, effects),
    h("div", { class: "chart" }, canvas),
    legend(pair),
    status,
    table.place,
  ];
  // Chart.js measures its canvas, which must be on the page.
  return { title: `Effects ${pairLabel(pair)}`, view, shown: refresh, left: () => plot.destroy() };
}

/** What is shown of the latents of a pair's larger SAE, by latent. */
async function readEffects(number) {
  const pair = study.pairs[number];
  const [data, info] = await Promise.all([load(`pair/${number}`), load(`latents/${pair.large}`)]);
  const { delta_mse: delta, standard_error: error, max_cosine: cosine, family } = data.large;
  return {
    number,
    pair,
    info,
    delta,
    error,
    cosine,
    family,
    all: delta.map((_, latent) => latent),
    rate: (latent) => info.n_active[latent] / study.n_tokens,
    group: (latent) => (family[latent] < 0 ? "novel" : "reconstruction"),
  };
}

function columns({ pair, info, delta, error, cosine, family, rate, group }) {
  const latentCell = (i) => h("a", { href: latentLink(pair.large, i) }, i);
  const effectCell = (i) => h("span", { class: effectClass(delta[i]) }, scientific(delta[i]));
  const errorCell = (i) => scientific(delta[i] === null ? null : error[i], 2);
  const tokenText = (i) => topText(info, i);
  const tokenCell = (i) => topToken(info, i);
  const cosineCell = (i) => cosineText(cosine[i]);
  const familyOf = (i) => (family[i] < 0 ? null : family[i]);
  const familyCell = (i) =>
    family[i] < 0 ? "–" : h("a", { href: familyLink(pair, family[i]) }, family[i]);
  return [
    { key: "latent", title: "Latent", value: (i) => i, cell: latentCell },
    { key: "token", title: "Top token", text: true, value: tokenText, cell: tokenCell },
    { key: "cosine", title: "Max cosine", value: (i) => cosine[i], cell: cosineCell },
    { key: "effect", title: "Change in MSE", value: (i) => delta[i], cell: effectCell },
    { key: "error", title: "Standard error", value: (i) => error[i], cell: errorCell },
    { key: "rate", title: "Active on", value: rate, cell: (i) => percent(rate(i)) },
    { key: "group", title: "Group", text: true, value: group, cell: group },
    { key: "family", title: "Family", value: familyOf, cell: familyCell },
  ];
}

function scatter(canvas, { pair, info, delta, error, cosine, rate, group }) {
  return new Scatter(canvas, {
    theta: pair.theta,
    x: cosine,
    y: delta,
    xTitle: `Max cosine to a latent of ${saeLabel(pair.small)}`,
    yTitle: "Change in MSE when added",
    describe: (i) => [
      h("p", {}, h("strong", {}, `${saeLabel(pair.large)}, latent ${i}`), " ", topToken(info, i)),
      h("p", {}, `Max cosine ${cosineText(cosine[i])}, ${group(i)}`),
      h(
        "p",
        { class: effectClass(delta[i]) },
        `Change in MSE ${scientific(delta[i])} ± ${scientific(error[i], 2)}`,
      ),
      h("p", {}, `Active on ${percent(rate(i))} of the tokens`),
    ],
    open: (i) => {
      location.hash = latentLink(pair.large, i);
    },
  });
}

/** Whether the filters let a latent through. */
function chosen(settings, { delta, error, cosine, rate, group }, limits) {
  const within = (value, [low, high]) => value >= low && value <= high;
  const rates = bounds(settings, "rate", 100);
  const wanted = settings.get("group");
  const sign = settings.get("sign");
  // A latent that is never active has no effect: it is there unless effects are asked for.
  const anyEffect = !sign && limits.y[0] === -Infinity && limits.y[1] === Infinity;
  return (i) =>
    (!wanted || group(i) === wanted) &&
    (delta[i] === null ? anyEffect : within(delta[i], limits.y)) &&
    (!sign || effectClass(delta[i]) === sign.replace(/-.*/, "")) &&
    (!sign || !sign.endsWith("-2se") || Math.abs(delta[i]) > 2 * error[i]) &&
    within(cosine[i], limits.x) &&
    within(rate(i), rates);
}

function summary({ all, delta }, found, drawn, nBeyond) {
  const lowers = drawn.filter((i) => delta[i] < 0).length;
  const silent = found.length - drawn.length;
  return (
    `${plural(found.length, "latent")} of ${count(all.length)}: ${count(lowers)} lower the MSE, ` +
    `${count(drawn.length - lowers)} do not` +
    (silent ? `, ${count(silent)} never active` : "") +
    (nBeyond ? `. ${plural(nBeyond, "point")} beyond the axis at its edge (▲)` : "") +
    "."
  );
}

function lead({ pair, all, delta }) {
  const silent = all.filter((latent) => delta[latent] === null).length;
  const has = silent === 1 ? "has" : "have";
  return h(
    "p",
    { class: "lead" },
    "Each point is a latent of the larger SAE: the change in the smaller SAE's MSE when it alone " +
      "is added, against its greatest decoder cosine to the smaller SAE. " +
      `Left of θ = ${pair.theta} latents are novel. ` +
      "Hover for details, click to open the latent." +
      (silent
        ? ` ${plural(silent, "latent")} never active on the eval tokens ${has} no effect to show.`
        : ""),
  );
}

function filters(settings, change, { number, pair }) {
  const clear = () => {
    location.hash = link("effects", { pair: pairName(pair) });
  };
  return filterForm(
    pairChoice("effects", number),
    choice(settings, change, "group", "Group", [
      ["", "all"],
      ["novel", "novel"],
      ["reconstruction", "reconstruction"],
    ]),
    choice(settings, change, "sign", "MSE", [
      ["", "any change"],
      ["decreases", "lowered"],
      ["increases", "not lowered"],
      ["decreases-2se", "lowered by more than 2 standard errors"],
      ["increases-2se", "raised by more than 2 standard errors"],
    ]),
    range(settings, change, "cosine", "Max cosine"),
    range(settings, change, "effect", "Change in MSE"),
    range(settings, change, "rate", "Active on, % of tokens"),
    h("button", { type: "button", onclick: clear }, "Clear"),
  );
}

function legend({ theta }) {
  return h(
    "ul",
    { class: "legend" },
    h("li", { class: "decreases" }, h("i"), "lowers the MSE"),
    h("li", { class: "increases" }, h("i"), "does not"),
    h("li", {}, `dashed: θ = ${theta}`),
  );
}
