"""Pages of the report: tables that sort, each an HTML file that needs nothing else."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import h5py
import pandas as pd

from sae_stitching.base.store import replacing

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>@@TITLE@@</title>
<style>
:root { color-scheme: light dark; --line: #d5d9dc; --row: #f2f4f5; --muted: #565e64; }
@media (prefers-color-scheme: dark) { :root { --line: #3a4147; --row: #22272b; --muted: #a7afb5; } }
body { font: 14px/1.45 system-ui, "DejaVu Sans", sans-serif; margin: 20px; }
h1 { font-size: 1.3rem; }
h2 { font-size: 1.05rem; margin-top: 24px; }
p { color: var(--muted); }
.scroll { overflow-x: auto; max-width: max-content; }
.scroll { border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 12px; text-align: left; border-top: 1px solid var(--line); }
td.number, th.number { text-align: right; white-space: nowrap; }
th { border-top: 0; white-space: nowrap; }
th button { font: inherit; font-weight: 600; color: inherit; min-height: 24px; cursor: pointer; }
th button { border: 0; background: none; padding: 0; }
th button::after { content: " ↕"; color: var(--muted); }
th[aria-sort="ascending"] button::after { content: " ↑"; }
th[aria-sort="descending"] button::after { content: " ↓"; }
tbody tr:hover { background: var(--row); }
</style>
</head>
<body>
<h1>@@TITLE@@</h1>
@@TABLES@@
<script>
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows];
    const key = (row) => row.cells[column].dataset.value;
    const number = head.classList.contains("number");
    rows.sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === "");
      const order = number
        ? Number(x) - Number(y)
        : x.localeCompare(y, undefined, { numeric: true });
      return down ? -order : order;
    });
    table.tBodies[0].append(...rows);
  }));
}
</script>
</body>
</html>
"""


def table_page(title: str, tables: Sequence[tuple[str, pd.DataFrame]]) -> str:
    """Lay out tables as one HTML page; a click on a heading sorts by that column.

    Numbers are shown to four significant digits and sorted, and shown when pointed at, as they
    are; missing values come last.

    Parameters
    ----------
    title
        Heading of the page.
    tables
        Caption and table of each.
    """
    filled = "\n".join(
        (f"<h2>{escape(caption)}</h2>\n" if caption else "")
        + f'<div class="scroll">{_table(frame)}</div>'
        for caption, frame in tables
    )
    return _PAGE.replace("@@TITLE@@", escape(title)).replace("@@TABLES@@", filled)


def _table(frame: pd.DataFrame) -> str:
    numbers = {
        name: pd.api.types.is_numeric_dtype(frame[name])
        and not pd.api.types.is_bool_dtype(frame[name])
        for name in frame.columns
    }
    heads = "".join(
        f'<th scope="col"{_class(numbers[name])}><button>{escape(str(name))}</button></th>'
        for name in frame.columns
    )
    rows = "\n".join(
        "<tr>"
        + "".join(
            _cell(value, numbers[name]) for name, value in zip(frame.columns, row, strict=True)
        )
        + "</tr>"
        for row in frame.itertuples(index=False, name=None)
    )
    return f"<table><thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}\n</tbody></table>"


def _class(number: bool) -> str:
    return ' class="number"' if number else ""


def _cell(value: Any, number: bool) -> str:
    missing = pd.isna(value)
    exact = "" if missing else escape(str(value), quote=True)
    shown = "–" if missing else escape(_shown(value))
    title = f' title="{exact}"' if number and not missing and shown != exact else ""
    return f'<td{_class(number)} data-value="{exact}"{title}>{shown}</td>'


def _shown(value: Any) -> str:
    if isinstance(value, float):
        # Not 1e+04: counts that a missing value turned into floats.
        text = f"{value:.0f}" if value.is_integer() and abs(value) < 1e9 else f"{value:.4g}"
        return text.replace("-", "−")
    return str(value)


def settings_table(settings: Mapping[str, Any]) -> pd.DataFrame:
    """List the keys of a nested config with their values, one row a key."""
    return pd.DataFrame(list(_flat(settings)), columns=pd.Index(["key", "value"]))


def _flat(settings: Mapping[str, Any], above: str = "") -> Any:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            # In quotes where it would not be seen otherwise.
            plain = isinstance(value, str) and value == value.strip() != ""
            yield f"{above}{key}", value if plain else json.dumps(value)


def versions_table(paths: Sequence[str | Path]) -> pd.DataFrame:
    """List the versions of Python and of the packages that made these HDF5 files.

    There is more than one in a row where the files were made on different ones.
    """
    found: dict[str, set[str]] = {}
    for path in paths:
        with h5py.File(path, "r") as file:
            provenance = json.loads(str(file.attrs["provenance"]))
        for package, version in provenance.get("versions", {}).items():
            found.setdefault(package, set()).add(version)
    rows = [(package, ", ".join(sorted(versions))) for package, versions in sorted(found.items())]
    return pd.DataFrame(rows, columns=pd.Index(["package", "version"]))


def write_page(page: str, path: str | Path) -> None:
    """Write a page whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
