"""Figure 4 of a small study whose inputs are written here, drawn by the real workflow."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from sae_stitching.base.record import write_record
from sae_stitching.matching.subgraphs import Subgraphs
from sae_stitching.stitching.insertions import Insertions

FIGURE = "results/tiny/figures/figure4_32--64.csv"
LOG = "results/tiny/logs/figure4.log"
DELTA_MSE = np.linspace(-1.0, 1.0, 64)


def write_inputs(folder: Path) -> None:
    """Write what Figure 4 of the tiny preset's pairs is drawn from, the same for each."""
    origin = {"study": "tiny", "provenance": {}}
    where = folder / "results" / "tiny"
    counts, cosines = np.full(64, 9), np.linspace(0, 1, 64, dtype=np.float32)
    insertions = Insertions(DELTA_MSE, np.full(64, 0.1), counts, cosines, 1.0, 0.5, 99)
    alone = np.where(cosines < 0.5, -1, 0).astype(np.int32)
    subgraphs = Subgraphs(np.zeros(32, np.int32), alone, 0.5, 1)
    for pair in ("32--64", "32--128", "64--128"):
        write_record(insertions, where / "stitching" / "insertions" / f"{pair}.h5", **origin)
        write_record(subgraphs, where / "subgraphs" / f"{pair}.h5", **origin)


@dataclass
class Figure4:
    """A checkout, a folder it runs in, and the Python and the environment that it runs with."""

    checkout: Path
    folder: Path
    python: str = sys.executable
    environment: dict[str, str] = field(default_factory=dict)

    def draw(self, *arguments: str) -> tuple[int, str]:
        """Draw the figure where it is not there or stale; exit status, and all that was said."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("SNAKEMAKE_")}
        config = self.checkout / "presets" / "tiny.yaml"
        options = ["--snakefile", self.checkout / "Snakefile", "--directory", self.folder]
        options += ["--configfile", config, "--cores", "1", *arguments]
        options += ["--allowed-rules", "figure4", "--", FIGURE]
        done = subprocess.run(
            [self.python, "-m", "snakemake", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**inherited, **self.environment},
            cwd=self.folder.parent,
        )
        return done.returncode, done.stdout

    @property
    def factor(self) -> float:
        """What the figure's numbers are times those of the stored insertions."""
        shown = pd.read_csv(self.folder / FIGURE)["delta_mse"].to_numpy()
        (factor,) = set(np.round(shown / DELTA_MSE, 6))
        return factor

    def error(self, said: str) -> str:
        """The one line that says what is wrong."""
        assert "Traceback" not in said
        (line,) = [line for line in said.splitlines() if line.startswith("error")]
        return line
