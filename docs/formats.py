"""Make the tables of formats.md from the records of the library: run it after a change of one."""

import ast
import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parent
LIBRARY = DOCS.parent / "workflow_scripts" / "sae_stitching"
sys.path.insert(0, str(LIBRARY.parent))

from sae_stitching.base.record import RECORDS, Array, Entry, layout_of  # noqa: E402

PAGE = DOCS / "formats.md"
#: In the order in which the data go through them.
PACKAGES = ("text", "activations", "saes", "matching", "stitching", "explorer")
BEGIN = "<!-- Made of the library's records by docs/formats.py: change them there. -->\n"
END = "<!-- End of what is made. -->\n"
#: Attributes that every file has, which the page describes once.
COMMON = ("provenance",)


def records() -> list[type]:
    """All records that have a file, in the order of the data."""
    found = []
    for package in PACKAGES:
        for path in sorted((LIBRARY / package).glob("*.py")):
            if "@record(" in path.read_text(encoding="utf-8"):
                module = importlib.import_module(f"sae_stitching.{package}.{path.stem}")
                found += [cls for cls in RECORDS.values() if cls.__module__ == module.__name__]
    return found


def descriptions(cls: type) -> dict[str, str]:
    """What is said of each field, in the string below it, or of a property in its own."""
    found = {}
    for base in reversed(cls.__mro__[:-1]):
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        assert isinstance(tree, ast.ClassDef)
        for field, below in zip(tree.body, tree.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                said = below.value if isinstance(below, ast.Expr) else None
                assert isinstance(said, ast.Constant), f"{base.__name__}.{field.target.id}: ?"
                found[field.target.id] = inspect.cleandoc(str(said.value)).split("\n\n")[0]
        for name, value in vars(base).items():
            if isinstance(value, property):
                found[name] = inspect.getdoc(value) or ""
    return {name: " ".join(said.split()).replace("|", "\\|") for name, said in found.items()}


def rows(cls: type, group: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Name, type, unit and description of all that a record has in its file."""
    said = descriptions(cls)
    for entry in layout_of(cls).entries:
        name = f"{group}{entry.name}"
        if entry.mapping:
            if entry.keys is None:
                about = f"{said[entry.field]} Names the groups in order."
                yield f"`{name}`", "attribute, list of str", "", about
            keys = entry.keys or [f"<{entry.name.removesuffix('s')}>"]
            place = keys[0] if len(keys) == 1 else f"{{{','.join(keys)}}}"
            yield from rows(entry.kind, f"{group}{place}/")
        elif not hasattr(entry.kind, "__layout__"):
            if entry.name not in COMMON:
                about = said[entry.field] + " May be missing." * entry.optional
                yield f"`{name}`", kind(entry), entry.unit, about
        else:
            yield from rows(entry.kind, f"{name}/" if entry.name else group)


def kind(entry: Entry) -> str:
    """Type and shape of a dataset, or the type of an attribute."""
    if isinstance(entry.kind, Array):
        return f"{' or '.join(entry.kind.types)} ({entry.kind.shape.replace('+', ' + ')})"
    return f"attribute, {entry.kind.__name__}"


def section(cls: type) -> str:
    """What the page says of one format."""
    layout = layout_of(cls)
    summary = (inspect.getdoc(cls) or "").split("\n\nRaises")[0].replace("\n\n", "\n")
    lines = [
        f"### `{layout.format}`",
        "",
        f"`{layout.path}`, version {layout.version}. {' '.join(summary.split())}",
        "",
        "| Name | Type and shape | Unit | |",
        "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows(cls)),
    ]
    return "\n".join(lines) + "\n"


def made() -> str:
    """All sections."""
    return "\n".join(section(cls) for cls in records())


def page() -> str:
    """Give the page as it should be."""
    text = PAGE.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN)], text[text.index(END) :]
    return f"{before}{BEGIN}\n{made()}\n{after}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
