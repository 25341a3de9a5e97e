"""The order of the library's packages: each imports from those before it."""

import ast
from collections.abc import Iterator

from helpers.checkout import LIBRARY

#: As the data go through them.
PACKAGES = (
    "base",
    "hub",
    "text",
    "activations",
    "sparse",
    "saes",
    "formats",
    "matching",
    "stitching",
    "tables",
    "config",
    "explorer",
    "figures",
    "command",
)


def arrows() -> Iterator[tuple[str, str, str]]:
    """Yield the package and the name of each module, and a package that it imports from."""
    for path in sorted(LIBRARY.rglob("*.py")):
        package, *below = path.relative_to(LIBRARY).with_suffix("").parts
        if not below:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert not node.level, f"{path}: write imports from sae_stitching on"
                first, _, rest = (node.module or "").partition(".")
                for name in [rest] if rest else [alias.name for alias in node.names]:
                    if first == LIBRARY.name:
                        yield package, ".".join(below), name.partition(".")[0]


def test_every_module_is_in_a_package():
    assert {path.stem for path in LIBRARY.glob("*.py")} == {"__init__", "__main__"}
    folders = {path.name for path in LIBRARY.iterdir() if path.is_dir() and path.name[0] != "_"}
    assert folders == set(PACKAGES)


def test_no_arrow_runs_back():
    order = {package: place for place, package in enumerate(PACKAGES)}
    back = [arrow for arrow in arrows() if order[arrow[0]] < order[arrow[2]]]
    assert back == []
    assert len(list(arrows())) > 100  # it sees them
