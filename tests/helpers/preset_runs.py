"""The presets of the paper's studies, run in a folder against the hub of the tests."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from helpers.checkout import ROOT


def command(
    folder: Path, preset: str, *arguments: str, overlay: dict[str, Any] | None = None
) -> list[str]:
    """Command line of Snakemake on a preset in `folder`, with `overlay` over it."""
    configs = [str(ROOT / "presets" / f"{preset}.yaml")]
    if overlay is not None:
        configs.append(str(folder / "overlay.yaml"))
        Path(configs[-1]).write_text(yaml.safe_dump(overlay))
    start = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    start += ["--directory", str(folder), "--configfile", *configs, "--cores", "2"]
    return [*start, *arguments]


def snakemake(
    folder: Path, preset: str, *arguments: str, fails: bool = False, **options: Any
) -> str:
    """Run Snakemake on a preset, to its end or its failure; what it said."""
    environment = {key: v for key, v in os.environ.items() if not key.startswith("SNAKEMAKE_")}
    done = subprocess.run(
        command(folder, preset, *arguments, **options),
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
        check=False,
    )
    assert (done.returncode != 0) == fails, done.stdout[-5000:]
    return done.stdout


def assert_nowhere(token: str, *folders: Path) -> None:
    """A token is in no file of these folders, nor in the name of one."""
    for path in (path for folder in folders for path in folder.rglob("*")):
        assert token not in str(path)
        assert not path.is_file() or token.encode() not in path.read_bytes()
