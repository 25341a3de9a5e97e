"""The workflow on the tiny preset, as a command."""

import csv
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from helpers.tiny import JOBS


@dataclass(frozen=True)
class Run:
    """A folder that the workflow of `root` runs in."""

    root: Path
    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "results" / "tiny"

    def command(self, *arguments: str, config: dict[str, Any] | str | None = None) -> list[str]:
        """Command line of Snakemake on the tiny preset, with `config` over it."""
        configs = [str(self.root / "presets" / "tiny.yaml")]
        elsewhere = ["--snakefile", str(self.root / "Snakefile"), "--directory", str(self.folder)]
        if self.root == self.folder:
            configs, elsewhere = ["presets/tiny.yaml"], []
        if config is not None:
            path = self.folder.with_name(f"{self.folder.name}.override.yaml")
            path.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
            configs.append(str(path))
        options = [*elsewhere, "--configfile", *configs, *arguments]
        return [sys.executable, "-m", "snakemake", *options]

    def start(self, *arguments: str, **options: Any) -> "subprocess.Popen[str]":
        """Start Snakemake in a session of its own, stderr into stdout."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SNAKEMAKE_")}
        return subprocess.Popen(
            self.command(*arguments, **options),
            cwd=self.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def snakemake(self, *arguments: str, seconds: float = 600, **options: Any) -> tuple[int, str]:
        """Run Snakemake; exit status and all that it said."""
        process = self.start(*arguments, **options)
        said, _ = process.communicate(timeout=seconds)
        return process.returncode, said

    def stale(self, config: dict[str, Any] | None = None) -> set[str]:
        """Jobs that Snakemake would do, as their logs are called."""
        status, said = self.snakemake("--summary", config=config)
        assert status == 0, said
        table = io.StringIO(said[said.index("output_file\t") :])
        rows = csv.DictReader(table, delimiter="\t")
        return {_job_of(row) for row in rows if row["plan"] != "no update"}


def _job_of(row: dict[str, str]) -> str:
    log = row["log-file(s)"]
    if log != "-":
        return str(Path(log).relative_to("results/tiny/logs").with_suffix(""))
    # Of what is not there yet the summary knows no log.
    rule = row["rule"]
    return f"{rule}/{Path(row['output_file']).stem}" if JOBS[rule] else rule
