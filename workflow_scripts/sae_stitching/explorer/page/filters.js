/* Filters: fields of a form whose values are settings of the address. */

import { link } from "./address.js";
import { h } from "./elements.js";
import { pairLabel, pairName, study } from "./study.js";

/** The form of a view's filters, which the page itself acts on. */
export function filterForm(...fields) {
  const stay = (event) => event.preventDefault();
  return h("form", { class: "filters", "aria-label": "Filters", onsubmit: stay }, fields);
}

export function choice(settings, change, key, title, options) {
  const select = h(
    "select",
    { name: key, onchange: () => change({ [key]: select.value || null }) },
    options.map(([value, text]) => h("option", { value }, text)),
  );
  select.value = settings.get(key) ?? options[0][0];
  if (select.selectedIndex < 0) select.selectedIndex = 0;
  return h("label", {}, h("span", {}, title), select);
}

export function range(settings, change, key, title) {
  const input = (end, label) => {
    const name = `${key}_${end}`;
    const field = h("input", {
      name,
      type: "number",
      step: "any",
      placeholder: "any",
      value: settings.get(name),
      "aria-label": `${title}, ${label}`,
      oninput: () => change({ [name]: field.value || null }),
    });
    return field;
  };
  return h(
    "fieldset",
    {},
    h("legend", {}, title),
    h("div", { class: "range" }, input("min", "at least"), "to", input("max", "at most")),
  );
}

/** Numbers between which a value must lie; an empty end is open. */
export function bounds(settings, key, scale = 1) {
  const end = (name, open) => {
    const text = settings.get(`${key}_${name}`);
    return text === null || text === "" || Number.isNaN(Number(text)) ? open : Number(text) / scale;
  };
  return [end("min", -Infinity), end("max", Infinity)];
}

export function pairChoice(view, current) {
  const open = () => {
    location.hash = link(view, { pair: pairName(study.pairs[Number(select.value)]) });
  };
  const select = h(
    "select",
    { name: "pair", onchange: open },
    study.pairs.map((pair, number) => h("option", { value: number }, pairLabel(pair))),
  );
  select.value = current;
  return h("label", {}, h("span", {}, "Pair (larger → smaller)"), select);
}
