"""Write docs/results.md: all figures and tables of a study, from the register."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "workflow_scripts"))

from sae_stitching.tables.register import as_markdown

HEAD = """\
# Figures and tables

What a study comes to, in the order of its report. A figure is a PDF, a PNG and a CSV with the
numbers that it shows; each is a target of its own, such as `snakemake --cores all figure7`. All lie below
`results/<study>/`, and tables are pages of the report too. This list is made from
`sae_stitching/tables/register.py`, by `python docs/results.py`.
"""

if __name__ == "__main__":
    page = Path(__file__).with_suffix(".md")
    page.write_text(f"{HEAD}{as_markdown()}\n", encoding="utf-8")
