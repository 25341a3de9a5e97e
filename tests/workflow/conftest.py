"""Runs of the tiny preset that all tests of the workflow share, also those of other processes."""

import os
import shutil

import pytest
from filelock import FileLock
from helpers.checkout import ROOT, copy_checkout
from helpers.runs import Run
from helpers.tiny import SECOND_FILES, SECOND_STUDY


@pytest.fixture(scope="session")
def runs(tmp_path_factory) -> dict[str, Run]:
    """A study run from nothing, its results in another folder, and a second run of a part of it."""
    base = tmp_path_factory.getbasetemp()
    # Of several processes that test, one makes the runs, and each has a folder in that of all.
    base = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "runs"
    base.mkdir(exist_ok=True)
    found = {
        "copy": Run(base / "copy", base / "copy"),
        "away": Run(ROOT, base / "away"),
        "again": Run(ROOT, base / "again"),
    }
    with FileLock(base / "lock"):
        if not (base / "done").exists():
            _make(found["copy"], found["away"], found["again"])
            (base / "done").touch()
    return found


def _make(copy: Run, away: Run, again: Run) -> None:
    copy_checkout(copy.folder)
    again.folder.mkdir()
    targets = [f"results/tiny/{name}" for name in SECOND_FILES]
    # On one core the SAEs are trained with as many threads as on two: the bytes must not differ.
    processes = [
        copy.start("--cores", "2"),
        again.start("--cores", "1", "--", *targets, config=SECOND_STUDY),
    ]
    for process in processes:
        said, _ = process.communicate(timeout=1800)
        assert process.returncode == 0, said[-5000:]
    # With the text in the folder too its path is the one that it had in the copy.
    for part in ("results", ".snakemake"):
        shutil.copytree(copy.folder / part, away.folder / part)
    (away.folder / "presets").mkdir()
    shutil.copy2(copy.folder / "presets" / "tiny.txt", away.folder / "presets")


@pytest.fixture
def copy(runs) -> Run:
    """The run in a copy of the repository, whose code a test may change for itself."""
    return runs["copy"]


@pytest.fixture
def away(runs) -> Run:
    """Its results in another folder, for the workflow of this repository; no test changes them."""
    return runs["away"]


@pytest.fixture
def again(runs) -> Run:
    """A second run, of this repository into another folder and on another number of cores."""
    return runs["again"]


@pytest.fixture
def spare(away, tmp_path) -> Run:
    """The results once more, to break."""
    folder = tmp_path / "spare"
    shutil.copytree(away.folder, folder)
    return Run(ROOT, folder)
