"""Kill the tiny preset over and over, and see that nothing is lost, wrong or done twice.

    python tests/chaos.py --kills 100 --seed 0

Every kill hits a job of another rule, a random moment after it began, with SIGKILL,
SIGINT or SIGTERM, sent to all processes of the run or to Snakemake alone, whose jobs then go on
as orphans beside their second copies. Then the same command is given again. When a study is done,
its files must be, byte for byte, those of a run that nobody disturbed; activations and SAEs that
were done at a kill must not have been made again. Ends with a table, and with status 1 if anything
was not as it should be.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from helpers.checkout import ROOT, SCRIPTS, files

sys.path.insert(0, str(SCRIPTS))  # where the helpers find the library

from helpers.runs import Run

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
# As docs/running.md says it; what else a run needs to find its folder comes from `Run`.
COMMAND = ("--cores", "2")


def contents(run: Run) -> dict[str, bytes]:
    names = (n for n in files(run.results) if not n.startswith(("logs/", "benchmarks/")))
    return {name: (run.results / name).read_bytes() for name in names}


def hidden(run: Run) -> set[str]:
    """Temporary files that nobody removed; of a killed process they stay and do no harm."""
    return {name for name in files(run.results) if Path(name).name.startswith(".")}


def costly(run: Run) -> dict[str, tuple[int, int]]:
    """Activations and SAEs that Snakemake knows to be done: their inodes and times."""
    done = {}
    for path in [*run.results.glob("activations/*/*.h5"), *run.results.glob("saes/*.h5")]:
        name = str(path.relative_to(run.folder))
        if recorded(run, "metadata", name) and not recorded(run, "incomplete", name):
            done[name] = path.stat().st_ino, path.stat().st_mtime_ns
    return done


def recorded(run: Run, kind: str, name: str) -> bool:
    from base64 import urlsafe_b64encode

    return (run.folder / ".snakemake" / kind / urlsafe_b64encode(name.encode()).decode()).exists()


def remaking(before: dict[str, tuple[int, int]], run: Run) -> list[str]:
    now = costly(run)
    return [name for name, was in before.items() if now.get(name, was) != was]


class Campaign:
    """Kills of one study after the other, until there were enough."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.random = folder, random.Random(seed)
        self.kills: Counter[tuple[str, str, str]] = Counter()
        self.problems: list[str] = []

    def run(self, name: str) -> Run:
        folder = self.folder / name
        folder.mkdir(parents=True)
        return Run(ROOT, folder)

    def start(self, run: Run) -> "subprocess.Popen[str]":
        log = open(self.folder / f"{run.folder.name}.log", "a")  # noqa: SIM115, the child's
        return subprocess.Popen(
            run.command(*COMMAND),
            cwd=run.folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def study(self, name: str, wanted: int, seconds: dict[str, float]) -> Run:
        """Run one study to its end, killing it on the way."""
        run = self.run(name)
        left = set(seconds)
        done: dict[str, tuple[int, int]] = {}
        while True:
            process = self.start(run)
            rule = self.wait_for(run, left, process) if self.kills.total() < wanted else None
            if rule is None:
                if process.wait() != 0:
                    self.problems.append(f"{name}: ended with status {process.returncode}")
                self.problems += [f"{name}: {n} was made again" for n in remaking(done, run)]
                return run
            left.remove(rule)
            time.sleep(self.random.uniform(0, seconds[rule]))
            self.kill(run, process, rule)
            self.problems += [f"{name}: {n} was made again" for n in remaking(done, run)]
            done = costly(run)

    def wait_for(self, run: Run, rules: set[str], process: "subprocess.Popen[str]") -> str | None:
        """Wait for a job of one of the rules to begin; None if the run ends without one."""
        start = time.time()
        logs = run.results / "logs"
        while process.poll() is None:
            began = {
                path.relative_to(logs).parts[0].removesuffix(".log")
                for path in logs.glob("**/*.log")
                if path.exists() and path.stat().st_mtime >= start
            }
            if found := sorted(began & rules):
                return self.random.choice(found)
            time.sleep(0.02)
        return None

    def kill(self, run: Run, process: "subprocess.Popen[str]", rule: str) -> None:
        number = self.random.choice(SIGNALS)
        whom = self.random.choice(("all processes", "Snakemake alone"))
        if whom == "Snakemake alone":
            process.send_signal(number)
        else:
            os.killpg(process.pid, number)
        try:
            process.wait(timeout=300)
        except subprocess.TimeoutExpired:
            self.problems.append(f"{run.folder.name}: {number.name} on {rule} did not end it")
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self.kills[rule, number.name, whom] += 1
        print(f"{self.kills.total()}: {number.name} to {whom} during {rule}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep runs and logs here")
    options = parser.parse_args()
    # A shell starts what it puts in the background with SIGINT ignored, and so would be the runs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    campaign = Campaign(folder, options.seed)

    undisturbed = campaign.run("undisturbed")
    if campaign.start(undisturbed).wait() != 0:
        print(f"the undisturbed run failed; see {folder}/undisturbed.log", file=sys.stderr)
        return 1
    expected = contents(undisturbed)
    # How long a job of each rule takes, in the order in which they began.
    tables = sorted(
        undisturbed.results.glob("benchmarks/**/*.tsv"), key=lambda path: path.stat().st_mtime
    )
    seconds: dict[str, float] = {}
    for path in tables:
        rule = path.relative_to(undisturbed.results / "benchmarks").parts[0].removesuffix(".tsv")
        seconds.setdefault(rule, float(path.read_text().splitlines()[1].split("\t")[0]))

    number = 0
    while campaign.kills.total() < options.kills:
        # A short campaign takes other rules with every seed.
        rules = list(seconds.items())
        if options.kills < len(rules):
            chosen = set(campaign.random.sample(range(len(rules)), options.kills))
            rules = [rule for i, rule in enumerate(rules) if i in chosen]
        run = campaign.study(f"study-{number}", options.kills, dict(rules))
        number += 1
        left = hidden(run) - expected.keys()
        found = {name: data for name, data in contents(run).items() if name not in left}
        differ = {name for name in found.keys() | expected if found.get(name) != expected.get(name)}
        campaign.problems += [f"{run.folder.name}: {name} differs" for name in sorted(differ)]
        if not campaign.problems and options.folder is None:
            shutil.rmtree(run.folder)

    print(f"\n{'rule':24} {'signal':8} {'sent to':16} kills")
    for (rule, name, whom), count in sorted(campaign.kills.items()):
        print(f"{rule:24} {name:8} {whom:16} {count:5}")
    print(f"{campaign.kills.total()} kills, {len(campaign.problems)} problems")
    for problem in campaign.problems:
        print(f"problem: {problem}", file=sys.stderr)
    if campaign.problems:
        print(f"the runs are kept in {folder}", file=sys.stderr)
    elif options.folder is None:
        shutil.rmtree(folder)
    return int(bool(campaign.problems))


if __name__ == "__main__":
    sys.exit(main())
