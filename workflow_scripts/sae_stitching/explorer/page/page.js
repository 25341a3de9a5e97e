"use strict";

/* Text of the corpus may hold anything: it reaches the page as text nodes and never as HTML. */

// Parts of the data ------------------------------------------------------------------------------

const loaded = new Map(); // name of a part → promise of it
const handed = new Map(); // what a script of data/ handed over

// Called by the scripts in data/.
window.part = (name, value) => handed.set(name, value);

function load(name) {
  if (!loaded.has(name)) loaded.set(name, read(name));
  return loaded.get(name);
}

function read(name) {
  const inline = document.querySelector(`script[data-part="${name}"]`);
  if (inline) return Promise.resolve(JSON.parse(inline.textContent));
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = `data/${name.replaceAll("/", "-")}.js`;
    script.onload = () => resolve(handed.get(name));
    script.onerror = () =>
      reject(new Error(`${script.getAttribute("src")} cannot be read: keep the folder "data" beside index.html.`));
    document.head.append(script);
  });
}

// Small helpers ----------------------------------------------------------------------------------

/** An element; a child that is no node becomes text. */
function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function svg(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null && value !== undefined)
      element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

const SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/** A number to three digits, with × 10ⁿ where it is small or large. */
function scientific(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  const power = Number(exponent);
  if (power >= -2 && power < 5) return minus(Number(value.toPrecision(digits)).toString());
  const raised = String(Math.abs(power)).replace(/\d/g, (digit) => SUPERSCRIPT[digit]);
  return minus(`${mantissa} × 10${power < 0 ? "⁻" : ""}${raised}`);
}

/** The text at a tick: all of an axis are written in the same way. */
function tickText(value, _, ticks) {
  const greatest = Math.max(...ticks.map((tick) => Math.abs(tick.value)));
  return greatest < 0.001 ? scientific(value, 2) : minus(String(Number(value.toPrecision(3))));
}

const minus = (text) => text.replace(/^-/, "−");
const count = (value) => value.toLocaleString("en-US");
const cosineText = (value) => (value === null ? "–" : minus(value.toFixed(2)));
const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

function percent(share) {
  if (share === 0) return "0 %";
  const value = 100 * share;
  return `${value >= 0.1 ? Number(value.toPrecision(2)) : scientific(value, 2)} %`;
}

function quantile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.round(share * (sorted.length - 1))))];
}

const effectClass = (delta) => (delta === null ? "" : delta < 0 ? "decreases" : "increases");

/** A token in quotes by its ground; what cannot be seen is spelled out. */
function tokenMark(text) {
  return h("span", { class: "token" }, visible(text));
}

function visible(text) {
  const shown = text === "" ? "(empty)" : text.replace(/\r?\n/g, "⏎").replace(/\t/g, "⇥");
  return /^\s+$/.test(shown) ? shown.replace(/ /g, "␣") : shown;
}

// The study and the address ----------------------------------------------------------------------

let study; // the part of that name
let vocabulary;

const saeLabel = (number) => {
  const { name } = study.saes[number];
  return /^\d+$/.test(name) ? `SAE-${name}` : name;
};
const pairName = ({ small, large }) => `${study.saes[small].name}--${study.saes[large].name}`;
const pairLabel = ({ small, large }) => `${saeLabel(large)} → ${saeLabel(small)}`;

/** The address after #: a view and its settings, as in #latent?sae=576&latent=3. */
function address() {
  const [view, settings] = location.hash.slice(1).split(/\?(.*)/s);
  return { view: view || "effects", settings: new URLSearchParams(settings || "") };
}

function link(view, settings = {}) {
  const query = new URLSearchParams(
    Object.entries(settings).filter(([, value]) => value !== "" && value !== null && value !== undefined),
  ).toString();
  return `#${view}${query ? `?${query}` : ""}`;
}

const latentLink = (sae, latent) => link("latent", { sae: study.saes[sae].name, latent });
const familyLink = (pair, family) => link("family", { pair: pairName(pair), family });

class NotFound extends Error {}

function findPair(settings) {
  const name = settings.get("pair");
  if (!study.pairs.length) throw new NotFound("This study compares no SAEs.");
  const number = name === null ? 0 : study.pairs.findIndex((pair) => pairName(pair) === name);
  if (number < 0) throw new NotFound(`There is no pair ${name} in this study.`);
  return number;
}

function findSae(name) {
  const number = study.saes.findIndex((sae) => sae.name === name);
  if (number < 0) throw new NotFound(`There is no SAE ${name} in this study.`);
  return number;
}

// Tables and filters -----------------------------------------------------------------------------

const ROWS = 25;

/**
 * A table that sorts and turns pages; both are part of the address.
 * Columns: { key, title, text (bool), value(row), cell(row) }; rows are plain numbers.
 */
function pagedTable(caption, columns, settings, keep) {
  const place = h("div");
  let rows = [];
  let valuesKey = null;
  const body = h("tbody");
  const status = h("span", { role: "status" });
  const [back, on] = [
    h("button", { type: "button", onclick: () => turn(-1) }, "Previous"),
    h("button", { type: "button", onclick: () => turn(1) }, "Next"),
  ];
  const heads = columns.map((column) =>
    h(
      "th",
      { scope: "col", class: column.text && "text" },
      column.value
        ? h("button", { type: "button", onclick: () => sortBy(column.key) }, column.title)
        : column.title,
    ),
  );
  place.append(
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
      h("table", {}, h("caption", {}, caption), h("thead", {}, h("tr", {}, heads)), body),
    ),
    h("div", { class: "pages" }, back, on, status),
  );

  function sortBy(key) {
    const turned = settings.get("sort") === key && settings.get("order") !== "down";
    keep({ sort: key, order: turned ? "down" : null, page: null });
    show();
  }

  function turn(by) {
    const page = Number(settings.get("page") || 1) + by;
    keep({ page: page > 1 ? page : null });
    show();
  }

  function order() {
    const column = columns.find(({ key, value }) => value && key === settings.get("sort"));
    const down = settings.get("order") === "down";
    columns.forEach(({ key }, i) => {
      if (column && key === column.key) heads[i].setAttribute("aria-sort", down ? "descending" : "ascending");
      else heads[i].removeAttribute("aria-sort");
    });
    const wanted = `${column ? column.key : ""} ${down}`;
    if (valuesKey === wanted) return;
    valuesKey = wanted;
    if (!column) return;
    const values = new Map(rows.map((row) => [row, column.value(row)]));
    rows.sort((a, b) => {
      const [x, y] = [values.get(a), values.get(b)];
      if (x === null || y === null) return (x === null) - (y === null) || a - b; // unknown ones last
      const sign = typeof x === "string" ? x.localeCompare(y) : x - y;
      return (down ? -sign : sign) || a - b;
    });
  }

  function show() {
    order();
    const last = Math.max(1, Math.ceil(rows.length / ROWS));
    const page = Math.min(Math.max(1, Math.trunc(Number(settings.get("page"))) || 1), last);
    const first = (page - 1) * ROWS;
    body.replaceChildren(
      ...rows
        .slice(first, first + ROWS)
        .map((row) =>
          h("tr", {}, columns.map(({ cell, text }) => h("td", { class: text && "text" }, cell(row)))),
        ),
    );
    back.disabled = page === 1;
    on.disabled = page === last;
    status.textContent = rows.length
      ? `${count(first + 1)} to ${count(Math.min(first + ROWS, rows.length))} of ${count(rows.length)}`
      : "Nothing matches.";
  }

  return {
    place,
    update(found) {
      rows = [...found];
      valuesKey = null;
      show();
    },
  };
}

function choice(settings, change, key, title, options) {
  const select = h(
    "select",
    { name: key, onchange: () => change({ [key]: select.value || null }) },
    options.map(([value, text]) => h("option", { value }, text)),
  );
  select.value = settings.get(key) ?? options[0][0];
  if (select.selectedIndex < 0) select.selectedIndex = 0;
  return h("label", {}, h("span", {}, title), select);
}

function range(settings, change, key, title) {
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
function bounds(settings, key, scale = 1) {
  const end = (name, open) => {
    const text = settings.get(`${key}_${name}`);
    return text === null || text === "" || Number.isNaN(Number(text)) ? open : Number(text) / scale;
  };
  return [end("min", -Infinity), end("max", Infinity)];
}

/** Change settings of the view that is shown, without a new entry in the history. */
function keeper(view, settings) {
  return (changes) => {
    for (const [key, value] of Object.entries(changes)) {
      if (value === null) settings.delete(key);
      else settings.set(key, value);
    }
    history.replaceState(null, "", link(view, Object.fromEntries(settings)));
  };
}

function pairChoice(view, current) {
  const select = h(
    "select",
    {
      name: "pair",
      onchange: () => {
        location.hash = link(view, { pair: pairName(study.pairs[Number(select.value)]) });
      },
    },
    study.pairs.map((pair, number) => h("option", { value: number }, pairLabel(pair))),
  );
  select.value = current;
  return h("label", {}, h("span", {}, "Pair (larger → smaller)"), select);
}

// Effects: Figure 4 ------------------------------------------------------------------------------

async function effectsView(settings) {
  const number = findPair(settings);
  const pair = study.pairs[number];
  const [data, latents] = await Promise.all([load(`pair/${number}`), load(`latents/${pair.large}`)]);
  const { delta_mse: delta, standard_error: error, max_cosine: cosine, family } = data.large;
  const all = delta.map((_, latent) => latent);
  const rate = (latent) => latents.n_active[latent] / study.n_tokens;
  const group = (latent) => (family[latent] < 0 ? "novel" : "reconstruction");
  const silent = all.filter((latent) => delta[latent] === null).length;
  const keep = keeper("effects", settings);

  const table = pagedTable(
    `Latents of ${saeLabel(pair.large)}`,
    [
      { key: "latent", title: "Latent", value: (i) => i, cell: (i) => h("a", { href: latentLink(pair.large, i) }, i) },
      { key: "token", title: "Top token", text: true, value: (i) => topText(latents, i), cell: (i) => topToken(latents, i) },
      { key: "cosine", title: "Max cosine", value: (i) => cosine[i], cell: (i) => cosineText(cosine[i]) },
      {
        key: "effect",
        title: "Change in MSE",
        value: (i) => delta[i],
        cell: (i) => h("span", { class: effectClass(delta[i]) }, scientific(delta[i])),
      },
      { key: "error", title: "Standard error", value: (i) => error[i], cell: (i) => scientific(delta[i] === null ? null : error[i], 2) },
      { key: "rate", title: "Active on", value: rate, cell: (i) => percent(rate(i)) },
      { key: "group", title: "Group", text: true, value: group, cell: (i) => group(i) },
      {
        key: "family",
        title: "Family",
        value: (i) => (family[i] < 0 ? null : family[i]),
        cell: (i) => (family[i] < 0 ? "–" : h("a", { href: familyLink(pair, family[i]) }, family[i])),
      },
    ],
    settings,
    keep,
  );

  const status = h("p", { role: "status", class: "note" });
  const canvas = h("canvas", { role: "img" });
  const plot = scatter(canvas, {
    theta: pair.theta,
    x: cosine,
    y: delta,
    xTitle: `Max cosine to a latent of ${saeLabel(pair.small)}`,
    yTitle: "Change in MSE when added",
    describe: (i) => [
      h("p", {}, h("strong", {}, `${saeLabel(pair.large)}, latent ${i}`), " ", topToken(latents, i)),
      h("p", {}, `Max cosine ${cosineText(cosine[i])}, ${group(i)}`),
      h("p", { class: effectClass(delta[i]) }, `Change in MSE ${scientific(delta[i])} ± ${scientific(error[i], 2)}`),
      h("p", {}, `Active on ${percent(rate(i))} of the tokens`),
    ],
    open: (i) => {
      location.hash = latentLink(pair.large, i);
    },
  });

  function refresh() {
    const [cosineRange, effectRange] = [bounds(settings, "cosine"), bounds(settings, "effect")];
    const rateRange = bounds(settings, "rate", 100);
    const within = (value, [low, high]) => value >= low && value <= high;
    const wanted = settings.get("group");
    const sign = settings.get("sign");
    const anyEffect = !sign && effectRange[0] === -Infinity && effectRange[1] === Infinity;
    const found = all.filter(
      (i) =>
        (!wanted || group(i) === wanted) &&
        (delta[i] === null ? anyEffect : within(delta[i], effectRange)) &&
        (!sign || effectClass(delta[i]) === sign.replace(/-.*/, "")) &&
        (!sign || !sign.endsWith("-2se") || Math.abs(delta[i]) > 2 * error[i]) &&
        within(cosine[i], cosineRange) &&
        within(rate(i), rateRange),
    );
    const drawn = found.filter((i) => delta[i] !== null);
    const beyond = plot.show(drawn, { x: cosineRange, y: effectRange });
    const lowers = drawn.filter((i) => delta[i] < 0).length;
    status.textContent =
      `${plural(found.length, "latent")} of ${count(all.length)}: ${count(lowers)} lower the MSE, ` +
      `${count(drawn.length - lowers)} do not` +
      (found.length > drawn.length ? `, ${count(found.length - drawn.length)} never active` : "") +
      (beyond ? `. ${plural(beyond, "point")} beyond the axis at its edge (▲)` : "") +
      ".";
    canvas.setAttribute(
      "aria-label",
      `Scatter of the change in MSE against the max cosine for ${plural(drawn.length, "latent")} of ` +
        `${saeLabel(pair.large)}; the table below holds the same values.`,
    );
    table.update(found);
  }

  const change = (changes) => {
    keep({ ...changes, page: null });
    refresh();
  };
  const form = h(
    "form",
    { class: "filters", "aria-label": "Filters", onsubmit: (event) => event.preventDefault() },
    pairChoice("effects", number),
    choice(settings, change, "group", "Group", [["", "all"], ["novel", "novel"], ["reconstruction", "reconstruction"]]),
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
    h("button", { type: "button", onclick: () => { location.hash = link("effects", { pair: pairName(pair) }); } }, "Clear"),
  );

  const view = [
    heading(`Adding each latent of ${saeLabel(pair.large)} to ${saeLabel(pair.small)}`),
    h(
      "p",
      { class: "lead" },
      `Each point is a latent of the larger SAE: the change in the smaller SAE's MSE when it alone is added, ` +
        `against its greatest decoder cosine to the smaller SAE. Left of θ = ${pair.theta} latents are novel. ` +
        `Hover for details, click to open the latent.` +
        (silent ? ` ${plural(silent, "latent")} never active on the eval tokens ${silent === 1 ? "has" : "have"} no effect to show.` : ""),
    ),
    form,
    h("div", { class: "chart" }, canvas),
    h(
      "ul",
      { class: "legend" },
      h("li", { class: "decreases" }, h("i"), "lowers the MSE"),
      h("li", { class: "increases" }, h("i"), "does not"),
      h("li", {}, `dashed: θ = ${pair.theta}`),
    ),
    status,
    table.place,
  ];
  // Chart.js measures its canvas, which must be on the page.
  return { title: `Effects ${pairLabel(pair)}`, view, shown: refresh, left: plot.destroy };
}

const topText = (latents, i) => (latents.top[i] < 0 ? null : vocabulary[latents.top[i]]);
const topToken = (latents, i) => (latents.top[i] < 0 ? "–" : tokenMark(vocabulary[latents.top[i]]));

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** The bulk of the effects, as in Figure 4: the central 99 % and a margin, or all if little lies beyond. */
function usualLimits(y) {
  const values = y.filter((value) => value !== null).sort((a, b) => a - b);
  if (!values.length) return [-1, 1];
  const [least, greatest] = [values[0], values[values.length - 1]];
  let [low, high] = [Math.min(0, quantile(values, 0.005)), Math.max(0, quantile(values, 0.995))];
  const span = high - low || greatest - least || 1;
  [low, high] = [Math.min(low, -0.1 * span), Math.max(high, 0.1 * span)];
  const [reach, margin] = [0.25 * (high - low), 0.05 * (high - low)];
  return [
    (least < low - reach ? low : Math.min(low, least)) - margin,
    (greatest > high + reach ? high : Math.max(high, greatest)) + margin,
  ];
}

/** The live scatter. `show` draws some of the latents and returns how many lie beyond the axis. */
function scatter(canvas, { theta, x, y, xTitle, yTitle, describe, open }) {
  const tooltip = document.getElementById("tooltip");
  const usual = { x: [x.reduce((least, value) => Math.min(least, value), Math.min(0, theta)), 1], y: usualLimits(y) };
  let chart = null;
  let last = null;

  function outside({ tooltip: state }) {
    if (!state.opacity || !state.dataPoints?.length) {
      tooltip.hidden = true;
      return;
    }
    tooltip.replaceChildren(...describe(state.dataPoints[0].raw.latent));
    tooltip.hidden = false;
    // Right of the point and below it, or on the other side where the window ends.
    const box = canvas.getBoundingClientRect();
    const { clientWidth, clientHeight } = document.documentElement;
    const beside = (point, gap, size, end) =>
      point + gap + size > end ? Math.max(4, point - gap - size) : point + gap;
    tooltip.style.left = `${window.scrollX + beside(box.left + state.caretX, 14, tooltip.offsetWidth, clientWidth)}px`;
    tooltip.style.top = `${window.scrollY + beside(box.top + state.caretY, 10, tooltip.offsetHeight, clientHeight)}px`;
  }

  const guides = {
    id: "guides",
    beforeDatasetsDraw({ ctx, chartArea: area, scales }) {
      const line = (from, to, dash) => {
        ctx.setLineDash(dash);
        ctx.beginPath();
        ctx.moveTo(...from);
        ctx.lineTo(...to);
        ctx.stroke();
      };
      ctx.save();
      ctx.strokeStyle = colour("muted");
      ctx.lineWidth = 1;
      const [zero, at] = [scales.y.getPixelForValue(0), scales.x.getPixelForValue(theta)];
      if (zero >= area.top && zero <= area.bottom) line([area.left, zero], [area.right, zero], []);
      if (at >= area.left && at <= area.right) line([at, area.top], [at, area.bottom], [5, 4]);
      ctx.restore();
    },
  };

  function show(latents, limits) {
    last = [latents, limits];
    const finite = (wanted, standard) => wanted.map((value, i) => (Number.isFinite(value) ? value : standard[i]));
    const [left, right] = finite(limits.x, usual.x);
    const [bottom, top] = finite(limits.y, usual.y);
    const sets = { decreases: [], increases: [] };
    let beyond = 0;
    for (const latent of latents) {
      const value = Math.min(top, Math.max(bottom, y[latent]));
      beyond += value !== y[latent];
      sets[effectClass(y[latent])].push({ x: x[latent], y: value, latent, beyond: Math.sign(y[latent] - value) });
    }
    const radius = latents.length > 20000 ? 1.5 : latents.length > 4000 ? 2 : 3;
    const axis = (title, min, max, callback) => ({
      type: "linear",
      min,
      max,
      title: { display: true, text: title, color: colour("text") },
      ticks: { color: colour("muted"), callback, maxRotation: 0, includeBounds: false },
      grid: { color: colour("line") },
      border: { color: colour("muted") },
    });
    chart?.destroy();
    chart = new Chart(canvas, {
      type: "scatter",
      data: {
        datasets: Object.entries(sets).map(([name, data]) => ({
          data,
          parsing: false,
          backgroundColor: `${colour(name)}99`,
          borderWidth: 0,
          pointRadius: ({ raw }) => (raw?.beyond ? 5 : radius),
          pointHoverRadius: 6,
          hoverBackgroundColor: colour(name),
          pointStyle: ({ raw }) => (raw?.beyond ? "triangle" : "circle"),
          pointRotation: ({ raw }) => (raw?.beyond < 0 ? 180 : 0),
          clip: 6,
        })),
      },
      options: {
        animation: false,
        maintainAspectRatio: false,
        interaction: { mode: "nearest", intersect: true },
        scales: {
          x: axis(xTitle, left, right, (value) => minus(String(Number(value.toFixed(3))))),
          y: axis(yTitle, bottom, top, tickText),
        },
        plugins: { legend: { display: false }, tooltip: { enabled: false, external: outside } },
        onHover: (event, found) => {
          canvas.style.cursor = found.length ? "pointer" : "default";
        },
        onClick: (event, found) => {
          if (found.length) open(found[0].element.$context.raw.latent);
        },
      },
      plugins: [guides],
    });
    return beyond;
  }

  const redraw = () => last && show(...last);
  document.addEventListener("theme", redraw);
  return {
    show,
    destroy() {
      document.removeEventListener("theme", redraw);
      tooltip.hidden = true;
      chart?.destroy();
    },
  };
}

// Families ---------------------------------------------------------------------------------------

const KINDS = [
  ["", "all"],
  ["one", "1 to 1"],
  ["split", "1 to several"],
  ["merge", "several to 1"],
  ["many", "several to several"],
];

function kindOf(nSmall, nLarge) {
  if (nSmall === 1) return nLarge === 1 ? "one" : "split";
  return nLarge === 1 ? "merge" : "many";
}

async function familiesView(settings) {
  const number = findPair(settings);
  const pair = study.pairs[number];
  const [data, small] = await Promise.all([load(`pair/${number}`), load(`latents/${pair.small}`)]);
  const { n_small: nSmall, n_large: nLarge, delta_mse: delta, delta_l0: deltaL0 } = data.families;
  const first = new Map(); // family → its first latents of the smaller SAE
  data.small.family.forEach((family, latent) => {
    if (family >= 0) first.set(family, [...(first.get(family) || []), latent].slice(0, 4));
  });
  const keep = keeper("families", settings);
  const table = pagedTable(
    `Families of ${saeLabel(pair.small)} and ${saeLabel(pair.large)}`,
    [
      { key: "family", title: "Family", value: (i) => i, cell: (i) => h("a", { href: familyLink(pair, i) }, i) },
      {
        key: "token",
        title: "Top tokens",
        text: true,
        cell: (i) => (first.get(i) || []).flatMap((latent) => [topToken(small, latent), " "]),
      },
      { key: "small", title: `Latents of ${saeLabel(pair.small)}`, value: (i) => nSmall[i], cell: (i) => count(nSmall[i]) },
      { key: "large", title: `Latents of ${saeLabel(pair.large)}`, value: (i) => nLarge[i], cell: (i) => count(nLarge[i]) },
      {
        key: "effect",
        title: "Change in MSE, swapped",
        value: (i) => delta[i],
        cell: (i) => h("span", { class: effectClass(delta[i]) }, scientific(delta[i])),
      },
      { key: "l0", title: "Change in L0", value: (i) => deltaL0[i], cell: (i) => scientific(deltaL0[i]) },
    ],
    settings,
    keep,
  );
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
    heading(`Families of ${saeLabel(pair.small)} and ${saeLabel(pair.large)}`),
    h(
      "p",
      { class: "lead" },
      `Latents of the two SAEs that are linked by decoder cosines of θ = ${pair.theta} or more. A swap takes a family's ` +
        `latents of the smaller SAE out and puts those of the larger in.`,
    ),
    h(
      "form",
      { class: "filters", "aria-label": "Filters", onsubmit: (event) => event.preventDefault() },
      pairChoice("families", number),
      choice(settings, change, "kind", "Latents, smaller to larger SAE", KINDS),
      range(settings, change, "size", "Latents of both SAEs"),
    ),
    table.place,
  ];
  return { title: `Families ${pairLabel(pair)}`, view, shown: refresh };
}

const DRAWN = 24; // latents of one side in a drawing
const CARDS = 6; // latents of one side with their passages, until more are asked for

async function familyView(settings) {
  const number = findPair(settings);
  const pair = study.pairs[number];
  const [data, links] = await Promise.all([load(`pair/${number}`), load(`links/${number}`)]);
  const [smallInfo, largeInfo] = await Promise.all([load(`latents/${pair.small}`), load(`latents/${pair.large}`)]);
  const family = Number(settings.get("family") ?? "0");
  if (!Number.isInteger(family) || family < 0 || family >= pair.n_families)
    throw new NotFound(`${pairName(pair)} has no family ${settings.get("family")}; it has ${count(pair.n_families)}, from 0.`);
  const members = (side) => data[side].family.flatMap((other, latent) => (other === family ? [latent] : []));
  const edges = links.edges.small.flatMap((small, i) =>
    data.small.family[small] === family ? [{ small, large: links.edges.large[i], cosine: links.edges.cosine[i] }] : [],
  );
  const sides = untangle(members("small"), members("large"), edges);
  const swap = data.families;
  const view = [
    heading(`Family ${family} of ${saeLabel(pair.small)} and ${saeLabel(pair.large)}`),
    h(
      "p",
      { class: "lead" },
      `${plural(sides.small.length, "latent")} of ${saeLabel(pair.small)} and ${plural(sides.large.length, "latent")} of ` +
        `${saeLabel(pair.large)}, linked by cosines of θ = ${pair.theta} or more.`,
    ),
    h(
      "dl",
      { class: "facts" },
      fact("Swapped, the MSE changes by", h("span", { class: effectClass(swap.delta_mse[family]) }, scientific(swap.delta_mse[family])), ` ± ${scientific(swap.standard_error[family], 2)}`),
      fact("and L0 by", scientific(swap.delta_l0[family])),
    ),
    h(
      "p",
      { class: "pages" },
      family > 0 ? h("a", { href: familyLink(pair, family - 1) }, "Previous family") : null,
      family + 1 < pair.n_families ? h("a", { href: familyLink(pair, family + 1) }, "Next family") : null,
      h("a", { href: link("families", { pair: pairName(pair) }) }, "All families"),
    ),
    h("h2", {}, "Decoder cosines"),
    drawing(pair, sides, edges, smallInfo, largeInfo),
    edgeTable(pair, edges),
    h("h2", {}, "Top activating passages, side by side"),
    h(
      "div",
      { class: "cards" },
      await cardColumn(pair.small, sides.small, smallInfo),
      await cardColumn(pair.large, sides.large, largeInfo),
    ),
  ];
  return { title: `Family ${family}, ${pairLabel(pair)}`, view };
}

const fact = (name, ...values) => h("div", {}, h("dt", {}, name), h("dd", {}, values));

/** Order both sides so that few edges cross: each latent by the mean place of those it is linked to. */
function untangle(small, large, edges) {
  const sides = { small: [...small], large: [...large] };
  for (const [side, other] of [["large", "small"], ["small", "large"], ["large", "small"]]) {
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

function drawing(pair, sides, edges, smallInfo, largeInfo) {
  const place = h("div", { class: "drawing" });
  const shown = { small: sides.small.slice(0, DRAWN), large: sides.large.slice(0, DRAWN) };
  const hidden = sides.small.length + sides.large.length - shown.small.length - shown.large.length;
  const info = { small: smallInfo, large: largeInfo };

  function draw() {
    const width = Math.max(300, Math.min(1180, place.clientWidth - 20));
    const box = Math.min(250, 0.36 * width);
    const [step, top] = [46, 30];
    const rows = Math.max(shown.small.length, shown.large.length);
    const height = top + rows * step;
    const offset = { small: ((rows - shown.small.length) * step) / 2, large: ((rows - shown.large.length) * step) / 2 };
    const at = (side, latent) => {
      const i = shown[side].indexOf(latent);
      return i < 0 ? null : top + offset[side] + i * step + step / 2;
    };
    const degree = { small: new Map(), large: new Map() };
    for (const edge of edges)
      for (const side of ["small", "large"]) degree[side].set(edge[side], (degree[side].get(edge[side]) || 0) + 1);
    const [left, right] = [box, width - box];
    const lines = [];
    const labels = [];
    edges.forEach(({ small, large, cosine }, i) => {
      const [from, to] = [at("small", small), at("large", large)];
      if (from === null || to === null) return;
      lines.push(svg("line", { x1: left, y1: from, x2: right, y2: to, "stroke-width": 1 + 5 * Math.max(0, cosine - 0.5) }));
      // Near the end where fewer edges meet, so that the labels of a fan stand apart.
      const many = degree.small.get(small) - degree.large.get(large);
      const share = many > 0 ? 0.76 : many < 0 ? 0.24 : degree.small.get(small) === 1 ? 0.5 : [0.3, 0.5, 0.7][i % 3];
      labels.push(svg("text", { class: "cosine", x: left + share * (right - left), y: from + share * (to - from) + 4 }, cosineText(cosine)));
    });
    const nodes = ["small", "large"].flatMap((side) =>
      shown[side].map((latent) => {
        const y = at(side, latent);
        const x = side === "small" ? 1 : width - box;
        const text = info[side].top[latent] < 0 ? "" : visible(vocabulary[info[side].top[latent]]).trim();
        const room = Math.floor((box - 16) / 8.2) - String(latent).length - 3;
        const short = text.length > room ? `${text.slice(0, Math.max(1, room - 1))}…` : text;
        return svg(
          "a",
          { href: latentLink(pair[side], latent), "aria-label": `${saeLabel(pair[side])}, latent ${latent} ${text}` },
          svg("rect", { x, y: y - 15, width: box - 1, height: 30, rx: 6 }),
          svg("text", { x: x + 8, y: y + 5 }, `${latent}${short ? ` · ${short}` : ""}`),
        );
      }),
    );
    place.replaceChildren(
      svg(
        "svg",
        { viewBox: `0 0 ${width} ${height}`, style: `max-width: ${width}px`, role: "group", "aria-label": "Latents and the cosines between them" },
        svg("text", { class: "side", x: 1, y: 18 }, saeLabel(pair.small)),
        svg("text", { class: "side", x: width - box, y: 18 }, saeLabel(pair.large)),
        lines,
        labels,
        nodes,
      ),
    );
    if (hidden) place.append(h("p", { class: "note" }, `${plural(hidden, "more latent")} not drawn; the table has all edges.`));
  }

  let width = 0;
  new ResizeObserver(() => {
    if (place.clientWidth !== width) {
      width = place.clientWidth;
      draw();
    }
  }).observe(place);
  return place;
}

function edgeTable(pair, edges) {
  const settings = new URLSearchParams();
  const table = pagedTable(
    `Edges: cosines of ${pair.theta} or more`,
    [
      { key: "small", title: saeLabel(pair.small), value: (i) => edges[i].small, cell: (i) => h("a", { href: latentLink(pair.small, edges[i].small) }, edges[i].small) },
      { key: "large", title: saeLabel(pair.large), value: (i) => edges[i].large, cell: (i) => h("a", { href: latentLink(pair.large, edges[i].large) }, edges[i].large) },
      { key: "cosine", title: "Cosine", value: (i) => edges[i].cosine, cell: (i) => edges[i].cosine.toFixed(3) },
    ],
    settings,
    (changes) => Object.entries(changes).forEach(([key, value]) => (value === null ? settings.delete(key) : settings.set(key, value))),
  );
  table.update(edges.keys());
  return h("details", {}, h("summary", {}, `${plural(edges.length, "edge")} as a table`), table.place);
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
  return h(
    "article",
    { class: "card" },
    h("h3", {}, h("a", { href: latentLink(sae, latent) }, `${saeLabel(sae)}, latent ${latent}`), " ", topToken(info, latent)),
    activity(info, latent),
    ...(await effectFacts(sae, latent)),
    h("h4", {}, "Nearest elsewhere"),
    await nearestOf(sae, latent),
    h("h4", {}, "Top activating passages"),
    await passagesOf(sae, latent, info, 5),
  );
}

// A latent ---------------------------------------------------------------------------------------

function activity(info, latent) {
  return h(
    "dl",
    { class: "facts" },
    fact("Active on", `${percent(info.n_active[latent] / study.n_tokens)} of the tokens (${count(info.n_active[latent])} of ${count(study.n_tokens)})`),
    fact("Greatest activation", scientific(info.max[latent])),
  );
}

/** Pairs that an SAE is in, with their numbers and the side that it is on. */
function pairsOf(sae) {
  return study.pairs.flatMap((pair, number) =>
    pair.small === sae ? [{ pair, number, side: "small", other: pair.large }] : pair.large === sae ? [{ pair, number, side: "large", other: pair.small }] : [],
  );
}

async function effectFacts(sae, latent) {
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
  return lists.length ? [h("dl", { class: "facts" }, lists)] : [];
}

async function nearestOf(sae, latent) {
  const lists = await Promise.all(
    pairsOf(sae).map(async ({ number, side, other }) => {
      const [links, info] = await Promise.all([load(`links/${number}`), load(`latents/${other}`)]);
      const flat = links[side][latent];
      const items = [];
      for (let i = 0; i < flat.length; i += 2)
        items.push(h("li", {}, h("a", { href: latentLink(other, flat[i]) }, `${flat[i]}`), " ", topToken(info, flat[i]), ` ${cosineText(flat[i + 1])}`));
      return h("div", {}, h("p", { class: "note" }, `${saeLabel(other)}, by decoder cosine:`), h("ul", { class: "nearest" }, items));
    }),
  );
  return h("div", {}, lists.length ? lists : h("p", {}, "No other SAE is compared with this one."));
}

async function passagesOf(sae, latent, info, most = Infinity) {
  const part = await load(`passages/${sae}/${Math.floor(latent / study.chunk)}`);
  const passages = part[latent % study.chunk];
  if (!passages.length) return h("p", { class: "note" }, "Never active on the eval tokens.");
  return h("ol", { class: "passages" }, passages.slice(0, most).map((passage) => passageItem(passage, info.max[latent])));
}

function passageItem([document_, sequence, position, marked, tokens, active], greatest) {
  const strength = new Array(tokens.length).fill(0);
  for (let i = 0; i < active.length; i += 2) strength[active[i]] = active[i + 1];
  const words = tokens.map((token, i) => {
    const whole = vocabulary[token].replace(/\r?\n/g, "⏎");
    const text = i === 0 ? whole.trimStart() : whole;
    if (!strength[i] && i !== marked) return text;
    const word = h(i === marked ? "mark" : "span", { title: `activation ${scientific(strength[i])}` }, text);
    word.style.setProperty("--a", (strength[i] / (greatest || 1)).toFixed(3));
    return word;
  });
  return h(
    "li",
    {},
    h("span", { class: "strength", title: `Document ${document_}, sequence ${sequence}, position ${position}` }, scientific(strength[marked])),
    h("p", { class: "passage" }, words),
  );
}

async function latentView(settings) {
  const sae = findSae(settings.get("sae") ?? study.saes[0].name);
  const latent = Number(settings.get("latent") ?? "0");
  const size = study.saes[sae].d_sae;
  if (!Number.isInteger(latent) || latent < 0 || latent >= size)
    throw new NotFound(`${saeLabel(sae)} has no latent ${settings.get("latent")}; it has ${count(size)}, from 0.`);
  const info = await load(`latents/${sae}`);
  const rows = await Promise.all(
    pairsOf(sae).map(async ({ pair, number, side, other }) => {
      const data = await load(`pair/${number}`);
      const family = data[side].family[latent];
      const delta = side === "large" ? data.large.delta_mse[latent] : null;
      const standing =
        side === "large" ? (family < 0 ? "novel" : "reconstruction") : family < 0 ? "no match" : `${plural(data.families.n_large[family], "latent")} there`;
      return h(
        "tr",
        {},
        h("td", {}, saeLabel(other)),
        h("td", { class: "text" }, standing),
        h("td", {}, cosineText(data[side].max_cosine[latent])),
        h("td", { class: effectClass(delta) }, side === "large" ? scientific(delta) : "–"),
        h("td", {}, delta === null ? "–" : scientific(data.large.standard_error[latent], 2)),
        h("td", {}, family < 0 ? "–" : h("a", { href: familyLink(pair, family) }, `family ${family}`)),
      );
    }),
  );
  const others = h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": "In other SAEs" },
    h(
      "table",
      {},
      h("thead", {}, h("tr", {}, ["SAE", "Here", "Max cosine", "Change in its MSE", "Standard error", "Family"].map((title, i) => h("th", { scope: "col", class: i === 1 && "text" }, title)))),
      h("tbody", {}, rows),
    ),
  );
  const view = [
    heading(`${saeLabel(sae)}, latent ${latent}`),
    activity(info, latent),
    h(
      "p",
      { class: "pages" },
      latent > 0 ? h("a", { href: latentLink(sae, latent - 1) }, "Previous latent") : null,
      latent + 1 < size ? h("a", { href: latentLink(sae, latent + 1) }, "Next latent") : null,
    ),
    h("h2", {}, "Top activating passages"),
    h("p", { class: "note" }, "The marked token is the one with the greatest activation of its sequence; the deeper the ground, the greater the activation."),
    h("div", { class: "card" }, await passagesOf(sae, latent, info)),
    h("h2", {}, "In other SAEs"),
    others,
    h("h2", {}, "Nearest latents"),
    await nearestOf(sae, latent),
  ];
  document.querySelector("#search select").value = sae;
  return { title: `${saeLabel(sae)}, latent ${latent}`, view };
}

// The study --------------------------------------------------------------------------------------

async function studyView() {
  const table = (caption, titles, rows) =>
    h(
      "div",
      { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
      h(
        "table",
        {},
        h("caption", {}, caption),
        h("thead", {}, h("tr", {}, titles.map((title) => h("th", { scope: "col" }, title)))),
        h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell))))),
      ),
    );
  const view = [
    heading(`Study ${study.study}`),
    h("dl", { class: "facts" }, fact("Model", study.model), fact("Hook", study.hook), fact("Eval tokens", count(study.n_tokens))),
    h("h2", {}, "SAEs"),
    table("SAEs", ["SAE", "Latents"], study.saes.map(({ d_sae: size }, i) => [h("a", { href: latentLink(i, 0) }, saeLabel(i)), count(size)])),
    h("h2", {}, "Pairs"),
    table(
      "Pairs",
      ["Larger → smaller", "θ", "Novel latents", "Families", "MSE of the smaller", "MSE of the larger"],
      study.pairs.map((pair) => [
        h("a", { href: link("effects", { pair: pairName(pair) }) }, pairLabel(pair)),
        `${pair.theta}`,
        count(pair.n_novel),
        h("a", { href: link("families", { pair: pairName(pair) }) }, count(pair.n_families)),
        scientific(pair.mse_small, 4),
        scientific(pair.mse_large, 4),
      ]),
    ),
    h("h2", {}, "What is shown"),
    h(
      "p",
      { class: "lead" },
      "Numbers are over the eval tokens, whose documents no SAE was trained on. The change in MSE is that of the smaller SAE when one latent of the larger is added to it. " +
        "A latent of the larger SAE is novel if its greatest decoder cosine to the smaller SAE is below θ, otherwise a reconstruction latent. " +
        "Of each sequence only the token with the latent's greatest activation starts a passage. A token that is part of a character is shown as �.",
    ),
    h("p", { class: "note" }, "Charts are drawn by Chart.js, © Chart.js Contributors, MIT licence."),
  ];
  return { title: `Study ${study.study}`, view };
}

// Routing ----------------------------------------------------------------------------------------

const heading = (text) => h("h1", { tabindex: -1 }, text);

const VIEWS = { effects: effectsView, families: familiesView, family: familyView, latent: latentView, study: studyView };

let leave = () => {};
let turnOf = 0;

async function route() {
  const mine = ++turnOf;
  const { view: name, settings } = address();
  if (name === "main") return; // the skip link
  const main = document.getElementById("main");
  main.setAttribute("aria-busy", "true");
  let page;
  try {
    if (!VIEWS[name]) throw new NotFound(`There is no view ${name}.`);
    page = await VIEWS[name](settings);
  } catch (error) {
    if (!(error instanceof NotFound) && !/cannot be read/.test(error.message)) console.error(error);
    page = { title: "Not found", view: [heading("Not found"), h("p", { class: "error", role: "alert" }, error.message)] };
  }
  if (mine !== turnOf) {
    page.left?.(); // another address was asked for meanwhile
    return;
  }
  leave();
  leave = page.left ?? (() => {});
  document.title = `${page.title} – ${study.study}`;
  for (const tab of document.querySelectorAll("nav a")) {
    const current = tab.getAttribute("href") === `#${name}` || (name === "family" && tab.getAttribute("href") === "#families");
    if (current) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  main.replaceChildren(...page.view);
  page.shown?.();
  main.removeAttribute("aria-busy");
  if (mine > 1) {
    window.scrollTo(0, 0);
    main.querySelector("h1").focus({ preventScroll: true });
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
  [study, vocabulary] = await Promise.all([load("study"), load("vocabulary")]);
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
  document.getElementById("main").replaceChildren(h("p", { class: "error", role: "alert" }, error.message));
});
