"""The whole workflow on the tiny preset: files, numbers, what makes them stale, and complaints.

Two runs from nothing are shared by all tests: one in a copy of the repository, as someone who
cloned it runs it, and one of this repository into another folder and on another number of cores.
"""

import csv
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import networkx
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from helpers.oracle import Stitched, clustered_standard_error, dense_codes
from PIL import Image
from sae_stitching.formats.saelens import export_saelens
from sae_stitching.saes.sae import SAE, read_sae
from sae_stitching.tables.register import RESULTS
from test_sources import CONTENT, index, pinned, sha256  # noqa: F401, a fixture

ROOT = Path(__file__).parents[2]
PARTS = (
    "Snakefile",
    "config.yaml",
    "envs",
    "presets",
    "profiles",
    "report",
    "rules",
    "schemas",
)
SCRIPTS = "workflow_scripts"
LIBRARY = f"{SCRIPTS}/sae_stitching"

# The tiny preset: what its file says, and what the tests count on.
TINY = yaml.safe_load((ROOT / "presets" / "tiny.yaml").read_text(encoding="utf-8"))
LIST: list[dict[str, Any]] = TINY["saes"]
ARCHITECTURES = {
    str(sae["d_sae"]): sae.get("architecture", TINY["training"].get("architecture", "relu"))
    for sae in LIST
}
SIZES = {"32": 32, "64": 64, "128": 128}
# Of stitched SAEs the size shows when they are made.
STITCHED_SAES = {recipe["name"]: recipe for recipe in TINY["stitched"]}
ALL_SAES = (*SIZES, *STITCHED_SAES)
PAIRS = ("32--64", "32--128", "64--128")
STEPS = ("32--64", "64--128")
D_MODEL, CONTEXT = 32, 32
FLOOR, THETA = TINY["similarity"]["floor"], TINY["stitching"]["threshold"]

SHARDS = ("train/0000", "train/0001", "eval/0000")
# What of the register the tiny preset has.
SHOWN = [r for r in RESULTS if r.when in ("", "steps", "trained", "stitched", "ce_tokens")]
TABLES = tuple(result.name for result in SHOWN if result.table)
# Every job but `all`: the rule, and what tells its jobs apart.
JOBS: dict[str, tuple[str, ...]] = {
    "make_random_model": (),
    "tokenise": (),
    "cache_activations": SHARDS,
    "train_sae": tuple(SIZES),
    "stitch_sae": tuple(STITCHED_SAES),
    "encode": ALL_SAES,
    "evaluate": ALL_SAES,
    "similarity": PAIRS,
    "insertions": PAIRS,
    "subgraphs": PAIRS,
    "swaps": PAIRS,
    "transition_step": STEPS,
    "transition": (),
    "roc": (),
    "activation_similarity": PAIRS,
    "random_insertion": PAIRS,
    "transition_orders": STEPS,
    "select_latents": STEPS,
    "passages": tuple(SIZES),
    "explorer": (),
    "table_pages": (),
    **{result.made_by: () for result in SHOWN},
}


def jobs(*rules: str) -> set[str]:
    """Jobs of these rules, as their logs are called."""
    return {name for rule in rules for name in _jobs_of(rule, JOBS[rule])}


def _jobs_of(rule: str, instances: tuple[str, ...]) -> list[str]:
    return [f"{rule}/{instance}" for instance in instances] or [rule]


def pages(*tables: str) -> set[str]:
    """The job that lays out these tables for the report."""
    assert set(tables) <= set(TABLES)
    return jobs("table_pages")


EVERYTHING = jobs(*JOBS)
FROM_TOKENS = EVERYTHING - jobs("make_random_model")
FROM_ACTIVATIONS = FROM_TOKENS - jobs("tokenise")
FROM_SAES = FROM_ACTIVATIONS - jobs("cache_activations")
# What is made of SAEs that are not stitched, and what is made of stitched ones.
OF_STITCHED = {f"{rule}/{sae}" for rule in ("stitch_sae", "encode", "evaluate")
               for sae in STITCHED_SAES}  # fmt: skip
OF_STITCHED |= jobs("cross_entropy", "sae_properties", "stitched", "summary")
OF_STITCHED |= pages("cross_entropy", "sae_properties", "stitched")
FROM_SIMILARITY = FROM_SAES - jobs(
    "train_sae", "stitch_sae", "encode", "evaluate", "cross_entropy", "sae_properties", "figure17"
)
FROM_SIMILARITY -= jobs("passages", "training_curve", "stitched")
FROM_SUBGRAPHS = FROM_SIMILARITY - jobs(
    "similarity", "activation_similarity", "insertions", "roc", "figure8"
)
# Figures of all pairs, and of all steps of the transition.
OF_PAIRS = jobs("figure7", "figure8", "figure12", "figure13", "figure14", "figure15", "figure16")
OF_PAIRS |= jobs("figure4", "roc", "significance", "pairs", "explorer", "summary")
OF_PAIRS |= pages("significance", "pairs", "components")
OF_STEPS = jobs("transition", "figure5", "orders", "selection", "summary")
OF_STEPS |= pages("orders", "selection")
FIGURES = jobs(*(result.made_by for result in SHOWN if result.figure))
# Some write a table too, and the report shows it.
FIGURES |= pages("components", "significance", "orders", "selection", "stitched")


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


# What is written


def result_files() -> set[str]:
    """Files that docs/results.md promises, without logs and benchmarks."""
    figures = [
        "_".join([result.name, *pair])
        for result in SHOWN
        if result.figure
        for pair in ([[pair] for pair in PAIRS] if result.each == "pairs" else [[]])
    ]
    return {
        "corpus/tokens.h5",
        *(f"activations/{shard}.h5" for shard in SHARDS),
        *(f"{kind}/{sae}.h5" for kind in ("saes", "codes") for sae in ALL_SAES),
        *(f"saes/{sae}.csv" for sae in SIZES),
        *(f"evaluation/{sae}.json" for sae in ALL_SAES),
        *(f"passages/{sae}.h5" for sae in SIZES),
        "explorer/index.html",
        "explorer/.snakemake_timestamp",
        "report/summary.html",
        *(f"report/{table}.html" for table in TABLES),
        *(f"{kind}/{pair}.h5" for kind in ("similarity", "subgraphs") for pair in PAIRS),
        *(f"subgraphs/{pair}.graphml" for pair in PAIRS),
        *(
            f"stitching/{kind}/{pair}.h5"
            for kind in ("insertions", "swaps", "threshold", "roc", "random_insertion")
            for pair in PAIRS
        ),
        *(f"similarity/activations/{pair}.h5" for pair in PAIRS),
        *(f"stitching/{kind}/{pair}.h5" for kind in ("orders", "selection") for pair in STEPS),
        *(f"stitching/transition/{pair}.h5" for pair in STEPS),
        "stitching/transition.h5",
        *(f"tables/{table}.csv" for table in TABLES),
        *(f"figures/{figure}.{suffix}" for figure in figures for suffix in ("pdf", "png", "csv")),
    }


def files(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_the_run_writes_what_is_promised_and_nothing_else(away):
    assert {path.name for path in away.folder.iterdir()} == {".snakemake", "results"}
    assert [path.name for path in (away.folder / "results").iterdir()] == ["tiny"]
    expected = (
        result_files()
        | {f"logs/{job}.log" for job in EVERYTHING}
        | {f"benchmarks/{job}.tsv" for job in EVERYTHING}
    )
    found = {name for name in files(away.results) if not name.startswith("model/")}
    assert found == expected
    assert (away.results / "model" / "model.safetensors").stat().st_size > 0
    for job in EVERYTHING:
        header = (away.results / "benchmarks" / f"{job}.tsv").read_text().split("\t")
        assert {"s", "max_rss"} <= set(header)


def test_two_runs_give_the_same_bytes(copy, away):
    names = {name for name in files(copy.results) if not name.startswith(("logs/", "benchmarks/"))}
    differ = {
        name
        for name in names
        if (copy.results / name).read_bytes() != (away.results / name).read_bytes()
    }
    assert not differ


def test_no_result_names_a_folder_of_this_machine(copy, away):
    folders = [copy.folder.parent, ROOT, Path.home()]
    needles = [str(folder).encode() + b"/" for folder in folders if folder != Path("/")]
    for run in (copy, away):
        for name in files(run.results):
            if not name.startswith("logs/"):
                content = (run.results / name).read_bytes()
                assert not [needle for needle in needles if needle in content], name


def shapes_of(run: Run) -> dict[str, int]:
    """Sizes that the config alone does not fix."""
    with h5py.File(run.results / "corpus/tokens.h5") as file:
        return {split: len(file[f"{split}/tokens"]) for split in ("train", "eval")}


def test_hdf5_files_hold_the_promised_datasets(away):
    sequences = shapes_of(away)
    f4, f8, i4, i8 = np.float32, np.float64, np.int32, np.int64
    n_eval = sequences["eval"] * (CONTEXT - 1)

    def check(name: str, datasets: dict[str, tuple], attributes: set[str]) -> None:
        with h5py.File(away.results / name) as file:
            for dataset, (shape, dtype) in datasets.items():
                found = file[dataset]
                assert found.dtype == dtype, (name, dataset)
                assert found.ndim == len(shape), (name, dataset)
                sizes = zip(found.shape, shape, strict=True)
                assert all(want in (None, size) for size, want in sizes), (name, dataset)
            assert attributes <= set(file.attrs), name

    tokens = {}
    for split, n in sequences.items():
        tokens |= {f"{split}/tokens": ((n, CONTEXT), i4), f"{split}/document": ((n,), i4)}
    check("corpus/tokens.h5", tokens, {"tokenizer", "context", "bos"})
    for shard in SHARDS:
        n = n_eval if shard.startswith("eval") else None
        datasets = {
            "activations": ((n, D_MODEL), np.float16),
            "sequence": ((n,), i4),
            "position": ((n,), i4),
        }
        check(f"activations/{shard}.h5", datasets, {"hook", "model", "d_model"})
    for sae, size in SIZES.items():
        weights = {
            "W_enc": ((D_MODEL, size), f4),
            "W_dec": ((size, D_MODEL), f4),
            "b_enc": ((size,), f4),
            "b_dec": ((D_MODEL,), f4),
        }
        attributes = {"architecture", "apply_b_dec_to_input", "hook", "model"}
        check(f"saes/{sae}.h5", weights, attributes)
        codes = {"indptr": ((n_eval + 1,), i8), "indices": ((None,), i4), "values": ((None,), f4)}
        check(f"codes/{sae}.h5", codes, {"d_sae"})
        passages = {
            "sequence": ((size, 8), i4),
            "position": ((size, 8), i4),
            "activation": ((size, 8), f4),
            "window": ((size, 8, 25), f4),
            "n_active": ((size,), i8),
        }
        check(f"passages/{sae}.h5", passages, {"n_tokens", "before"})
    for sae in STITCHED_SAES:
        with h5py.File(away.results / f"saes/{sae}.h5") as file:
            size = len(file["W_dec"])
        rows = {"W_enc": ((D_MODEL, size), f4), "latent": ((size,), i4)}
        check(f"saes/{sae}.h5", rows, {"architecture", "fingerprint"})
        with h5py.File(away.results / f"saes/{sae}.h5") as file:
            assert file["source"].shape == (size,)
        check(f"codes/{sae}.h5", {"indptr": ((n_eval + 1,), i8)}, {"d_sae"})
    for pair in PAIRS:
        small, large = (SIZES[sae] for sae in pair.split("--"))
        similarity = {
            "max_cosine_large": ((large,), f4),
            "argmax_large": ((large,), i4),
            "max_cosine_small": ((small,), f4),
            "argmax_small": ((small,), i4),
            "edges/large": ((None,), i4),
            "edges/small": ((None,), i4),
            "edges/cosine": ((None,), f4),
            "cosine": ((large, small), f4),
        }
        check(f"similarity/{pair}.h5", similarity, {"floor"})
        components = {"component_small": ((small,), i4), "component_large": ((large,), i4)}
        check(f"subgraphs/{pair}.h5", components, {"threshold", "n_components"})
        insertions = {
            "delta_mse": ((large,), f8),
            "standard_error": ((large,), f8),
            "n_active": ((large,), i8),
            "max_cosine": ((large,), f4),
        }
        attributes = {"mse_small", "mse_large", "n_tokens"}
        check(f"stitching/insertions/{pair}.h5", insertions, attributes)
        with h5py.File(away.results / f"subgraphs/{pair}.h5") as file:
            n = int(file.attrs["n_components"])
        swaps = {
            "delta_mse": ((n,), f8),
            "delta_l0": ((n,), f8),
            "n_small": ((n,), i8),
            "n_large": ((n,), i8),
        }
        check(f"stitching/swaps/{pair}.h5", swaps, {"mse_small", "l0_small"})
        curve = {"theta": f4, "n_inserted": i8, "mse": f8, "l0": f8}
        curve = {name: ((None,), dtype) for name, dtype in curve.items()}
        check(f"stitching/threshold/{pair}.h5", curve, {"best"})
        roc = {name: ((None,), f8) for name in ("fpr", "tpr", "threshold")}
        attributes = {"auc", "auc_low", "auc_high", "theta_best", "n_never_active"}
        check(f"stitching/roc/{pair}.h5", roc, attributes)
        names = ("large", "small", "decoder_cosine", "activation_cosine")
        kinds = dict(zip(names, (i4, i4, f4, f8), strict=True))
        edges = {name: ((None,), kinds[name]) for name in names}
        check(f"similarity/activations/{pair}.h5", edges, set())
        walks = {group: ((20, None), f8) for group in ("novel", "reconstruction")}
        check(f"stitching/random_insertion/{pair}.h5", walks, set())
    path = {"n_latents": ((None,), i8), "mse": ((None,), f8), "l0": ((None,), f8)}
    for step in STEPS:
        check(f"stitching/transition/{step}.h5", path, set())
        orders = {"given": ((None,), f8), "gain": ((None,), f8), "random": ((20, None), f8)}
        check(f"stitching/orders/{step}.h5", orders, set())
        d_large = SIZES[step.split("--")[1]]
        selected = {
            f"{order}/{name}": ((size,), kind)
            for order in ("cosine", "effect", "greedy")
            for name, size, kind in (
                ("latents", d_large, i8),
                ("mse", d_large + 1, f8),
                ("l0", d_large + 1, f8),
            )
        }
        attributes = {"threshold", "n_novel", "n_greedy", "n_train_tokens"}
        check(f"stitching/selection/{step}.h5", selected, attributes)
    grouped = {f"{step}/{name}": kind for step in STEPS for name, kind in path.items()}
    check("stitching/transition.h5", grouped, set())
    with h5py.File(away.results / "stitching/transition.h5") as file:
        assert set(file) == set(STEPS)
        for step in STEPS:
            kind = file[step]["kind"]
            assert kind.shape == file[step]["mse"].shape and kind.dtype.kind == "i"
            assert set(np.unique(kind)) <= {0, 1, 2, 3}


def test_hdf5_files_tell_where_they_come_from(away):
    # The folder of a file, and whether the pair is part of it, is the rule that wrote it.
    written_by = {
        "corpus": "tokenise",
        "activations": "cache_activations",
        "saes": "train_sae",
        "codes": "encode",
        "stitching/transition": "transition_step",
        "stitching/orders": "transition_orders",
        "stitching/selection": "select_latents",
        "similarity/activations": "activation_similarity",
        "stitching": "transition",
    }
    for name in (name for name in result_files() if name.endswith(".h5")):
        folder = str(Path(name).parent).removesuffix("/train").removesuffix("/eval")
        rule = written_by.get(folder, Path(folder).name)
        if folder == "saes" and Path(name).stem in STITCHED_SAES:
            rule = "stitch_sae"
        with h5py.File(away.results / name) as file:
            attributes = dict(file.attrs)
        assert attributes["study"] == "tiny", name
        assert attributes["format"] and attributes["format_version"] >= 1, name
        provenance = json.loads(attributes["provenance"])
        assert set(provenance) == {"rule", "config", "code", "versions"}, name
        assert provenance["rule"] == rule, name
        assert re.fullmatch("[0-9a-f]{64}", provenance["code"]), name
        assert provenance["config"]["study"] == "tiny", name
        assert provenance["versions"]["torch"] == torch.__version__, name


def test_figures_are_figures(away):
    for pdf in (away.results / "figures").glob("*.pdf"):
        assert pdf.read_bytes().startswith(b"%PDF-")
        with Image.open(pdf.with_suffix(".png")) as image:
            assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)
            assert min(image.size) > 300
            assert len(image.convert("L").getcolors()) > 10


# The rules


def rule_bodies() -> dict[str, str]:
    text = "\n".join(
        path.read_text() for path in [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]
    )
    return dict(re.findall(r"^rule (\w+):\n((?:    .*\n|\n)+)", text + "\n", re.MULTILINE))


@pytest.mark.parametrize("rule", sorted(rule_bodies()))
def test_rules_declare_what_every_rule_needs(rule):
    body = rule_bodies()[rule]
    declared = dict(re.findall(r"^    (\w+):((?:\n        .*| .*)+)", body, re.MULTILINE))
    if "script" not in declared:
        assert set(declared) <= {"input", "localrule", "default_target"}
        return
    needed = {"output", "log", "benchmark", "conda", "threads", "resources", "params", "message"}
    assert needed <= set(declared)
    assert "mem_mb=" in declared["resources"] and "runtime=" in declared["resources"]
    assert f'script:\n        "../{SCRIPTS}/{rule}.py"' in body
    assert (ROOT / SCRIPTS / f"{rule}.py").is_file()
    assert re.search(rf'"{{results}}/logs/{rule}[/.]', declared["log"])
    assert re.search(rf'"{{results}}/benchmarks/{rule}[/.]', declared["benchmark"])
    (environment,) = re.findall('"../(envs/.*)"', declared["conda"])
    assert (ROOT / environment).is_file()
    assert "job=" in declared["params"]
    # The hash of the code among the params must be that of the rule's own script.
    assert set(re.findall(r'job\(\s*"(\w+)"', declared["params"])) <= {rule}


def test_each_script_belongs_to_a_rule():
    scripts = {path.stem for path in (ROOT / SCRIPTS).glob("*.py")}
    scripts -= {"job", "own_code", "check_command_line"}
    bodies = rule_bodies()
    assert scripts == {rule for rule, body in bodies.items() if "script:" in body}
    # What is fetched is fixed by a checksum or a commit, whatever the code.
    fetching = {"fetch_source", "fetch_model", "fetch_sae", "fetch_text", "resolve_commit"}
    for rule in scripts - fetching:
        assert f'job(\n            "{rule}"' in bodies[rule] or f'job("{rule}"' in bodies[rule]


def test_saes_of_different_sizes_start_from_different_directions(away):
    # Or their latents would be alike from the start, whatever they learn.
    for pair in PAIRS:
        with h5py.File(away.results / f"similarity/{pair}.h5") as file:
            nearest = file["argmax_large"][...]
            d_small = len(file["argmax_small"])
        assert np.mean(nearest[:d_small] == np.arange(d_small)) < 0.25


def test_the_tiny_preset_has_something_of_everything(away):
    # Or the tests below would compare nothing with nothing.
    tables = away.results / "tables"
    pairs = pd.read_csv(tables / "pairs.csv")
    assert (pairs["n_novel"] > 0).all() and (pairs["n_reconstruction"] > 0).all()
    assert (pairs["n_components"] > 1).all() and (pairs["n_unmatched_small"] > 0).any()
    assert pairs["auc"].between(0, 1).all() and pairs["share_improving"].between(0.02, 0.98).all()
    assert (pd.read_csv(tables / "sae_properties.csv")["n_live"] > 10).all()


def test_temporary_shards_go(copy):
    # A dry run says what would be removed; nothing is, as long as the config does not ask for it.
    for temporary in (True, False):
        status, said = copy.snakemake(
            "--dry-run", "--forceall", config={"activations": {"temporary": temporary}}
        )
        assert status == 0
        removed = re.findall(r"Would remove temporary output \S*/activations/(\S+)\.h5", said)
        assert sorted(removed) == (sorted(SHARDS) if temporary else [])


# What makes results stale


def test_a_rerun_has_nothing_to_do(copy, away):
    for run in (copy, away):
        status, said = run.snakemake("--cores", "2")
        assert status == 0
        assert "Nothing to be done" in said
        assert not run.stale()


def test_the_summary_says_what_a_run_would_do(away):
    config = {"figures": {"dpi": 77}}
    status, said = away.snakemake("--dry-run", config=config)
    assert status == 0
    counts = dict(re.findall(r"^(\w+) +(\d+)$", said[said.index("Job stats:") :], re.MULTILINE))
    rules = [job.partition("/")[0] for job in FIGURES]
    expected = {rule: str(rules.count(rule)) for rule in rules}
    assert counts == {**expected, "all": "1", "total": str(len(rules) + 1)}
    assert away.stale(config) == FIGURES


# What is of all SAEs together.
TOGETHER = jobs("cross_entropy", "sae_properties", "figure17", "training_curve") | OF_PAIRS
TOGETHER |= OF_STEPS | jobs("stitched") | pages("cross_entropy", "sae_properties", "stitched")
OF_128 = {job for job in FROM_SAES if "128" in job.rpartition("/")[2]} | TOGETHER
OF_128 |= {job for job in OF_STITCHED if not job.endswith("/32-novel")}
NEW_PAIRS = tuple(f"{sae}--256" for sae in SIZES)
OF_256 = (
    {f"{rule}/256" for rule in ("train_sae", "encode", "evaluate", "passages")}
    | {
        f"{rule}/{pair}"
        for rule, instances in JOBS.items()
        if instances == PAIRS
        for pair in NEW_PAIRS
    }
    | {"transition_step/128--256", "transition_orders/128--256", "select_latents/128--256"}
    | TOGETHER
)
CONFIG_CHANGES: dict[str, tuple[dict[str, Any], set[str]]] = {
    "model.hook": ({"model": {"hook": "blocks.0.hook_resid_pre"}}, FROM_ACTIVATIONS),
    "model seed": ({"sources": {"random-gpt2": {"seed": 1}}}, EVERYTHING),
    "text.max_documents": ({"text": {"max_documents": 20}}, FROM_TOKENS),
    "tokens.seed": ({"tokens": {"seed": 1}}, FROM_TOKENS),
    "activations.batch_size": ({"activations": {"batch_size": 7}}, FROM_ACTIVATIONS),
    "training.lr": ({"training": {"lr": 0.002}}, FROM_SAES),
    "steps of one SAE": ({"saes": [*LIST[:2], {**LIST[2], "steps": 160}]}, OF_128),
    "one more SAE": ({"saes": [*LIST, {"d_sae": 256}]}, OF_256),
    "one SAE fewer": (
        {"saes": LIST[:2], "stitched": TINY["stitched"][:1]},
        TOGETHER,
    ),
    "one stitched SAE more": (
        {
            "stitched": [
                *TINY["stitched"],
                {
                    **TINY["stitched"][0],
                    "name": "more",
                    "base": "64",
                    "insert": [{"sae": 128, "select": "novel"}],
                },
            ]
        },
        {f"{rule}/more" for rule in ("stitch_sae", "encode", "evaluate")}
        | (OF_STITCHED & jobs("cross_entropy", "sae_properties", "stitched", "summary"))
        | pages("cross_entropy", "sae_properties", "stitched"),
    ),
    "no stitched SAE": (
        {"stitched": []},
        jobs("cross_entropy", "sae_properties", "summary")
        | pages("cross_entropy", "sae_properties"),
    ),
    # The one that is changed, and the one that it is the base of.
    "a stitched SAE": (
        {
            "stitched": [
                {
                    **TINY["stitched"][0],
                    "insert": [{"sae": 64, "select": "novel", "threshold": 0.4}],
                },
                *TINY["stitched"][1:],
            ]
        },
        {job for job in OF_STITCHED if not job.endswith("/mixed")},
    ),
    "stitching.selection_tokens": (
        {"stitching": {"selection_tokens": 500}},
        jobs("select_latents", "selection") | pages("selection") | OF_STITCHED,
    ),
    "order of the SAEs": (
        {"saes": LIST[::-1]},
        jobs("cross_entropy", "sae_properties", "figure7", "figure16", "figure17", "stitched")
        | jobs("explorer", "training_curve", "summary")
        | pages("cross_entropy", "sae_properties", "stitched"),
    ),
    "similarity.floor": ({"similarity": {"floor": FLOOR + 0.05}}, FROM_SIMILARITY),
    # Stitched SAEs have no θ of their own here.
    "stitching.threshold": (
        {"stitching": {"threshold": THETA + 0.125}},
        FROM_SUBGRAPHS | OF_STITCHED,
    ),
    "stitching.threshold auto": (
        {"stitching": {"threshold": "auto"}},
        FROM_SUBGRAPHS | OF_STITCHED,
    ),
    "stitching.bootstrap_samples": (
        {"stitching": {"bootstrap_samples": 300}},
        jobs("roc", "figure13", "pairs", "significance", "summary")
        | pages("pairs", "significance"),
    ),
    "stitching.random_orders": (
        {"stitching": {"random_orders": 10}},
        jobs("random_insertion", "figure15", "transition_orders", "orders", "summary")
        | pages("orders"),
    ),
    "evaluation.ce_tokens": (
        {"evaluation": {"ce_tokens": 100}},
        jobs("cross_entropy", "sae_properties", "stitched", "summary")
        | pages("cross_entropy", "sae_properties", "stitched"),
    ),
    "no cross-entropy": (
        {"evaluation": {"ce_tokens": 0}},
        jobs("sae_properties", "stitched", "summary") | pages("sae_properties", "stitched"),
    ),
    "stitching.pairs": ({"stitching": {"pairs": "adjacent"}}, OF_PAIRS),
    "stitching.transition": ({"stitching": {"transition": ["32", "64"]}}, OF_STEPS),
    # Without it ways to select latents are compared for all pairs.
    "no transition": (
        {"stitching": {"transition": []}},
        jobs("selection", "summary") | pages("selection") | {"select_latents/32--128"},
    ),
    "figures.dpi": ({"figures": {"dpi": 150}}, FIGURES),
    "explorer.passages": ({"explorer": {"passages": 3}}, jobs("passages", "explorer")),
    "explorer.nearest": ({"explorer": {"nearest": 2}}, jobs("explorer")),
    "cache": ({"cache": "elsewhere"}, set()),
    "a source that is not used": (
        {
            "sources": {
                "other": {
                    "kind": "random-model",
                    "n_layers": 1,
                    "d_model": 8,
                    "n_heads": 1,
                    "context": 8,
                }
            }
        },
        set(),
    ),
    "a default, spelled out": ({"training": {"lr": 0.001, "seed": 0}}, set()),
    "another order of keys": (
        {
            "saes": [{"steps": TINY["training"]["steps"], **LIST[0]}, *LIST[1:]],
            "figures": {"dpi": 200},
        },
        set(),
    ),
}


def test_seeds_are_compared_although_they_are_no_pair(away):
    seed = {**LIST[0], "name": "32-b", "seed": 1}
    config = {"saes": [LIST[0], seed, LIST[1]], "stitching": {"pairs": [["32", "64"]]}}
    config["stitched"] = []
    status, said = away.snakemake("--dry-run", "figure16", config=config)
    assert status == 0, said
    for job in ("Find the connected subgraphs of 32--32-b", "Draw Figure 16"):
        assert job in said
    assert "32-b--64" not in said and "Insert" not in said


def test_jumprelu_saes_have_figures_of_their_own(away):
    saes = [{**sae, "architecture": "jumprelu"} for sae in LIST[:2]]
    status, said = away.snakemake("--dry-run", config={"saes": saes, "stitched": []})
    assert status == 0, said
    for figure in ("Figure 4", "Figure 5", "Figure 18", "Figure 19"):
        assert f"Draw {figure}" in said
    saes[1]["architecture"] = "relu"
    status, said = away.snakemake("--dry-run", config={"saes": saes, "stitched": []})
    assert status == 0 and "Figure 18" not in said and "Figure 19" not in said


@pytest.mark.parametrize("name", CONFIG_CHANGES)
def test_a_change_of_the_config_reruns_what_it_affects(away, name):
    config, expected = CONFIG_CHANGES[name]
    assert away.stale(config) == expected


def edit(text: str, how: str) -> str:
    if how == "a comment":
        return f"# A remark.\n{text}\n# Another one.\n"
    if how == "a docstring":
        return text.replace('"""', '"""In other words: ', 1)
    return f"{text}\n_CHANGED = True\n"


@contextmanager
def edited(path: Path, how: str) -> Iterator[None]:
    before = path.read_text()
    path.write_text(edit(before, how))
    try:
        yield
    finally:
        path.write_text(before)


STITCHED = jobs("insertions", "swaps", "random_insertion", "transition_step")
STITCHED |= jobs("transition_orders", "transition", "roc", "pairs") | (
    FIGURES - jobs("figure7", "figure8", "figure12", "figure16", "figure17", "training_curve")
)
STITCHED |= jobs("explorer", "summary") | pages("pairs", "significance", "orders")
STITCHED |= jobs("select_latents") | pages("selection") | OF_STITCHED
UNSTITCHED = jobs("subgraphs", "sae_properties", "activation_similarity") | FIGURES
UNSTITCHED |= jobs("table_pages")
# What has to be done again after a change of a file, and what may be besides: a rule hangs on
# every module that its script imports, also on one whose change cannot reach its result.
CODE_CHANGES: dict[str, tuple[str, set[str], set[str]]] = {
    "figures/figure4.py": (LIBRARY, jobs("figure4"), set()),
    "figures/figure7.py": (LIBRARY, jobs("figure7"), set()),
    "stitching/orders.py": (
        LIBRARY,
        jobs("random_insertion", "figure15", "transition_orders", "orders", "select_latents")
        | jobs("selection")
        | pages("orders", "selection")
        | OF_STITCHED,
        set(),
    ),
    "stitching/greedy.py": (
        LIBRARY,
        jobs("select_latents", "selection") | pages("selection") | OF_STITCHED,
        set(),
    ),
    "saes/cross_entropy.py": (
        LIBRARY,
        jobs("cross_entropy", "sae_properties", "stitched", "summary")
        | pages("cross_entropy", "sae_properties", "stitched"),
        set(),
    ),
    "explorer/page/main.js": (LIBRARY, jobs("explorer"), set()),
    "tables/report.py": (LIBRARY, jobs("summary", "table_pages"), set()),
    "figures/style.py": (LIBRARY, FIGURES, set()),
    "saes/training.py": (LIBRARY, FROM_SAES, set()),
    "activations/language_model.py": (LIBRARY, FROM_ACTIVATIONS, set()),
    "stitching/sums.py": (LIBRARY, STITCHED, UNSTITCHED | jobs("cross_entropy")),
    "matching/decoder_similarity.py": (
        LIBRARY,
        FROM_SIMILARITY | OF_STITCHED,
        jobs("figure17", "training_curve", "table_pages"),
    ),
    "config/study.py": (LIBRARY, set(), set()),
    "base/store.py": (LIBRARY, EVERYTHING, set()),
    "job.py": (SCRIPTS, EVERYTHING, set()),
    "roc.py": (SCRIPTS, jobs("roc", "figure13", "pairs") | pages("pairs"), set()),
    "orders.py of the scripts": (SCRIPTS, jobs("orders") | pages("orders"), set()),
}


@pytest.mark.parametrize("name", CODE_CHANGES)
def test_a_change_of_the_code_reruns_what_it_affects(copy, name):
    folder, needed, spare = CODE_CHANGES[name]
    with edited(copy.folder / folder / name.partition(" ")[0], "the code"):
        found = copy.stale()
    assert needed <= found <= needed | spare


@pytest.mark.parametrize("how", ["a comment", "a docstring"])
def test_words_about_the_code_rerun_nothing(copy, how):
    with edited(copy.folder / LIBRARY / "saes" / "training.py", how):
        assert not copy.stale()


def test_a_fresh_checkout_reruns_nothing(copy):
    for part in (*PARTS, SCRIPTS):
        for path in [copy.folder / part, *(copy.folder / part).rglob("*")]:
            path.touch()
    assert not copy.stale()


def test_a_change_of_the_text_reruns_from_the_tokens(copy):
    text = copy.folder / "presets" / "tiny.txt"
    before = text.read_text()
    text.write_text(before + "\n\n\nOne more page.\n")
    try:
        assert copy.stale() == FROM_TOKENS
    finally:
        text.write_text(before)
    assert not copy.stale()


# SAEs in files of other libraries

HUB = {"repo": "somebody/saes", "revision": "0123456789abcdef" * 2 + "01234567"}


def test_an_exported_sae_can_be_imported_beside_trained_ones(spare):
    exported = "results/tiny/export/64"
    status, said = spare.snakemake("--cores", "1", f"{exported}/cfg.json")
    assert status == 0, said
    names = {path.name for path in (spare.folder / exported).iterdir()}
    assert names == {"cfg.json", "sae_weights.safetensors"}
    settings = json.loads((spare.folder / exported / "cfg.json").read_text())
    assert settings["architecture"] == "topk" and settings["metadata"]["context_size"] == CONTEXT

    back = {"name": "64-back", "d_sae": 64, "pretrained": {"path": exported}}
    wrong = {"name": "wrong", "d_sae": 65, "pretrained": {"path": exported}}
    config = {"saes": [*LIST, back, wrong], "stitching": {"pairs": [[64, "64-back"]]}}
    config["stitching"]["transition"] = []
    target = "results/tiny/evaluation/64-back.json"
    status, said = spare.snakemake("--cores", "1", target, config=config)
    assert status == 0, said
    assert "Train SAE" not in said and "Cache" not in said
    imported, trained = (read_sae(spare.results / f"saes/{sae}.h5") for sae in ("64-back", "64"))
    assert (imported.hook, imported.model) == (trained.hook, trained.model)
    assert torch.equal(imported.W_enc, trained.W_enc)
    rows = [
        json.loads((spare.results / f"evaluation/{sae}.json").read_text())
        for sae in ("64-back", "64")
    ]
    assert [row.pop("sae") for row in rows] == ["64-back", "64"]
    assert rows[0] == rows[1]

    target = "results/tiny/saes/wrong.h5"
    status, said = spare.snakemake("--cores", "1", target, config=config)
    assert status == 1
    (line,) = [line for line in said.splitlines() if line.startswith("error in ")]
    assert line == (
        f"error in import_sae: {exported}/sae_weights.safetensors: has 64 latents, not the 65 of "
        "d_sae; correct d_sae (log: results/tiny/logs/import_sae/wrong.log)"
    )


def test_a_file_that_contradicts_the_study_is_refused_and_can_be_trusted_against(tmp_path):
    # The rule needs nothing but the files: no model runs.
    d_model = TINY["sources"][TINY["model"]["name"]]["d_model"]
    W_dec = torch.eye(64, d_model)
    sae = SAE(W_dec.T, W_dec, torch.zeros(64), torch.zeros(d_model), "relu")
    sae = replace(sae, hook=TINY["model"]["hook"], model=TINY["model"]["name"])
    kwargs = {"center_writing_weights": True}
    export_saelens(sae, tmp_path / "centred", model_from_pretrained_kwargs=kwargs)

    def run(trust: list[str]) -> tuple[int, str]:
        entry = {"d_sae": 64, "pretrained": {"path": "centred", "trust": trust}}
        config = {"saes": [{"d_sae": 32}, entry], "stitched": []}
        target = "results/tiny/saes/64.h5"
        return Run(ROOT, tmp_path).snakemake("--cores", "1", target, config=config)

    complaint = (
        "centred/cfg.json: metadata.model_from_pretrained_kwargs.center_writing_weights is true, "
        "but model.center_writing_weights is false"
    )
    status, said = run([])
    assert status == 1
    (line,) = [line for line in said.splitlines() if line.startswith("error in ")]
    assert line == (
        f"error in import_sae: {complaint}; change model.center_writing_weights, or, if the study "
        "is right, add center_writing_weights to the SAE's pretrained.trust (log: "
        "results/tiny/logs/import_sae/64.log)"
    )
    status, said = run(["center_writing_weights"])
    assert status == 0, said
    trusted = f"{complaint}; trusted, since pretrained.trust has center_writing_weights"
    assert trusted in said.splitlines()
    log = (tmp_path / "results/tiny/logs/import_sae/64.log").read_text()
    assert f"WARNING sae_stitching.formats.agreement: {trusted}" in log


def test_families_are_set_side_by_side(spare):
    status, said = spare.snakemake("--cores", "1", "families", "family_transitions")
    assert status == 0, said
    family, pairs = (
        pd.read_csv(spare.results / f"tables/{name}.csv").astype({"small": str, "large": str})
        for name in ("families", "pairs")
    )
    (row,) = family.to_dict("records")
    assert (row["architecture"], row["seed"]) == ("topk", 0)
    assert (row["small"], row["large"]) == ("32", "64")
    pair = pairs.set_index(["small", "large"]).loc[("32", "64")]
    assert row["auc"] == pair["auc"] and row["share_novel"] == pair["share_novel"]
    for name in ("families", "family_transitions"):
        assert (spare.results / f"figures/{name}.png").stat().st_size > 1000


def test_pretrained_saes_alone_need_no_training_activations(tmp_path):
    folder = tmp_path / "study"
    folder.mkdir()
    saes = [{"d_sae": size, "pretrained": {**HUB, "path": str(size)}} for size in (32, 64)]
    # Without files or a connection: what is to be done follows from the config alone.
    status, said = Run(ROOT, folder).snakemake(
        "--dry-run", "all", "export", config={"saes": saes, "stitched": []}
    )
    assert status == 0, said
    counts = dict(re.findall(r"^(\w+) +(\d+)$", said[said.index("Job stats:") :], re.MULTILINE))
    assert (counts["import_sae"], counts["export_sae"]) == ("2", "2")
    assert "train_sae" not in counts
    assert counts["cache_activations"] == "1" and "activations/train" not in said


# What is said when something is wrong


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"training": {"lrr": 1.0}}, "training.lrr: unknown key; did you mean lr?"),
        (
            "training: {lr: 1e-3}",
            "training.lr: '1e-3' is text, not a number; YAML needs a decimal point: 1.0e-3",
        ),
        (
            {"model": {"hook": "blocks.7.hook_resid_pre"}},
            "model.hook: blocks.7.hook_resid_pre is beyond random-gpt2, which has 2 layers "
            "(0 to 1)",
        ),
        (
            {"stitching": {"threshold": 0.1}},
            f"stitching.threshold: 0.1 is below similarity.floor ({FLOOR}), and edges under the "
            "floor are not kept; lower similarity.floor",
        ),
    ],
)
def test_a_bad_config_ends_with_one_line_before_any_job(tmp_path, config, message):
    folder = tmp_path / "study"
    folder.mkdir()
    status, said = Run(ROOT, folder).snakemake("--cores", "1", config=config)
    assert status == 1
    lines = [
        line for line in said.splitlines() if not line.startswith("Using workflow specific profile")
    ]
    assert len(lines) == 1, said
    assert lines[0].endswith(message)
    assert not (folder / "results").exists()


FAILURES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "a text too short": (
        {"text": {"files": ["short.txt"]}},
        "corpus/tokens.h5",
        "tokenise",
        "text: has 1 document, of which none fills a sequence of 32 tokens",
    ),
    "a batch too large": (
        {"training": {"batch_size": 100_000}},
        "saes/32.h5",
        "train_sae/32",
        "training.batch_size: 100000 tokens a batch, but the training shards hold only",
    ),
    "a damaged file": (
        {},
        "evaluation/32.json",
        "evaluate/32",
        "results/tiny/codes/32.h5: not a readable HDF5 file",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failing_job_says_why_in_one_line(spare, name):
    config, target, job, message = FAILURES[name]
    (spare.folder / "short.txt").write_text("Two words.\n")
    if name == "a damaged file":
        codes = spare.results / "codes" / "32.h5"
        codes.write_bytes(codes.read_bytes()[:5000])
    status, said = spare.snakemake("--cores", "1", f"results/tiny/{target}", config=config)
    assert status == 1
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("error in ")]
    rule = job.partition("/")[0]
    assert line.startswith(f"error in {rule}: {message}")
    assert line.endswith(f"(log: results/tiny/logs/{job}.log)")
    assert "Traceback" in (spare.results / "logs" / f"{job}.log").read_text()
    # Nothing half done is left behind.
    assert not (spare.results / target).exists()
    assert not list(spare.results.rglob(".*.h5"))


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


def test_studies_that_share_a_cache_leave_each_other_alone(index, tmp_path):  # noqa: F811
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


def test_the_figures_and_tables_are_what_the_files_say(spare):
    check = [sys.executable, str(ROOT / "tests" / "check_results.py"), str(spare.results)]
    assert subprocess.run(check, check=False).returncode == 0
    shown = spare.results / "figures" / "figure5.csv"
    table = pd.read_csv(shown)
    table.loc[3, "mse"] += 1e-9
    table.to_csv(shown, index=False)
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "figures/figure5.csv, 32--64: mse is not that of the HDF5 file" in done.stdout


# The numbers, against brute force on what is stored


@dataclass(frozen=True)
class Evaluated:
    """SAEs and eval activations of a run, and dense codes in float64."""

    results: Path
    x: torch.Tensor
    sequence: torch.Tensor
    saes: dict[str, SAE]

    def codes(self, sae: str) -> torch.Tensor:
        # Encoded in float32, as the workflow does, or other latents might be active.
        return dense_codes(self.saes[sae], self.x).double()

    def stitched(self, pair: str) -> Stitched:
        small, large = pair.split("--")
        stitched = Stitched(self.saes[small], self.saes[large], self.x)
        stitched.x = self.x.double()
        stitched.small, stitched.large = self.saes[small].double(), self.saes[large].double()
        stitched.f0, stitched.f1 = self.codes(small), self.codes(large)
        return stitched

    def max_cosines(self, pair: str) -> np.ndarray:
        """Cosine of every two decoder directions, (d_large, d_small) float64."""
        small, large = (self.saes[sae].W_dec.double().numpy() for sae in pair.split("--"))
        norms = np.linalg.norm(large, axis=1)[:, None] * np.linalg.norm(small, axis=1)
        return large @ small.T / norms

    def read(self, name: str) -> dict[str, Any]:
        with h5py.File(self.results / name) as file:
            datasets = {key: file[key][...] for key in file if isinstance(file[key], h5py.Dataset)}
            return {**datasets, **file.attrs}

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.results / name, dtype={"sae": str, "small": str, "large": str})


@pytest.fixture(scope="module")
def evaluated(runs) -> Evaluated:
    results = runs[1].results
    with h5py.File(results / "activations/eval/0000.h5") as file:
        x = torch.from_numpy(file["activations"][...]).float()
        sequence = torch.from_numpy(file["sequence"][...])
    return Evaluated(
        results, x, sequence, {sae: read_sae(results / f"saes/{sae}.h5") for sae in ALL_SAES}
    )


def none(d_sae: int) -> np.ndarray:
    return np.zeros(d_sae, dtype=bool)


def every(d_sae: int) -> np.ndarray:
    return np.ones(d_sae, dtype=bool)


def only(d_sae: int, *latents: int) -> np.ndarray:
    mask = none(d_sae)
    mask[list(latents)] = True
    return mask


# How far two implementations that encode in float32 may be apart: in the MSE by rounding, in
# counts by a pre-activation that one of them takes to be above zero.
CLOSE = {"rtol": 1e-4, "atol": 1e-7}


def close_l0(value: float, n_tokens: int) -> Any:
    return pytest.approx(value, abs=2.5 / n_tokens)


@pytest.mark.parametrize("pair", PAIRS)
def test_insertions_agree_with_brute_force(evaluated, pair):
    stored, stitched = evaluated.read(f"stitching/insertions/{pair}.h5"), evaluated.stitched(pair)
    d_small, d_large = stitched.small.d_sae, stitched.large.d_sae
    before = stitched.squared_errors(every(d_small), none(d_large))
    mse_small = stitched.mse(every(d_small), none(d_large))
    assert stored["mse_small"] == pytest.approx(mse_small, rel=1e-6)
    assert stored["mse_large"] == pytest.approx(
        stitched.mse(none(d_small), every(d_large)), rel=1e-6
    )
    assert stored["n_tokens"] == len(evaluated.x)
    active = (stitched.f1 > 0).sum(0).numpy()
    np.testing.assert_allclose(stored["n_active"], active, atol=1)
    for latent in range(d_large):
        inserted = stitched.squared_errors(every(d_small), only(d_large, latent))
        changes = (inserted - before) / D_MODEL
        np.testing.assert_allclose(stored["delta_mse"][latent], changes.mean(), **CLOSE)
        if latent % 16 == 0:
            error = clustered_standard_error(changes, evaluated.sequence)
            np.testing.assert_allclose(stored["standard_error"][latent], error, **CLOSE)


@pytest.mark.parametrize("pair", PAIRS)
def test_similarities_and_subgraphs_agree_with_brute_force(evaluated, pair):
    cosines = evaluated.max_cosines(pair)
    similarity = evaluated.read(f"similarity/{pair}.h5")
    np.testing.assert_allclose(similarity["cosine"], cosines, atol=1e-6)
    np.testing.assert_allclose(similarity["max_cosine_large"], cosines.max(1), atol=1e-6)
    np.testing.assert_allclose(similarity["max_cosine_small"], cosines.max(0), atol=1e-6)
    with h5py.File(evaluated.results / f"similarity/{pair}.h5") as file:
        edges = set(zip(file["edges/large"][...], file["edges/small"][...], strict=True))
    assert edges == set(zip(*np.nonzero(similarity["cosine"] >= np.float32(FLOOR)), strict=True))

    subgraphs = evaluated.read(f"subgraphs/{pair}.h5")
    assert subgraphs["threshold"] == THETA
    graph = networkx.Graph()
    for i, j in zip(*np.nonzero(cosines >= THETA), strict=True):
        graph.add_edge(("large", int(i)), ("small", int(j)))
    components = {frozenset(component) for component in networkx.connected_components(graph)}
    found: dict[int, set[tuple[str, int]]] = {}
    for side in ("small", "large"):
        for latent, component in enumerate(subgraphs[f"component_{side}"]):
            if component >= 0:
                found.setdefault(int(component), set()).add((side, latent))
    assert {frozenset(component) for component in found.values()} == components
    assert sorted(found) == list(range(subgraphs["n_components"]))
    np.testing.assert_array_equal(subgraphs["component_large"] < 0, cosines.max(1) < THETA)


@pytest.mark.parametrize("pair", PAIRS)
def test_swaps_and_thresholds_agree_with_brute_force(evaluated, pair):
    stitched = evaluated.stitched(pair)
    d_small, d_large = stitched.small.d_sae, stitched.large.d_sae
    subgraphs = evaluated.read(f"subgraphs/{pair}.h5")
    swaps = evaluated.read(f"stitching/swaps/{pair}.h5")
    mse, l0 = (f(every(d_small), none(d_large)) for f in (stitched.mse, stitched.l0))
    n = len(evaluated.x)
    assert swaps["l0_small"] == close_l0(l0, n)
    for component in range(subgraphs["n_components"]):
        out, put = (subgraphs[f"component_{side}"] == component for side in ("small", "large"))
        change = stitched.mse(~out, put) - mse
        np.testing.assert_allclose(swaps["delta_mse"][component], change, **CLOSE)
        assert swaps["delta_l0"][component] == close_l0(stitched.l0(~out, put) - l0, n)
        assert (swaps["n_small"][component], swaps["n_large"][component]) == (out.sum(), put.sum())

    curve = evaluated.read(f"stitching/threshold/{pair}.h5")
    cosine = evaluated.read(f"similarity/{pair}.h5")["max_cosine_large"]
    assert len(curve["theta"]) == len(np.unique(cosine)) + 1
    for point in range(0, len(curve["theta"]), 7):
        novel = cosine < curve["theta"][point]
        assert curve["n_inserted"][point] == novel.sum()
        expected = stitched.mse(every(d_small), novel)
        np.testing.assert_allclose(curve["mse"][point], expected, **CLOSE)
    assert curve["best"] == curve["theta"][curve["mse"].argmin()]


@pytest.mark.parametrize("pair", STEPS)
def test_the_transition_agrees_with_brute_force(evaluated, pair):
    stitched = evaluated.stitched(pair)
    subgraphs = evaluated.read(f"subgraphs/{pair}.h5")
    with h5py.File(evaluated.results / "stitching/transition.h5") as file:
        path = {name: file[pair][name][...] for name in file[pair]}
    keep0, keep1 = every(stitched.small.d_sae), none(stitched.large.d_sae)
    novel = iter(np.flatnonzero(subgraphs["component_large"] < 0))
    alone = iter(np.flatnonzero(subgraphs["component_small"] < 0))
    components = iter(range(subgraphs["n_components"]))
    assert path["kind"][0] == 0 and (np.diff(path["kind"]) >= 0).all()
    for step, kind in enumerate(path["kind"]):
        if kind == 1:
            keep1[next(novel)] = True
        elif kind == 2:
            component = next(components)
            keep0[subgraphs["component_small"] == component] = False
            keep1[subgraphs["component_large"] == component] = True
        elif kind == 3:
            keep0[next(alone)] = False
        assert path["n_latents"][step] == keep0.sum() + keep1.sum()
        np.testing.assert_allclose(path["mse"][step], stitched.mse(keep0, keep1), **CLOSE)
        assert path["l0"][step] == close_l0(stitched.l0(keep0, keep1), len(evaluated.x))
    assert not keep0.any() and keep1.all()
    properties = evaluated.table("tables/sae_properties.csv").set_index("sae")
    for sae, at in zip(pair.split("--"), (0, -1), strict=True):
        assert path["mse"][at] == pytest.approx(properties.loc[sae, "mse"], rel=1e-6)
        assert path["l0"][at] == pytest.approx(properties.loc[sae, "l0"])


def area_under_curve(positive: np.ndarray, cosine: np.ndarray) -> float:
    """Share of pairs in which the latent that lowers the MSE has the lower cosine."""
    a, b = cosine[positive][:, None], cosine[~positive]
    return float(np.mean((a < b) + 0.5 * (a == b))) if a.size and b.size else float("nan")


def median(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else float("nan")


def test_the_table_of_saes_agrees_with_brute_force(evaluated):
    table = evaluated.table("tables/sae_properties.csv").set_index("sae")
    assert list(table.index) == list(ALL_SAES)
    x = evaluated.x.double()
    for sae, row in table.iterrows():
        f, weights = evaluated.codes(str(sae)), evaluated.saes[str(sae)].double()
        sse = (x - f @ weights.W_dec - weights.b_dec).square().sum().item()
        if sae in SIZES:
            assert row["d_sae"] == SIZES[sae] and pd.isna(row["stitched_from"])
            assert row["architecture"] == ARCHITECTURES[sae]
        else:
            assert row["d_sae"] == len(weights.W_dec) and row["architecture"] == "jumprelu"
            recipe = STITCHED_SAES[sae]
            assert row["stitched_from"].split(" + ")[0] == str(recipe["base"])
        assert row["l0"] == close_l0((f > 0).sum(1).double().mean().item(), len(x))
        assert row["mse"] == pytest.approx(sse / x.numel(), rel=1e-6)
        assert row["fvu"] == pytest.approx(sse / (x - x.mean(0)).square().sum().item(), rel=1e-6)
        assert row["n_live"] == (f > 0).any(0).sum()
        assert row["n_live"] + row["n_dead"] == row["d_sae"]
        assert row["n_tokens"] == len(x)


@pytest.mark.parametrize("name", STITCHED_SAES)
def test_stitched_saes_are_made_of_the_others_latents(evaluated, name):
    stored, recipe = evaluated.read(f"saes/{name}.h5"), STITCHED_SAES[name]
    source, latent = np.char.decode(stored["source"].astype(bytes), "utf-8"), stored["latent"]
    parts = [str(part["sae"]) for part in (*recipe.get("swap", []), *recipe.get("insert", []))]
    assert set(source) <= {str(recipe["base"]), *parts} and len(set(source)) > 1
    assert len(set(zip(source, latent, strict=True))) == len(latent)
    b_dec = 0.0
    for sae in np.unique(source):
        member, rows = evaluated.saes[sae], source == sae
        np.testing.assert_array_equal(stored["W_dec"][rows], member.W_dec[latent[rows]])
        np.testing.assert_array_equal(stored["W_enc"][:, rows], member.W_enc[:, latent[rows]])
        b_dec = b_dec + rows.mean() * member.b_dec.double().numpy()
    np.testing.assert_allclose(stored["b_dec"], b_dec, rtol=1e-5, atol=1e-7)

    # What comes last, or all that comes, is chosen as the config says.
    last = recipe["insert"][-1]
    coming = latent[source == str(last["sae"])]
    if last["select"] == "novel":
        cosines = evaluated.max_cosines(f"{recipe['base']}--{last['sae']}").max(1)
        np.testing.assert_array_equal(coming, np.flatnonzero(cosines < THETA))
    elif "n" in last:
        assert len(coming) >= last["n"]


def test_stitched_saes_encode_as_their_members(evaluated):
    # The base and all that comes are TopK SAEs, which a threshold stands in for: k on average.
    member, stitched = evaluated.saes["32"], evaluated.saes["32-novel"]
    with h5py.File(evaluated.results / "activations/train/0000.h5") as file:
        x = torch.from_numpy(file["activations"][:2000]).float()
    f = (x - member.b_dec) @ member.W_enc + member.b_enc
    assert stitched.threshold is not None
    limit = stitched.threshold[0]
    assert (f > limit).sum() == pytest.approx(TINY["training"]["k"] * len(x), abs=2)
    codes = stitched.encode(x).to_dense()[:, : member.d_sae]
    torch.testing.assert_close(codes, torch.where(f > limit, f, 0.0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pair", STEPS)
def test_selections_agree_with_brute_force(evaluated, pair):
    stitched = evaluated.stitched(pair)
    d_small, d_large = stitched.small.d_sae, stitched.large.d_sae
    cosine = evaluated.read(f"similarity/{pair}.h5")["max_cosine_large"]
    with h5py.File(evaluated.results / f"stitching/selection/{pair}.h5") as file:
        orders = {name: {key: group[key][...] for key in group} for name, group in file.items()}
        attributes = dict(file.attrs)
    np.testing.assert_array_equal(orders["cosine"]["latents"], np.argsort(cosine, kind="stable"))
    assert attributes["n_novel"] == (cosine < np.float32(THETA)).sum()
    for path in orders.values():
        assert sorted(path["latents"]) == list(range(d_large))
        for n in range(0, d_large + 1, 16):
            keep = only(d_large, *path["latents"][:n])
            np.testing.assert_allclose(path["mse"][n], stitched.mse(every(d_small), keep), **CLOSE)
            assert path["l0"][n] == close_l0(stitched.l0(every(d_small), keep), len(evaluated.x))

    table = evaluated.table("tables/selection.csv")
    rows = table[table["small"] + "--" + table["large"] == pair]
    assert len(rows) == 9
    for row in rows.to_dict("records"):
        path, n = orders[row["order"]], row["n_inserted"]
        assert (row["mse"], row["l0"]) == (path["mse"][n], path["l0"][n])
        theta = attributes["n_novel"]
        if row["compared_at"] == "count":
            assert n == theta
        elif row["compared_at"] == "lowest":
            assert row["mse"] == path["mse"].min()
        elif row["order"] != "cosine":
            most = orders["cosine"]["l0"][theta]
            assert row["l0"] <= most + 1e-9 and (n == d_large or path["l0"][n + 1] > most)


def test_the_table_of_stitched_saes(evaluated):
    table = evaluated.table("tables/stitched.csv").set_index("sae")
    properties = evaluated.table("tables/sae_properties.csv").set_index("sae")
    assert list(table.index) == list(ALL_SAES)
    for sae, row in table.iterrows():
        for name in ("d_sae", "l0", "mse", "fvu", "ce_recovered_zero", "ce_recovered_mean"):
            assert row[name] == properties.loc[sae, name]
        assert pd.isna(row["next_in_size"]) == (sae in SIZES)
    # The base of all is TopK, and so are two of the trained.
    small, large = properties.loc["32"], properties.loc["64"]
    for sae in STITCHED_SAES:
        row = table.loc[sae]
        inside = row["d_sae"] <= 64
        assert pd.notna(row["mse_at_size"]) == inside
        if inside:
            share = np.log(row["d_sae"] / 32) / np.log(2)
            expected = (1 - share) * small["mse"] + share * large["mse"]
            assert row["mse_at_size"] == pytest.approx(expected)
        assert float(row["next_in_size"]) == (32 if row["d_sae"] < 32 * 2**0.5 else 64)


def test_the_table_of_pairs_agrees_with_brute_force(evaluated):
    table = evaluated.table("tables/pairs.csv")
    assert list(table["small"] + "--" + table["large"]) == sorted(PAIRS, key=PAIRS.index)
    for pair, row in zip(PAIRS, table.to_dict("records"), strict=True):
        stored, stitched = (
            evaluated.read(f"stitching/insertions/{pair}.h5"),
            evaluated.stitched(pair),
        )
        cosine = evaluated.max_cosines(pair)
        best = cosine.max(1)
        active = stored["n_active"] > 0
        lowers = stored["delta_mse"][active] < 0
        d_small, d_large = stitched.small.d_sae, stitched.large.d_sae
        assert row["theta"] == THETA
        assert row["n_novel"] == (best < THETA).sum()
        assert row["n_novel"] + row["n_reconstruction"] == d_large
        assert row["share_novel"] == pytest.approx((best < THETA).mean())
        assert row["n_unmatched_small"] == (cosine.max(0) < THETA).sum()
        assert row["n_never_active"] == (~active).sum()
        assert row["share_improving"] == pytest.approx(lowers.mean())
        auc = area_under_curve(lowers, stored["max_cosine"][active])
        assert row["auc"] == pytest.approx(auc, nan_ok=True)
        if np.isfinite(auc):
            assert row["auc_low"] <= auc <= row["auc_high"]
            called = stored["max_cosine"][active] < row["theta_best"]
            best_j = called[lowers].mean() - called[~lowers].mean()
            thetas = np.append(stored["max_cosine"], 2.0)[:, None]
            novel = stored["max_cosine"][active] < thetas
            assert best_j == pytest.approx(
                (novel[:, lowers].mean(1) - novel[:, ~lowers].mean(1)).max()
            )
        lowest = np.float32(row["theta_lowest_mse"])
        mse = [stitched.mse(every(d_small), stored["max_cosine"] < t) for t in stored["max_cosine"]]
        found = stitched.mse(every(d_small), stored["max_cosine"] < lowest)
        everything = stitched.mse(every(d_small), every(d_large))
        assert found == pytest.approx(min(*mse, everything), rel=1e-6)
        assert row["mse_small"] == pytest.approx(stitched.mse(every(d_small), none(d_large)))
        assert row["mse_large"] == pytest.approx(stitched.mse(none(d_small), every(d_large)))
        assert row["median_max_cosine"] == pytest.approx(np.median(best), abs=1e-6)
        swaps = evaluated.read(f"stitching/swaps/{pair}.h5")
        assert row["n_components"] == len(swaps["delta_mse"])
        assert row["median_swap_delta_mse"] == pytest.approx(
            median(swaps["delta_mse"]), nan_ok=True
        )
        assert row["median_swap_delta_l0"] == pytest.approx(median(swaps["delta_l0"]), nan_ok=True)


def test_figures_show_what_the_files_hold(evaluated):
    for pair in PAIRS:
        stored = evaluated.read(f"stitching/insertions/{pair}.h5")
        shown = evaluated.table(f"figures/figure4_{pair}.csv")
        latents = np.flatnonzero(stored["n_active"] > 0)
        np.testing.assert_array_equal(shown["latent"], latents)
        for column in ("delta_mse", "standard_error", "n_active", "max_cosine"):
            np.testing.assert_array_equal(shown[column], stored[column][latents])
        novel = stored["max_cosine"][latents] < np.float32(THETA)
        np.testing.assert_array_equal(shown["group"] == "novel", novel)
        lower = stored["delta_mse"][latents] < 0
        np.testing.assert_array_equal(shown["effect"] == "decreases", lower)

    transition = evaluated.table("figures/figure5.csv")
    assert list(dict.fromkeys(transition["small"] + "--" + transition["large"])) == list(STEPS)
    kinds = np.array(["start", "insert", "swap", "drop"])
    with h5py.File(evaluated.results / "stitching/transition.h5") as file:
        for pair in STEPS:
            rows = transition[transition["small"] + "--" + transition["large"] == pair]
            for column in ("n_latents", "mse", "l0"):
                np.testing.assert_array_equal(rows[column], file[pair][column][...])
            np.testing.assert_array_equal(rows["kind"], kinds[file[pair]["kind"][...]])
    # Each step starts where the one before ended.
    for before, after in pairwise(step for _, step in transition.groupby("step")):
        assert after["n_latents"].iloc[0] == before["n_latents"].iloc[-1]
        assert after["mse"].iloc[0] == pytest.approx(before["mse"].iloc[-1])

    rocs = evaluated.table("figures/figure13.csv")
    assert list(dict.fromkeys(rocs["small"] + "--" + rocs["large"])) == list(PAIRS)
    for pair in PAIRS:
        stored = evaluated.read(f"stitching/roc/{pair}.h5")
        rows = rocs[rocs["small"] + "--" + rocs["large"] == pair]
        for column in ("auc", "auc_low", "auc_high", "n_positive", "n_negative"):
            np.testing.assert_array_equal(rows[column], np.full(len(rows), stored[column]))
        points = set(zip(stored["fpr"], stored["tpr"], stored["threshold"], strict=True))
        curve = rows[rows["point"] == "curve"]
        shown = set(zip(curve["fpr"], curve["tpr"], curve["threshold"], strict=True))
        assert shown <= points
        if len(points):
            area = np.trapezoid(curve["tpr"], curve["fpr"])
            assert area == pytest.approx(stored["auc"])
