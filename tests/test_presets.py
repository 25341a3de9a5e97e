"""The presets of the paper's studies: what they would do, and what they do with stand-ins.

A stand-in is a language model of the same architecture with random weights, and SAEs in the format
of the real ones, of a few latents, called as those of the paper.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from sae_stitching.published import PROPERTIES, PUBLISHED
from sae_stitching.sources import make_random_model
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).parent.parent
PAPERS = {
    path.stem: preset["paper"]
    for path in sorted((ROOT / "presets").glob("*.yaml"))
    if (preset := yaml.safe_load(path.read_text(encoding="utf-8"))).get("paper")
}
CONTEXT = 32


def snakemake(folder: Path, preset: str, *arguments: str, overlay: dict | None = None) -> str:
    """Run Snakemake on a preset, in `folder` and without a hub; what it said."""
    configs = [str(ROOT / "presets" / f"{preset}.yaml")]
    if overlay is not None:
        configs.append(str(folder / "overlay.yaml"))
        Path(configs[-1]).write_text(yaml.safe_dump(overlay))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(folder), "--configfile", *configs, "--cores", "2", *arguments]
    environment = {key: v for key, v in os.environ.items() if not key.startswith("SNAKEMAKE_")}
    # Not even a cache of the hub: what a machine has of it must not matter.
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "hub")}
    run = subprocess.run(
        command,
        cwd=folder,
        env=environment | offline,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=1800,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-5000:]
    return run.stdout


# What they would do


def test_there_is_a_preset_of_each_of_the_papers_studies():
    assert PAPERS == {
        "gemma-2-2b": "gemma-2-2b",
        "gpt2-small": "gpt2-small",
        "gpt2-small-pretrained": "gpt2-small",
    }


@pytest.mark.parametrize("preset", PAPERS)
def test_a_dry_run_needs_no_hub(preset, tmp_path):
    said = snakemake(tmp_path, preset, "--dry-run")
    stats = re.findall(r"^(\w+) +(\d+)$", said[said.index("Job stats:") :], re.MULTILINE)
    jobs = {rule: int(n) for rule, n in stats}
    published = PUBLISHED[PAPERS[preset]]
    n_saes, trained = len(published.saes), preset == "gpt2-small"
    n_pairs = len(published.auc.keys() | published.share_reconstruction.keys())
    assert jobs["train_sae" if trained else "import_sae"] == n_saes
    assert ("train_sae" in jobs) != ("import_sae" in jobs)
    # Without training there is nothing to read of the training split.
    assert jobs["cache_activations"] == (96 + 8 if trained else 8)
    assert jobs["encode"] == n_saes
    assert jobs["insertions"] == n_pairs
    assert jobs["reproduction"] == jobs["plot_reproduction"] == 1


# What they do with stand-ins


def directions(rng: np.random.Generator, d_model: int, d_small: int, d_large: int) -> list:
    """Decoder directions of two SAEs; two thirds of the smaller one's are in the larger one too."""
    small = rng.standard_normal((d_small, d_model))
    large = rng.standard_normal((d_large, d_model))
    n_shared = 2 * d_small // 3
    large[:n_shared] = small[:n_shared] + 0.2 * large[:n_shared]
    return [W / np.linalg.norm(W, axis=1, keepdims=True) for W in (small, large)]


def weights(W_dec: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Tensors of an SAE whose encoder reads along its decoder directions."""
    d_sae, d_model = W_dec.shape
    tensors = {
        "W_enc": W_dec.T,
        "W_dec": W_dec,
        "b_enc": 0.1 * rng.standard_normal(d_sae),
        "b_dec": 0.1 * rng.standard_normal(d_model),
    }
    return {name: np.ascontiguousarray(tensor, "f4") for name, tensor in tensors.items()}


def write_old_saelens(folder: Path, tensors: dict[str, np.ndarray]) -> None:
    """Write an SAE as those of the release are: before format 6, its conventions unsaid."""
    folder.mkdir(parents=True)
    d_model, d_sae = tensors["W_enc"].shape
    settings = {
        "model_name": "gpt2-small",
        "hook_point": "blocks.8.hook_resid_pre",
        "hook_point_layer": 8,
        "hook_point_head_index": None,
        "dataset_path": "Skylion007/openwebtext",
        "context_size": 128,
        "d_in": d_model,
        "dtype": "torch.float32",
        "device": "mps",
        "b_dec_init_method": "geometric_median",
        "l1_coefficient": 8e-05,
        "use_ghost_grads": True,
        "d_sae": d_sae,
    }
    (folder / "cfg.json").write_text(json.dumps(settings))
    save_file(tensors, folder / "sae_weights.safetensors")
    save_file({"sparsity": np.zeros(d_sae, "f4")}, folder / "sparsity.safetensors")


def stand_in(preset: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Write model, text and SAEs; the config to lay over the preset, and the SAEs' tensors."""
    gemma = preset == "gemma-2-2b"
    # As deep as the preset's hook needs.
    source = {
        "architecture": "gemma2" if gemma else "gpt2",
        "n_layers": 14 if gemma else 9,
        "d_model": 32,
        "n_heads": 2,
        "context": 64,
        "seed": 0,
    }
    make_random_model(source, folder / "model")
    text = (ROOT / "presets" / "tiny.txt").read_text(encoding="utf-8").split("\n\n\n")
    lines = [json.dumps({"text": document}) for document in text]
    (folder / "text.jsonl").write_text("\n".join(lines))

    names = PUBLISHED[PAPERS[preset]].saes[:2]
    sizes = dict(zip(names, (24, 48), strict=True))
    overlay: dict[str, Any] = {
        "model": {"name": str(folder / "model")},
        "text": {"dataset": {"path": str(folder / "text.jsonl"), "revision": None}},
        "tokens": {"context": CONTEXT, "eval_fraction": 0.5, "max_eval_sequences": 40},
        # Kept, to be looked at.
        "activations": {"eval_shards": 2, "temporary": False},
        "evaluation": {"ce_tokens": 256},
        "stitching": {"pairs": "all", "transition": names, "bootstrap_samples": 50},
    }
    if preset == "gpt2-small":
        overlay["tokens"]["max_train_sequences"] = 100
        overlay["activations"]["train_shards"] = 2
        overlay["training"] = {"steps": 40, "batch_size": 256, "lr_warmup_steps": 10}
        overlay["saes"] = [{"name": name, "d_sae": d_sae} for name, d_sae in sizes.items()]
        return overlay, {}

    rng = np.random.default_rng(0)
    tensors, overlay["saes"] = {}, []
    pair = directions(rng, source["d_model"], *sizes.values())
    for (name, d_sae), W_dec in zip(sizes.items(), pair, strict=True):
        place = folder / "saes" / name
        tensors[name] = weights(W_dec, rng)
        if gemma:
            tensors[name]["threshold"] = rng.uniform(0.1, 0.4, d_sae).astype("f4")
            place.mkdir(parents=True)
            np.savez(place / "params.npz", **tensors[name])
        else:
            write_old_saelens(place, tensors[name])
        pretrained = {"path": str(place), "format": "gemma-scope" if gemma else "saelens"}
        overlay["saes"].append({"name": name, "d_sae": d_sae, "pretrained": pretrained})
    return overlay, tensors


def hidden_states(preset: str, folder: Path, tokens: np.ndarray) -> np.ndarray:
    """What transformers says is at the preset's hook, position 0 left out: (token, d_model)."""
    gemma = preset == "gemma-2-2b"
    dtype = torch.bfloat16 if gemma else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=dtype)
    with torch.inference_mode():
        states = model(torch.from_numpy(tokens).long(), output_hidden_states=True).hidden_states
    # Entry i is what enters block i.
    x = states[13 if gemma else 8][:, 1:].double().flatten(0, 1).numpy()
    return x if gemma else x - x.mean(1, keepdims=True)


@pytest.mark.parametrize("preset", PAPERS)
def test_a_preset_runs_on_a_stand_in(preset, tmp_path):
    overlay, tensors = stand_in(preset, tmp_path)
    targets = ("figure4", "figure5", "figure13", "plot_reproduction")
    snakemake(tmp_path, preset, *targets, overlay=overlay)
    results = tmp_path / "results" / preset
    small, large = names = PUBLISHED[PAPERS[preset]].saes[:2]
    for figure in (f"figure4_{small}--{large}", "figure5", "figure13", "reproduction"):
        for suffix in ("pdf", "png", "csv"):
            assert (results / "figures" / f"{figure}.{suffix}").stat().st_size > 0

    # The study's column is what its own tables say.
    own = pd.read_csv(results / "tables" / "sae_properties.csv", dtype={"sae": str})
    own = own.set_index("sae")
    (pair,) = pd.read_csv(results / "tables" / "pairs.csv").to_dict("records")
    table = pd.read_csv(results / "tables" / "reproduction.csv", dtype={"sae": str})
    assert table["published"].notna().all()
    for quantity in PROPERTIES:
        found = table[table["quantity"] == quantity].set_index("sae")["study"].dropna()
        pd.testing.assert_series_equal(found, own[quantity], check_names=False)
    (auc,) = table[table["quantity"] == "auc"]["study"].dropna()
    assert auc == pair["auc"] and pair["n_novel"] + pair["n_reconstruction"] == 48
    if tensors:  # planted to have both; 40 steps of training need not find latents in common
        assert pair["n_novel"] * pair["n_reconstruction"] > 0
    if PAPERS[preset] == "gpt2-small":
        (share,) = table[table["quantity"] == "share_reconstruction"]["study"].dropna()
        assert share == pytest.approx(1 - pair["share_novel"])
        counts = table[table["quantity"] == "subgraphs"].set_index("subgraph")["study"]
        assert counts["single"] == pair["n_novel"] + pair["n_unmatched_small"]
        assert counts.drop("single").sum() == pair["n_components"]

    # The activations, and the SAEs on them, are what transformers and their formulas say.
    with h5py.File(results / "corpus" / "tokens.h5") as file:
        tokens = file["eval/tokens"][...]
    shards = [results / "activations" / "eval" / f"{shard:04d}.h5" for shard in range(2)]
    cached = [h5py.File(shard)["activations"][...].astype("f8") for shard in shards]
    x = hidden_states(preset, tmp_path, tokens)
    near = {"atol": 0.05, "rtol": 0.02} if preset == "gemma-2-2b" else {"atol": 2e-3}
    np.testing.assert_allclose(np.concatenate(cached), x, **near)
    for name in names if tensors else ():
        sae = {key: value.astype("f8") for key, value in tensors[name].items()}
        gemma = "threshold" in sae
        z = (x if gemma else x - sae["b_dec"]) @ sae["W_enc"] + sae["b_enc"]
        f = np.where(z > sae.get("threshold", 0.0), np.maximum(z, 0.0), 0.0)
        mse = np.square(x - f @ sae["W_dec"] - sae["b_dec"]).mean()
        rough = {"rel": 0.02 if gemma else 1e-4}
        assert own.loc[name, "mse"] == pytest.approx(mse, **rough)
        assert own.loc[name, "l0"] == pytest.approx((f > 0).sum(1).mean(), **rough)
