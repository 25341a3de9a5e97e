"""Runs that are killed, that meet, and that share a cache."""

import os
import shutil
import signal
import time

from helpers.checkout import ROOT
from helpers.package_index import CONTENT, pinned
from helpers.runs import Run
from sae_stitching.text.sources import sha256


def test_after_a_crash_the_run_is_taken_up_again(spare, away):
    target, log = "saes/128.h5", spare.results / "logs" / "train_sae" / "128.log"
    (spare.results / target).unlink()
    log.unlink()
    process = spare.start("--cores", "2", f"results/tiny/{target}")
    deadline = time.monotonic() + 120
    while not log.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (spare.results / target).exists()

    # The locks of the killed run are still there, and nobody has to remove them.
    assert list((spare.folder / ".snakemake" / "locks").iterdir())
    status, said = spare.snakemake("--cores", "2", f"results/tiny/{target}")
    assert status == 0, said
    assert (spare.results / target).read_bytes() == (away.results / target).read_bytes()
    assert not list(spare.results.rglob(".*.h5"))
    # The SAE is the one that it was, so that nothing after it is stale.
    assert not spare.stale()


def test_a_second_run_is_turned_away(spare):
    target = "results/tiny/saes/128.h5"
    (spare.folder / target).unlink()
    log = spare.results / "logs" / "train_sae" / "128.log"
    log.unlink()
    first = spare.start("--cores", "1", target)
    deadline = time.monotonic() + 300
    while not log.exists():
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGSTOP)
    try:
        # Snakemake's own lock says so first; ours does where that one is left out.
        assert spare.snakemake("--cores", "1", target)[0] == 1
        status, said = spare.snakemake("--cores", "1", "--nolock", "--rerun-incomplete", target)
        assert status == 1
        assert "another run of the study tiny is under way in this folder" in said
        assert spare.snakemake("--dry-run", target)[0] == 0
    finally:
        os.killpg(first.pid, signal.SIGCONT)
    said, _ = first.communicate(timeout=600)
    assert first.returncode == 0, said


def test_studies_that_share_a_cache_leave_each_other_alone(index, tmp_path):
    cache, target = tmp_path / "cache", "results/tiny/sources/data/data.bin"
    source = pinned(wheel_sha256=sha256(next(index.iterdir())))
    config = {"cache": str(cache), "sources": {"data": source}, "text": {"source": "data"}}
    runs = [Run(ROOT, tmp_path / name) for name in ("mine", "yours")]
    for run in runs:
        run.folder.mkdir()
    for process in [run.start("--cores", "1", target, config=config) for run in runs]:
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
    (kept,) = cache.glob("sources/data/*/data.bin")
    assert [(run.folder / target).resolve() for run in runs] == [kept, kept]
    written = kept.stat().st_ino

    # Before a job runs, Snakemake removes what is there of its outputs.
    again = ("--forcerun", "fetch_source", "--cores", "1", target)
    status, said = runs[0].snakemake(*again, config=config)
    assert status == 0, said
    assert (kept.stat().st_ino, kept.read_bytes()) == (written, CONTENT)

    # Who empties the cache has to fetch again, and nothing else.
    shutil.rmtree(cache)
    status, said = runs[1].snakemake("--cores", "1", target, config=config)
    assert status == 0, said
    assert (runs[1].folder / target).read_bytes() == CONTENT
