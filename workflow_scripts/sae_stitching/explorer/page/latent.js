/* A latent: where it is active, what it does, and what is near it in other SAEs. */

import { familyLink, findNumber, findSae, latentLink } from "./address.js";
import { fact, facts, h, heading, scrolled } from "./elements.js";
import { cosineText, count, effectClass, percent, plural, scientific } from "./numbers.js";
import { load } from "./parts.js";
import { pairsOf, saeLabel, study, topToken } from "./study.js";

export async function latentView(settings) {
  const sae = findSae(settings.get("sae") ?? study.saes[0].name);
  const size = study.saes[sae].d_sae;
  const latent = findNumber(settings, "latent", size, saeLabel(sae));
  const info = await load(`latents/${sae}`);
  const step = (to, text) => h("a", { href: latentLink(sae, to) }, text);
  const title = `${saeLabel(sae)}, latent ${latent}`;
  const view = [
    heading(title),
    activity(info, latent),
    neuronpediaLink(sae, latent),
    h(
      "p",
      { class: "pages" },
      latent > 0 ? step(latent - 1, "Previous latent") : null,
      latent + 1 < size ? step(latent + 1, "Next latent") : null,
    ),
    h("h2", {}, "Top activating passages"),
    h(
      "p",
      { class: "note" },
      "The marked token is the one with the greatest activation of its sequence; " +
        "the deeper the ground, the greater the activation.",
    ),
    h("div", { class: "card" }, await passagesOf(sae, latent, info)),
    h("h2", {}, "In other SAEs"),
    await standingTable(sae, latent),
    h("h2", {}, "Nearest latents"),
    await nearestOf(sae, latent),
  ];
  document.querySelector("#search select").value = sae;
  return { title, view };
}

/** A link to the latent's page on Neuronpedia, where its SAE is there. */
function neuronpediaLink(sae, latent) {
  const name = study.saes[sae].neuronpedia;
  if (!name) return null;
  const address = `https://www.neuronpedia.org/${name.split("/").map(encodeURIComponent).join("/")}/${latent}`;
  return h(
    "p",
    {},
    h("a", { href: address, rel: "noreferrer", target: "_blank" }, "This latent on Neuronpedia"),
    " (leaves this page for the network)",
  );
}

export function activity(info, latent) {
  const n = info.n_active[latent];
  const share = `${percent(n / study.n_tokens)} of the tokens`;
  return facts(
    fact("Active on", `${share} (${count(n)} of ${count(study.n_tokens)})`),
    fact("Greatest activation", scientific(info.max[latent])),
  );
}

/** Its effects on the smaller SAEs that it was added to, if there are any. */
export async function effectFacts(sae, latent) {
  const lists = await Promise.all(
    pairsOf(sae)
      .filter(({ side }) => side === "large")
      .map(async ({ pair, number }) => {
        const { large } = await load(`pair/${number}`);
        const delta = large.delta_mse[latent];
        return fact(
          `Added to ${saeLabel(pair.small)}`,
          h("span", { class: effectClass(delta) }, scientific(delta)),
          delta === null ? "" : ` ± ${scientific(large.standard_error[latent], 2)}`,
        );
      }),
  );
  return lists.length ? [facts(...lists)] : [];
}

export async function nearestOf(sae, latent) {
  const lists = await Promise.all(
    pairsOf(sae).map(async ({ number, side, other }) => {
      const [links, info] = await Promise.all([load(`links/${number}`), load(`latents/${other}`)]);
      const flat = links[side][latent]; // latent and cosine in turn
      const items = [];
      for (let i = 0; i < flat.length; i += 2) {
        const name = h("a", { href: latentLink(other, flat[i]) }, `${flat[i]}`);
        items.push(h("li", {}, name, " ", topToken(info, flat[i]), ` ${cosineText(flat[i + 1])}`));
      }
      return h(
        "div",
        {},
        h("p", { class: "note" }, `${saeLabel(other)}, by decoder cosine:`),
        h("ul", { class: "nearest" }, items),
      );
    }),
  );
  return h("div", {}, lists.length ? lists : h("p", {}, "No other SAE is compared with this one."));
}

export async function passagesOf(sae, latent, info, most = Infinity) {
  const part = await load(`passages/${sae}/${Math.floor(latent / study.chunk)}`);
  const passages = part[latent % study.chunk];
  if (!passages.length) return h("p", { class: "note" }, "Never active on the eval tokens.");
  const items = passages.slice(0, most).map((passage) => passageItem(passage, info.max[latent]));
  return h("ol", { class: "passages" }, items);
}

function passageItem([document_, sequence, position, marked, tokens, active], greatest) {
  const strength = Array.from(tokens, () => 0);
  for (let i = 0; i < active.length; i += 2) strength[active[i]] = active[i + 1];
  const words = tokens.map((token, i) => {
    const whole = study.vocabulary[token].replace(/\r?\n/g, "⏎");
    const text = i === 0 ? whole.trimStart() : whole;
    if (!strength[i] && i !== marked) return text;
    const title = `activation ${scientific(strength[i])}`;
    const word = h(i === marked ? "mark" : "span", { title }, text);
    word.style.setProperty("--a", (strength[i] / (greatest || 1)).toFixed(3));
    return word;
  });
  const title = `Document ${document_}, sequence ${sequence}, position ${position}`;
  return h(
    "li",
    {},
    h("span", { class: "strength", title }, scientific(strength[marked])),
    h("p", { class: "passage" }, words),
  );
}

/** What the latent is beside each SAE that its own is compared with. */
async function standingTable(sae, latent) {
  const titles = ["SAE", "Here", "Max cosine", "Change in its MSE", "Standard error", "Family"];
  const head = (title, i) => h("th", { scope: "col", class: i === 1 && "text" }, title);
  const rows = await Promise.all(pairsOf(sae).map((comparison) => standingRow(comparison, latent)));
  return scrolled(
    "In other SAEs",
    h("thead", {}, h("tr", {}, titles.map(head))),
    h("tbody", {}, rows),
  );
}

async function standingRow({ pair, number, side, other }, latent) {
  const data = await load(`pair/${number}`);
  const family = data[side].family[latent];
  const delta = side === "large" ? data.large.delta_mse[latent] : null;
  const error = delta === null ? "–" : scientific(data.large.standard_error[latent], 2);
  const effect = side === "large" ? scientific(delta) : "–";
  const familyName = h("a", { href: familyLink(pair, family) }, `family ${family}`);
  return h(
    "tr",
    {},
    h("td", {}, saeLabel(other)),
    h("td", { class: "text" }, standing(side, family, data.families)),
    h("td", {}, cosineText(data[side].max_cosine[latent])),
    h("td", { class: effectClass(delta) }, effect),
    h("td", {}, error),
    h("td", {}, family < 0 ? "–" : familyName),
  );
}

function standing(side, family, families) {
  if (side === "large") return family < 0 ? "novel" : "reconstruction";
  return family < 0 ? "no match" : `${plural(families.n_large[family], "latent")} there`;
}
