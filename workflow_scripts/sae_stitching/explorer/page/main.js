/* The page: which view is shown, its theme, and how it starts. */

import { NotFound, address, latentLink } from "./address.js";
import { effectsView } from "./effects.js";
import { h, heading } from "./elements.js";
import { familiesView } from "./families.js";
import { familyView } from "./family.js";
import { latentView } from "./latent.js";
import { studyView } from "./overview.js";
import { loadStudy, saeLabel, study } from "./study.js";

// A view is given the settings of the address and returns its title and elements; `shown` is called
// when these are on the page, `left` when another view takes their place.
const VIEWS = new Map([
  ["effects", effectsView],
  ["families", familiesView],
  ["family", familyView],
  ["latent", latentView],
  ["study", studyView],
]);

let leave = () => {};
let turnOf = 0;

async function route() {
  const mine = ++turnOf;
  const { view: name, settings } = address();
  if (name === "main") return; // the skip link
  const main = document.getElementById("main");
  main.setAttribute("aria-busy", "true");
  const page = await viewed(name, settings);
  if (mine !== turnOf) {
    page.left?.(); // another address was asked for meanwhile
    return;
  }
  leave();
  leave = page.left ?? (() => {});
  document.title = `${page.title} – ${study.study}`;
  markTab(name === "family" ? "families" : name);
  main.replaceChildren(...page.view);
  page.shown?.();
  main.removeAttribute("aria-busy");
  if (mine > 1) {
    window.scrollTo(0, 0);
    main.querySelector("h1").focus({ preventScroll: true });
  }
}

/** A view, or what there is to say where it cannot be had. */
async function viewed(name, settings) {
  try {
    if (!VIEWS.has(name)) throw new NotFound(`There is no view ${name}.`);
    return await VIEWS.get(name)(settings);
  } catch (error) {
    const expected = error instanceof NotFound || /cannot be read/.test(error.message);
    if (!expected) console.error(error);
    const said = h("p", { class: "error", role: "alert" }, error.message);
    return { title: "Not found", view: [heading("Not found"), said] };
  }
}

function markTab(name) {
  for (const tab of document.querySelectorAll("nav a")) {
    if (tab.getAttribute("href") === `#${name}`) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
}

function theme() {
  const button = document.getElementById("theme");
  const set = (name) => {
    document.documentElement.dataset.theme = name;
    button.setAttribute("aria-pressed", String(name === "dark"));
    document.dispatchEvent(new Event("theme"));
  };
  // A page opened from the disk may have no storage.
  const stored = (value) => {
    try {
      if (value) localStorage.setItem("theme", value);
      return localStorage.getItem("theme");
    } catch {
      return null;
    }
  };
  set(stored() ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
  button.addEventListener("click", () => {
    const name = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    stored(name);
    set(name);
  });
}

async function start() {
  theme();
  await loadStudy();
  const search = document.getElementById("search");
  search.sae.append(...study.saes.map((_, i) => h("option", { value: i }, saeLabel(i))));
  search.addEventListener("submit", (event) => {
    event.preventDefault();
    location.hash = latentLink(Number(search.sae.value), search.latent.value);
  });
  window.addEventListener("hashchange", route);
  await route();
}

start().catch((error) => {
  const said = h("p", { class: "error", role: "alert" }, error.message);
  document.getElementById("main").replaceChildren(said);
});
