"""The presets of the paper's studies: what they would do, and what they do with stand-ins.

A stand-in is a repository on a hub, in the name and the layout of the real one: a language model of
the same architecture with random weights, SAEs of a few latents, a short text.
"""

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from helpers import stand_ins
from helpers.checkout import ROOT
from helpers.loopback_hub import MEMBER
from helpers.preset_runs import assert_nowhere, snakemake
from helpers.stand_ins import PRESETS, SIZES
from helpers.workflow_api import read
from sae_stitching.tables.published import PROPERTIES, PUBLISHED
from transformers import AutoModelForCausalLM

PAPERS = {
    path.stem: preset["paper"]
    for path in sorted((ROOT / "presets").glob("*.yaml"))
    if (preset := yaml.safe_load(path.read_text(encoding="utf-8"))).get("paper")
}
CONTEXT = 32


# What they would do


def test_there_is_a_preset_of_each_of_the_papers_studies():
    assert PAPERS == {
        "gemma-2-2b": "gemma-2-2b",
        "gpt2-small": "gpt2-small",
        "gpt2-small-pretrained": "gpt2-small",
    }


@pytest.mark.parametrize("preset", PAPERS)
def test_a_dry_run_needs_no_hub(preset, hub, tmp_path):
    with hub.off(), read(tmp_path, preset=preset, targets=set()) as workflow:
        jobs = Counter(job.rule.name for job in workflow.dag.needrun_jobs())
    assert hub.asked() == []
    published = PUBLISHED[PAPERS[preset]]
    n_saes, trained = len(published.saes), preset == "gpt2-small"
    n_pairs = len(published.auc.keys() | published.share_reconstruction.keys())
    assert jobs["train_sae" if trained else "import_sae"] == n_saes
    assert ("train_sae" in jobs) != ("import_sae" in jobs)
    # Without training there is nothing to read of the training split.
    assert jobs["cache_activations"] == (96 + 8 if trained else 8)
    assert jobs["encode"] == n_saes
    assert jobs["insertions"] == n_pairs
    assert jobs["reproduction"] == 1


# What they do with stand-ins

# Of one of them figures are drawn too, and eval activations are in two shards: of neither does a
# preset say what the others do not.
DRAWN = "gpt2-small-pretrained"


def small(preset: str) -> dict[str, Any]:
    """What to lay over a preset: the stand-ins' sizes, and little of the text."""
    names = PUBLISHED[PAPERS[preset]].saes[:2]
    trained, drawn = preset == "gpt2-small", preset == DRAWN
    laid: dict[str, Any] = {
        "tokens": {"context": CONTEXT, "eval_fraction": 0.5, "max_eval_sequences": 40},
        # Kept, to be looked at.
        "activations": {"eval_shards": 2 if drawn else 1, "temporary": False},
        "evaluation": {"ce_tokens": 256},
        "stitching": {"pairs": "all", "transition": names, "bootstrap_samples": 50},
        "saes": [
            {**sae, "name": name, "d_sae": d_sae}
            for name, sae, d_sae in zip(names, PRESETS[preset]["saes"], SIZES, strict=False)
        ],
    }
    if trained:
        laid["tokens"]["max_train_sequences"] = 100
        laid["activations"]["train_shards"] = 1
        laid["training"] = {"steps": 40, "batch_size": 256, "lr_warmup_steps": 10}
    return laid


def hidden_states(preset: str, folder: Path, tokens: np.ndarray) -> np.ndarray:
    """What transformers says is at the preset's hook, position 0 left out: (token, d_model)."""
    gemma = preset == "gemma-2-2b"
    for name, content in (stand_ins.gemma() if gemma else stand_ins.gpt2()).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    dtype = torch.bfloat16 if gemma else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    with torch.inference_mode():
        states = model(torch.from_numpy(tokens).long(), output_hidden_states=True).hidden_states
    # Entry i is what enters block i.
    x = states[13 if gemma else 8][:, 1:].double().flatten(0, 1).numpy()
    return x if gemma else x - x.mean(1, keepdims=True)


@pytest.mark.parametrize("preset", PAPERS)
def test_a_preset_is_fetched_and_then_runs_without_a_hub(preset, hub, tmp_path, monkeypatch):
    stand_ins.fill(hub)
    hub.xet = preset == "gemma-2-2b"
    monkeypatch.setenv("HF_TOKEN", MEMBER)
    overlay = small(preset)
    snakemake(tmp_path, preset, "fetch", overlay=overlay)
    asked = hub.asked()
    # Each branch, each listing and each file is asked for once, and not once a job.
    for match in ("/revision/", "/tree/", "GET (/-/cdn|/-/xet/xorbs|/api/resolve-cache)/"):
        once = hub.asked(match)
        assert once and len(once) == len(set(once))
    figures = ("figure4", "figure5", "figure13") if preset == DRAWN else ()
    with hub.off():
        snakemake(tmp_path, preset, "fetch", "reproduction", *figures, overlay=overlay)
        assert hub.asked() == asked
    assert_nowhere(MEMBER, tmp_path, Path(os.environ["HF_HOME"]))
    results = tmp_path / "results" / preset
    names = PUBLISHED[PAPERS[preset]].saes[:2]
    drawn = [name.replace("figure4", "figure4_" + "--".join(names)) for name in figures]
    for figure in (*drawn, "reproduction"):
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
    trained = preset == "gpt2-small"
    if not trained:  # planted to have both; 40 steps of training need not find latents in common
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
    numbers = range(overlay["activations"]["eval_shards"])
    shards = [results / "activations" / "eval" / f"{shard:04d}.h5" for shard in numbers]
    # They say of which commit they are.
    repository = hub.repository(stand_ins.GEMMA if preset == "gemma-2-2b" else stand_ins.GPT2)
    with h5py.File(shards[0]) as file:
        (model,) = json.loads(file.attrs["provenance"])["hub"]
    assert (model["repo"], model["revision"]) == (repository.name, "main")
    assert model["commit"] == repository.branches["main"]
    cached = [h5py.File(shard)["activations"][...].astype("f8") for shard in shards]
    x = hidden_states(preset, tmp_path / "model", tokens)
    near = {"atol": 0.05, "rtol": 0.02} if preset == "gemma-2-2b" else {"atol": 2e-3}
    np.testing.assert_allclose(np.concatenate(cached), x, **near)
    for name in () if trained else names:
        sae = {k: v.astype("f8") for k, v in stand_ins.sae_weights(preset, name).items()}
        gemma = "threshold" in sae
        z = (x if gemma else x - sae["b_dec"]) @ sae["W_enc"] + sae["b_enc"]
        f = np.where(z > sae.get("threshold", 0.0), np.maximum(z, 0.0), 0.0)
        mse = np.square(x - f @ sae["W_dec"] - sae["b_dec"]).mean()
        rough = {"rel": 0.02 if gemma else 1e-4}
        assert own.loc[name, "mse"] == pytest.approx(mse, **rough)
        assert own.loc[name, "l0"] == pytest.approx((f > 0).sum(1).mean(), **rough)
