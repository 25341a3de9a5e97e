"""Runs of the tiny preset that all tests of the workflow share."""

import shutil

import pytest
from helpers.checkout import PARTS, ROOT, SCRIPTS
from helpers.runs import Run


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[Run, Run]:
    """Two runs from nothing, side by side."""
    base = tmp_path_factory.mktemp("workflow")
    copy, away = Run(base / "copy", base / "copy"), Run(ROOT, base / "away")
    copy.folder.mkdir()
    away.folder.mkdir()
    for part in PARTS:
        kind = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        kind(ROOT / part, copy.folder / part)
    no_cache = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / SCRIPTS, copy.folder / SCRIPTS, ignore=no_cache)
    # On one core the SAEs are trained with as many threads as on two: the bytes must not differ.
    processes = [copy.start("--cores", "2"), away.start("--cores", "1")]
    for process in processes:
        said, _ = process.communicate(timeout=900)
        assert process.returncode == 0, said[-5000:]
    return copy, away


@pytest.fixture
def copy(runs) -> Run:
    """The run in a copy of the repository, whose code a test may change for itself."""
    return runs[0]


@pytest.fixture
def away(runs) -> Run:
    """The run of this repository in another folder, which no test changes."""
    return runs[1]


@pytest.fixture
def spare(away, tmp_path) -> Run:
    """The results of that run once more, to break."""
    folder = tmp_path / "spare"
    shutil.copytree(away.folder, folder)
    return Run(ROOT, folder)
