/*
 * Elements. Text of the corpus may hold anything: it reaches the page as text nodes and never as
 * HTML.
 */

/** An element; a child that is no node becomes text. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function svg(tag, attributes = {}, ...children) {
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

export const heading = (text) => h("h1", { tabindex: -1 }, text);

export const fact = (name, ...values) => h("div", {}, h("dt", {}, name), h("dd", {}, values));

export const facts = (...listed) => h("dl", { class: "facts" }, listed);

/** A table that scrolls inside the page where it is too wide. */
export function scrolled(name, ...parts) {
  return h(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": name },
    h("table", {}, parts),
  );
}

/** A token in quotes by its ground; what cannot be seen is spelled out. */
export function tokenMark(text) {
  return h("span", { class: "token" }, visible(text));
}

export function visible(text) {
  const shown = text === "" ? "(empty)" : text.replace(/\r?\n/g, "⏎").replace(/\t/g, "⇥");
  return /^\s+$/.test(shown) ? shown.replace(/ /g, "␣") : shown;
}
