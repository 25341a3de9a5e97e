"""What a run writes: files, datasets, where they come from; and the same bytes a second time."""

import json
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from helpers.checkout import ROOT, files
from helpers.runs import Run
from helpers.tiny import (
    ALL_SAES,
    CONTEXT,
    D_MODEL,
    EVERYTHING,
    PAIRS,
    SECOND_FILES,
    SHARDS,
    SHOWN,
    SIZES,
    STEPS,
    STITCHED_SAES,
    TABLES,
)
from PIL import Image


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


def test_the_run_writes_what_is_promised_and_nothing_else(away, again):
    assert {path.name for path in again.folder.iterdir()} == {".snakemake", "results"}
    assert [path.name for path in (again.folder / "results").iterdir()] == ["tiny"]
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


def test_a_second_run_gives_the_same_bytes(copy, again):
    names = {*SECOND_FILES, *(f"model/{name}" for name in files(again.results / "model"))}
    assert names <= files(copy.results)
    differ = {
        name
        for name in names
        if (copy.results / name).read_bytes() != (again.results / name).read_bytes()
    }
    assert not differ


def test_no_result_names_a_folder_of_this_machine(copy, again):
    folders = [copy.folder.parent, ROOT, Path.home()]
    needles = [str(folder).encode() + b"/" for folder in folders if folder != Path("/")]
    for run in (copy, again):
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
        "stitching/threshold": "insertions",
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
