"""The documentation: its tutorial runs as printed, and says what is so."""

import re
import subprocess
import sys

import nbformat
import numpy as np
import pytest
from helpers.checkout import ROOT, SCRIPTS

DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS))

import formats  # noqa: E402
import notebook as maker  # noqa: E402

TUTORIAL = (DOCS / "tutorial.md").read_text(encoding="utf-8")
CODE = re.findall(r"^```python\n(.*?)^```", TUTORIAL, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def printed(tmp_path_factory) -> tuple[dict, str]:
    """Names and output of the tutorial's code, run from top to bottom in an empty folder."""
    folder = tmp_path_factory.mktemp("tutorial")
    keep = (
        "\nimport numpy\nnumpy.savez('found', novel=subgraphs.novel, cosine=cosine[:, 0].numpy(),"
        " **{k: v for k, v in vars(insertions).items()}, expected=expected.numpy(),"
        " swaps=swaps.delta_mse, mse=step['mse'], theta_best=roc.theta_best)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", "".join(CODE) + keep],
        cwd=folder,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(SCRIPTS), "PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "found.npz")), done.stdout


def test_the_tutorial_finds_what_was_planted(printed):
    found, _ = printed
    np.testing.assert_array_equal(found["novel"], found["cosine"] < 0.7)
    np.testing.assert_allclose(found["max_cosine"], found["cosine"], atol=1e-5)
    np.testing.assert_array_equal(found["delta_mse"] < 0, found["cosine"] < 0.5**0.5)
    scale = np.abs(found["expected"]).max()
    np.testing.assert_allclose(found["delta_mse"], found["expected"], atol=1e-4 * scale)
    assert abs(found["theta_best"] - 0.5**0.5) < 0.01
    assert found["mse"][-1] < 1e-6 * found["mse"][0]


def test_the_tutorial_is_about_twenty_lines_up_to_figure_4():
    lines = [line for line in "".join(CODE[:2]).splitlines() if line.strip()]
    assert "figure4(" in lines[-1]
    assert len(lines) <= 36  # 12 of them write out what one call of SAE is given


def test_the_notebook_is_the_tutorial(printed, tmp_path):
    stored = nbformat.read(maker.NOTEBOOK, as_version=4)
    made = maker.from_markdown()
    assert [(c.cell_type, c.id, c.source) for c in stored.cells] == [
        (c.cell_type, c.id, c.source) for c in made.cells
    ]
    assert [c.source for c in made.cells if c.cell_type == "code"][1:] == [
        code.rstrip("\n") for code in CODE
    ]
    assert maker.NOTEBOOK.stat().st_size < 500_000
    done = maker.run(made, tmp_path)
    for ours, theirs in zip(stored.cells, done.cells, strict=True):
        assert text(ours) == text(theirs)
        assert pictures(ours) == pictures(theirs)
    assert sum(map(pictures, stored.cells)) == 2
    # And what the notebook prints is what plain Python prints.
    assert "".join(map(text, stored.cells)) == printed[1]


def text(cell) -> str:
    return "".join(o.text for o in cell.get("outputs", []) if o.output_type == "stream")


def pictures(cell) -> int:
    outputs = [o for o in cell.get("outputs", []) if "data" in o]
    assert all("image/png" in o.data for o in outputs)
    return len(outputs)


def test_the_formats_are_those_of_the_records():
    page = formats.PAGE.read_text(encoding="utf-8")
    assert page == formats.page(), "run docs/formats.py"
    assert page.count("\n### `") == len(formats.records()) == 18
    # No file of the library is written past them.
    for path in formats.LIBRARY.rglob("*.py"):
        if path.name not in ("store.py", "record.py"):
            assert "write_hdf5(" not in path.read_text(encoding="utf-8"), path
