/* Tables of many rows. */

import { h, scrolled } from "./elements.js";
import { count } from "./numbers.js";

const ROWS = 25; // of a page

/**
 * A table that sorts and turns pages; both are part of the address.
 * Columns: { key, title, text (bool), value(row), cell(row) }; rows are plain numbers.
 */
export class PagedTable {
  constructor(caption, columns, settings, keep) {
    Object.assign(this, { columns, settings, keep });
    this.rows = [];
    this.sorted = null; // how the rows are sorted, as far as they are
    this.body = h("tbody");
    this.status = h("span", { role: "status" });
    const step = (by, text) => h("button", { type: "button", onclick: () => this.turn(by) }, text);
    [this.back, this.on] = [step(-1, "Previous"), step(1, "Next")];
    this.heads = columns.map((column) => this.head(column));
    this.place = h("div");
    this.place.append(
      scrolled(
        caption,
        h("caption", {}, caption),
        h("thead", {}, h("tr", {}, this.heads)),
        this.body,
      ),
      h("div", { class: "pages" }, this.back, this.on, this.status),
    );
  }

  head({ key, title, text, value }) {
    const sort = () => this.sortBy(key);
    const shown = value ? h("button", { type: "button", onclick: sort }, title) : title;
    return h("th", { scope: "col", class: text && "text" }, shown);
  }

  sortBy(key) {
    const turned = this.settings.get("sort") === key && this.settings.get("order") !== "down";
    this.keep({ sort: key, order: turned ? "down" : null, page: null });
    this.show();
  }

  turn(by) {
    const page = Number(this.settings.get("page") || 1) + by;
    this.keep({ page: page > 1 ? page : null });
    this.show();
  }

  order() {
    const sort = this.settings.get("sort");
    const column = this.columns.find(({ key, value }) => value && key === sort);
    const down = this.settings.get("order") === "down";
    this.columns.forEach(({ key }, i) => {
      const way = down ? "descending" : "ascending";
      if (column && key === column.key) this.heads[i].setAttribute("aria-sort", way);
      else this.heads[i].removeAttribute("aria-sort");
    });
    const wanted = `${column ? column.key : ""} ${down}`;
    if (this.sorted === wanted) return;
    this.sorted = wanted;
    if (!column) return;
    const values = new Map(this.rows.map((row) => [row, column.value(row)]));
    this.rows.sort((a, b) => {
      const [x, y] = [values.get(a), values.get(b)];
      // Unknown ones are last either way.
      if (x === null || y === null) return (x === null) - (y === null) || a - b;
      const sign = typeof x === "string" ? x.localeCompare(y) : x - y;
      return (down ? -sign : sign) || a - b;
    });
  }

  show() {
    this.order();
    const n = this.rows.length;
    const last = Math.max(1, Math.ceil(n / ROWS));
    const asked = Math.trunc(Number(this.settings.get("page"))) || 1;
    const page = Math.min(Math.max(1, asked), last);
    const first = (page - 1) * ROWS;
    const shown = this.rows.slice(first, first + ROWS);
    const cell = (column, row) => h("td", { class: column.text && "text" }, column.cell(row));
    this.body.replaceChildren(
      ...shown.map((row) => h("tr", {}, this.columns.map((column) => cell(column, row)))),
    );
    this.back.disabled = page === 1;
    this.on.disabled = page === last;
    this.status.textContent = n
      ? `${count(first + 1)} to ${count(Math.min(first + ROWS, n))} of ${count(n)}`
      : "Nothing matches.";
  }

  /** Show other rows. */
  update(found) {
    this.rows = [...found];
    this.sorted = null;
    this.show();
  }
}
