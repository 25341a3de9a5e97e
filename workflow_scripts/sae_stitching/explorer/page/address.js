/* The address after #: a view and its settings, as in #latent?sae=576&latent=3. */

import { count } from "./numbers.js";
import { pairName, study } from "./study.js";

export function address() {
  const [view, settings] = location.hash.slice(1).split(/\?(.*)/s);
  return { view: view || "effects", settings: new URLSearchParams(settings || "") };
}

export function link(view, settings = {}) {
  const given = Object.entries(settings).filter(
    ([, value]) => value !== "" && value !== null && value !== undefined,
  );
  const query = new URLSearchParams(given).toString();
  return `#${view}${query ? `?${query}` : ""}`;
}

export const latentLink = (sae, latent) => link("latent", { sae: study.saes[sae].name, latent });
export const familyLink = (pair, family) => link("family", { pair: pairName(pair), family });

/** What an address asks for is not in the study. */
export class NotFound extends Error {}

export function findPair(settings) {
  const name = settings.get("pair");
  if (!study.pairs.length) throw new NotFound("This study compares no SAEs.");
  const number = name === null ? 0 : study.pairs.findIndex((pair) => pairName(pair) === name);
  if (number < 0) throw new NotFound(`There is no pair ${name} in this study.`);
  return number;
}

export function findSae(name) {
  const number = study.saes.findIndex((sae) => sae.name === name);
  if (number < 0) throw new NotFound(`There is no SAE ${name} in this study.`);
  return number;
}

/** The number that a setting gives, from 0 and below a size; `owner` is what has so many. */
export function findNumber(settings, key, size, owner) {
  const number = Number(settings.get(key) ?? "0");
  if (!Number.isInteger(number) || number < 0 || number >= size) {
    const has = `it has ${count(size)}, from 0.`;
    throw new NotFound(`${owner} has no ${key} ${settings.get(key)}; ${has}`);
  }
  return number;
}

/** Give settings other values; null takes one away. */
export function change(settings, changes) {
  for (const [key, value] of Object.entries(changes)) {
    if (value === null) settings.delete(key);
    else settings.set(key, value);
  }
}

/** Change settings of the view that is shown, without a new entry in the history. */
export function keeper(view, settings) {
  return (changes) => {
    change(settings, changes);
    history.replaceState(null, "", link(view, Object.fromEntries(settings)));
  };
}
