"""Make the notebook of the tutorial from its Markdown, and run it: ``make notebook``."""

import os
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

DOCS = Path(__file__).parent
MARKDOWN, NOTEBOOK = DOCS / "tutorial.md", DOCS / "tutorial.ipynb"


def from_markdown() -> Any:
    """Cells of the tutorial, without outputs."""
    notebook = jupytext.read(MARKDOWN)
    # So that a figure at the end of a cell is shown.
    notebook.cells.insert(1, nbformat.v4.new_code_cell("%matplotlib inline"))
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return notebook


def run(notebook: Any, folder: Path) -> Any:
    """Run all cells in a folder, where the tutorial writes its files."""
    client = NotebookClient(
        notebook, timeout=600, record_timing=False, resources={"metadata": {"path": str(folder)}}
    )
    library = str(DOCS.parent / "workflow_scripts")
    return client.execute(env={**os.environ, "PYTHONPATH": library})


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        made = run(from_markdown(), Path(folder))
    # Names the Python that it ran on.
    made.metadata["language_info"] = {"name": "python"}
    nbformat.write(made, NOTEBOOK)
