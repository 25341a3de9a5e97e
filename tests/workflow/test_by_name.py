"""A study of SAEs that are named as SAELens names them, from the registry to the explorer."""

import os
import re
import subprocess
import sys

import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from helpers import stand_ins
from helpers.checkout import ROOT
from helpers.package_index import environment
from helpers.registry import PIN, write_index
from helpers.stand_ins import SIZES

RELEASE = "gpt2-small-res-jb-feature-splitting"
STUDY = {
    "study": "named",
    "registry": PIN,
    "text": {
        "source": "files",
        "files": [str(ROOT / "presets" / "tiny.txt")],
        "separator": "\n\n\n",
    },
    "tokens": {"context": 32, "eval_fraction": 0.5, "max_train_sequences": 1,
               "max_eval_sequences": 30},
    "activations": {"train_shards": 1},
    "evaluation": {"ce_tokens": 0},
    # The stand-ins are smaller than what they stand for.
    "saes": [
        {"release": RELEASE, "sae_id": f"blocks.8.hook_resid_pre_{name}", "d_sae": d_sae,
         "name": str(name)}
        for name, d_sae in zip((768, 1536), SIZES, strict=True)
    ],
}  # fmt: skip


@pytest.fixture
def run(hub, tmp_path):
    """Run Snakemake on the study, with a package index that has the registry alone."""
    stand_ins.fill(hub)
    index = tmp_path / "index"
    index.mkdir()
    write_index(index)
    (tmp_path / "named.yaml").write_text(yaml.safe_dump(STUDY))

    def run(*arguments: str) -> str:
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
        command += ["--configfile", "named.yaml", "--cores", "2", *arguments]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("SNAKEMAKE_", "PIP_"))}
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**kept, **environment(index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout

    return run


def test_two_names_are_a_study(run, hub, tmp_path):
    run("fetch")
    for wheel in (tmp_path / "index").iterdir():
        wheel.unlink()
    asked = hub.asked()
    with hub.off():
        run("sae_properties", "explorer")
        assert hub.asked() == asked
    results = tmp_path / "results" / "named"
    table = pd.read_csv(results / "tables" / "sae_properties.csv", dtype={"sae": str})
    assert table["published_l0"].tolist() == [35.0, 35.0]
    assert table["published_variance_explained"].tolist() == [0.7, 0.7]
    assert table["d_sae"].tolist() == list(SIZES)
    # The registry, and no file, says that these read centred activations.
    with h5py.File(results / "activations" / "eval" / "0000.h5") as file:
        x = file["activations"][:].astype(float)
    # Kept in float16, and perhaps computed in bfloat16.
    assert np.abs(x.mean(1)).max() < 1e-2 * np.abs(x).max()
    page = (results / "explorer" / "index.html").read_text(encoding="utf-8")
    assert re.search(r"gpt2-small/8-res_fs1536-jb", page)
