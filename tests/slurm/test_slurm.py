"""The tiny preset on a real SLURM: what it sends, what it leaves, and what it outlives.

tests/slurm/run sets up a cluster of one node for this and runs it.
"""

import csv
import io
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers.checkout import ROOT, files
from helpers.runs import Run
from helpers.tiny import SHARDS, SIZES

if shutil.which("sinfo") is None or subprocess.run(["sinfo", "-h"], capture_output=True).returncode:
    pytest.skip("no SLURM runs here; tests/slurm/run sets one up", allow_module_level=True)

SLURM = [
    "--workflow-profile",
    str(ROOT / "profiles" / "slurm"),
    # This cluster has no accounting database, and nobody else to be bothered by questions.
    "--slurm-status-command=squeue",
    "--slurm-init-seconds-before-status-checks=3",
    "--seconds-between-status-checks=3",
    "--latency-wait=10",
]


def jobs() -> list[dict[str, str]]:
    """All jobs that SLURM remembers, with the rule and wildcards that the executor notes."""
    said = subprocess.run(["scontrol", "show", "jobs"], capture_output=True, text=True, check=True)
    found = []
    for block in said.stdout.split("\n\n"):
        job = dict(re.findall(r"(\S+?)=(\S*)", block))
        if job:
            found.append(job)
    return found


def of_rule(rule: str) -> list[dict[str, str]]:
    return [job for job in jobs() if job.get("Comment", "").startswith(f"rule_{rule}")]


def wait_for(what, seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.3)


def results(run: Run) -> dict[str, bytes]:
    names = (n for n in files(run.results) if not n.startswith(("logs/", "benchmarks/")))
    return {name: (run.results / name).read_bytes() for name in names}


def needed(run: Run, goal: str) -> dict[str, bytes]:
    """Results that are made on the way to a goal, folders with all that is in them."""
    status, said = run.snakemake("--summary", goal)
    assert status == 0, said
    table = csv.DictReader(io.StringIO(said[said.index("output_file\t") :]), delimiter="\t")
    made = tuple(row["output_file"].removeprefix("results/tiny/") + "/" for row in table)
    return {name: data for name, data in results(run).items() if f"{name}/".startswith(made)}


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Run:
    """An undisturbed run on this machine, from which the runs on SLURM must not differ."""
    folder = tmp_path_factory.mktemp("local")
    run = Run(ROOT, folder)
    status, said = run.snakemake("--cores", "all", seconds=3000)
    assert status == 0, said[-3000:]
    return run


def test_the_same_bytes_as_on_one_machine(local, tmp_path):
    run = Run(ROOT, tmp_path)
    status, said = run.snakemake(*SLURM, seconds=3000)
    assert status == 0, said[-3000:]
    assert results(run) == results(local)

    sent = jobs()
    assert {job["JobState"] for job in sent} == {"COMPLETED"}
    for job in sent:
        with_gpu = "gpu" in job.get("TresPerJob", "") + job.get("TresPerNode", "")
        may = job["Comment"].startswith(("rule_train_sae", "rule_cache_activations"))
        assert with_gpu == may, job
    # Independent jobs do not wait for each other: all were sent before the first had ended.
    for rule, number in (("cache_activations", len(SHARDS)), ("train_sae", len(SIZES))):
        together = of_rule(rule)
        assert len(together) == number
        assert max(job["SubmitTime"] for job in together) <= min(j["EndTime"] for j in together)


def test_what_happens_to_jobs_daemons_and_drivers(local, tmp_path):
    # The table of pairs needs jobs of every kind that there is, without all the figures.
    run, goal = Run(ROOT, tmp_path), [*SLURM, "pairs"]
    earlier = {job["JobId"] for job in jobs()}

    def running(rule: str) -> list[str]:
        return [
            job["JobId"]
            for job in of_rule(rule)
            if job["JobState"] == "RUNNING" and job["JobId"] not in earlier
        ]

    driver = run.start(*goal)
    wait_for(lambda: running("cache_activations"))
    subprocess.run(["scancel", running("cache_activations")[0]], check=True)

    wait_for(lambda: running("train_sae"))
    os.kill(int(Path(os.environ["SLURMD_PIDFILE"]).read_text()), signal.SIGKILL)
    time.sleep(3)
    subprocess.run(["slurmd"], check=True)

    wait_for(lambda: running("insertions") or driver.poll() is not None)
    os.killpg(driver.pid, signal.SIGKILL)
    driver.communicate()
    cached = {p: p.stat().st_mtime_ns for p in (run.results / "activations").rglob("*.h5")}
    trained = {p: p.stat().st_mtime_ns for p in (run.results / "saes").glob("*.h5")}

    # The documented command, while jobs of the dead driver may still be running.
    status, said = run.snakemake(*goal, seconds=3000)
    assert status == 0, said[-3000:]
    # All that the goal needs, and nothing beside it.
    assert results(run) == needed(local, "pairs")
    for path, written in (cached | trained).items():
        assert path.stat().st_mtime_ns == written, path
