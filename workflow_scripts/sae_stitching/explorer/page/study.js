/* The study that the page shows, and the names of what is in it. */

import { tokenMark } from "./elements.js";
import { load } from "./parts.js";

/** The part of that name and the vocabulary, from `loadStudy` on. */
export const study = {};

export async function loadStudy() {
  const [part, vocabulary] = await Promise.all([load("study"), load("vocabulary")]);
  Object.assign(study, part, { vocabulary });
}

export function saeLabel(number) {
  const { name } = study.saes[number];
  return /^\d+$/.test(name) ? `SAE-${name}` : name;
}

export const pairName = ({ small, large }) =>
  `${study.saes[small].name}--${study.saes[large].name}`;
export const pairLabel = ({ small, large }) => `${saeLabel(large)} → ${saeLabel(small)}`;

/** Pairs that an SAE is in, with their numbers and the side that it is on. */
export function pairsOf(sae) {
  return study.pairs.flatMap((pair, number) => {
    if (pair.small === sae) return [{ pair, number, side: "small", other: pair.large }];
    if (pair.large === sae) return [{ pair, number, side: "large", other: pair.small }];
    return [];
  });
}

/** Text of the token on which a latent is most active, null where it never is. */
export const topText = (info, latent) =>
  info.top[latent] < 0 ? null : study.vocabulary[info.top[latent]];

export function topToken(info, latent) {
  const text = topText(info, latent);
  return text === null ? "–" : tokenMark(text);
}
