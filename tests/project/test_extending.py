"""What docs/extending.md says is done here, in a copy of the repository, and works.

A block below the path of a file, in backticks and with a colon, is that file; a diff is a change of
the one place in the file that its other lines are of.
"""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from helpers.shards import write_shards
from sae_stitching.base.record import write_record
from sae_stitching.stitching.insertions import Insertions

ROOT = Path(__file__).parents[2]
PARTS = ("Snakefile", "config.yaml", "docs", "envs", "presets", "profiles", "report", "rules")
PARTS += ("schemas", "workflow_scripts")
BLOCK = re.compile(r"^`([\w./-]+)`:\n\n```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
GUIDE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
SECTIONS = {part.partition("\n")[0]: part for part in GUIDE.split("\n## ")[1:]}
PAIRS = ("32--64", "32--128", "64--128")
N_ACTIVE = np.arange(64) // 2


def follow(section: str, checkout: Path) -> list[str]:
    """Do what a section of the guide says; the files that it touches."""
    touched = []
    for name, kind, text in BLOCK.findall(SECTIONS[section]):
        path = checkout / name
        touched.append(name)
        if kind == "diff":
            lines = text.splitlines()
            assert {line[:1] for line in lines} <= {" ", "+", "-", ""}
            before, after = (
                "".join(f"{line[1:]}\n" for line in lines if line[:1] != other) for other in "+-"
            )
            content = path.read_text(encoding="utf-8")
            assert content.count(before) == 1, (name, before)
            path.write_text(content.replace(before, after), encoding="utf-8")
        else:
            assert not path.exists()
            path.write_text(text, encoding="utf-8")
    return touched


@pytest.fixture
def checkout(tmp_path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    no_cache = shutil.ignore_patterns("__pycache__")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=no_cache)
        else:
            shutil.copy2(ROOT / part, folder / part)
    return folder


def run(checkout: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=checkout,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(checkout / "workflow_scripts")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def snakemake(checkout: Path, *arguments: str) -> str:
    config = ["--configfile", "presets/tiny.yaml"]
    return run(checkout, "-m", "snakemake", "--cores", "1", *config, *arguments)


def write_inputs(checkout: Path) -> None:
    """Write what is known of the pairs of the tiny preset, the same of each."""
    origin = {"study": "tiny", "provenance": {}}
    where = checkout / "results" / "tiny"
    cosines, error = np.linspace(0, 1, 64, dtype=np.float32), np.full(64, 0.1)
    insertions = Insertions(np.linspace(-1, 1, 64), error, N_ACTIVE, cosines, 1.0, 0.5, 99)
    for pair in PAIRS:
        write_record(insertions, where / "stitching" / "insertions" / f"{pair}.h5", **origin)


def test_every_section_with_changes_is_followed():
    changed = {section for section, text in SECTIONS.items() if BLOCK.search(text)}
    assert changed == {"A figure", "A table", "An architecture", "A format of SAEs"}
    assert len(BLOCK.findall(GUIDE)) == GUIDE.count("```") // 2


def test_a_figure_and_a_table(checkout):
    assert len(follow("A figure", checkout)) == len(follow("A table", checkout)) == 5
    write_inputs(checkout)
    run(checkout, "docs/results.py")
    listed = (checkout / "docs" / "results.md").read_text(encoding="utf-8")
    assert "`figures/activity.*`" in listed and "`tables/quiet.csv`" in listed
    results = checkout / "results" / "tiny"
    targets = [f"results/tiny/{name}" for name in ("figures/activity.png", "tables/quiet.csv")]
    snakemake(checkout, "--allowed-rules", "activity", "quiet", "--", *targets)
    shown = pd.read_csv(results / "figures" / "activity.csv")
    assert (results / "figures" / "activity.pdf").stat().st_size > 0
    assert shown["share"].tolist() == pytest.approx([*N_ACTIVE / 99] * 3)
    assert pd.read_csv(results / "tables" / "quiet.csv")["n_quiet"].tolist() == [2, 2, 2]
    for rule in ("activity", "quiet"):
        assert (results / "logs" / f"{rule}.log").exists()
        assert (results / "benchmarks" / f"{rule}.tsv").exists()
    # They are among what the whole study is to have, and the table has a page of the report.
    said = snakemake(checkout, "--dry-run", "--forceall")
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", said[said.index("Job stats:") :], re.MULTILINE))
    assert jobs["activity"] == jobs["quiet"] == "1"
    assert "results/tiny/report/quiet.html" in said


def test_an_architecture(checkout, tmp_path):
    follow("An architecture", checkout)
    config = {"training": {"architecture": "squared", "steps": 30, "sparsity_coefficient": 0.1}}
    config["stitched"] = []
    (checkout / "squared.yaml").write_text(yaml.safe_dump(config))
    x = torch.randn(2048, 32, generator=torch.Generator().manual_seed(0))
    shards = write_shards(tmp_path, x, [2048])
    train = f"""
import torch
from sae_stitching.activations.shards import ActivationShards
from sae_stitching.config.study import read_study
from sae_stitching.saes.sae import read_sae, save_sae
from sae_stitching.saes.training import Trainer, TrainingConfig

study = read_study(".", ["presets/tiny.yaml", "squared.yaml"], [])
config = TrainingConfig.from_mapping(study["saes"][0])
sae = Trainer(config, ActivationShards({list(map(str, shards.paths))!r})).train("squared")
save_sae(sae, "squared.h5", study="tiny", provenance={{}})
sae = read_sae("squared.h5")
x = torch.randn(64, 32)
codes = sae.encode(x).to_dense()
torch.testing.assert_close(codes, sae.pre_activations(x).relu())
print(sae.architecture, bool((codes > 0).any()))
"""
    assert run(checkout, "-c", train).splitlines()[-1] == "squared True"


def test_a_format_of_saes(checkout, tmp_path):
    follow("A format of SAEs", checkout)
    weights = {
        "W_enc": np.eye(3, 5),
        "W_dec": np.eye(5, 3),
        "b_enc": np.ones(5),
        "b_dec": np.ones(3),
    }
    np.savez(tmp_path / "arrays.npz", **{k: v.astype(np.float32) for k, v in weights.items()})
    schema = yaml.safe_load((checkout / "schemas" / "config.schema.yaml").read_text("utf-8"))
    assert '"arrays"' in json.dumps(schema["properties"]["saes"])
    load = f"""
from sae_stitching.formats.pretrained import load_sae

sae = load_sae({str(tmp_path)!r})
print(sae.d_model, sae.d_sae, sae.architecture, sae.b_enc.sum().item())
"""
    assert run(checkout, "-c", load).splitlines()[-1] == "3 5 relu 5.0"
