"""Bring the list of figures and tables in docs/results.md up to date, from the register."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "workflow_scripts"))

from sae_stitching.tables.register import as_markdown

PAGE = Path(__file__).with_suffix(".md")
HEAD = """\
## Figures

In the order of the report. A figure is a PDF, a PNG and a CSV with the numbers that it shows; each
is a target of its own, such as `snakemake --cores all figure7`. Tables are pages of the report too.
This list is made from `sae_stitching/tables/register.py`, by `python docs/results.py`.
"""


def page() -> str:
    """The page as it should be: what was written by hand, and the list below."""
    before, _, _ = PAGE.read_text(encoding="utf-8").partition("## Figures\n")
    return f"{before}{HEAD}{as_markdown()}\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
