"""Which rules each key of the config reaches: exactly those whose result hangs on it.

Snakemake does a job again when its params changed. Here they are asked for of the rules
themselves, for a change of every key there is; that Snakemake does what follows from them is
shown, for some keys, in test_stale.py.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from helpers.checkout import ROOT
from helpers.tiny import JOBS, TINY
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, Quietness, ResourceSettings

SCHEMA = yaml.safe_load((ROOT / "schemas" / "config.schema.yaml").read_text(encoding="utf-8"))


def params(folder: Path, config: dict[str, Any]) -> dict[str, Any]:
    """Params of every job of the tiny preset, with `config` over it."""
    settings = ConfigSettings(configfiles=[ROOT / "presets" / "tiny.yaml"], config=config)
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=settings,
            snakefile=ROOT / "Snakefile",
            workdir=folder,
        )._workflow
        found = {}
        for rule in workflow.rules:
            for name in JOBS.get(rule.name, ()) or [""] * (rule.name in JOBS):
                split, _, shard = name.partition("/")
                names = SimpleNamespace(sae=name, pair=name, table=name, split=split, shard=shard)
                job = rule.params.job
                found[rule.name, name] = job(names) if callable(job) else job
        return found


def leaves(schema: dict[str, Any], path: str = "") -> set[str]:
    """Dotted paths of all keys that hold a value."""
    found = set()
    for key, sub in schema.get("properties", {}).items():
        here = f"{path}.{key}".removeprefix(".")
        found |= leaves(sub, here) if "properties" in sub else {here}
    return found


def nested(path: str, value: Any) -> dict[str, Any]:
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


SOURCE = TINY["sources"]["random-gpt2"]
OF_PAIRS = {f"figure{n}" for n in (4, 7, 8, 12, 13, 14, 15, 16)} | {"significance"}
FIGURES = OF_PAIRS | {"figure3", "figure5", "figure17", "orders", "training_curve"}
FIGURES |= {"selection", "stitched"}
# A new value, or a whole config where one key cannot change alone; and the rules that it reaches.
REACH: dict[str, tuple[Any, set[str]]] = {
    "study": ("other", set(JOBS)),
    "cache": ("elsewhere", set()),
    # It wants an SAE of the paper's size, and does nothing to the rules of every study.
    # Of SAEs that are named by their release, of which there is none.
    "registry.version": ("6.0.0", set()),
    "registry.sha256": ("0" * 64, set()),
    "paper": (
        {"paper": "gpt2-small", "saes": [*TINY["saes"], {"name": "768", "d_sae": 256}]},
        OF_PAIRS
        | {"sae_properties", "cross_entropy", "pairs", "figure17", "training_curve"}
        | {"transition", "orders", "explorer", "selection", "table_pages"},
    ),
    "sources": ({"other": SOURCE}, set()),
    "model.name": (
        {"sources": {"other": SOURCE}, "model": {"name": "other"}},
        {"tokenise", "cache_activations", "cross_entropy", "explorer"},
    ),
    # Of a model of the hub alone, for which none is made. Which commit it is shows in the inputs.
    "model.revision": (
        {"model": {"name": "x", "revision": "v1"}},
        {"make_random_model", "tokenise", "cache_activations", "cross_entropy", "explorer"},
    ),
    "model.hook": ("blocks.0.hook_mlp_out", {"cache_activations", "cross_entropy", "explorer"}),
    "model.dtype": ("bfloat16", {"cache_activations", "cross_entropy"}),
    "model.center_writing_weights": (True, {"cache_activations", "cross_entropy"}),
    # Which files there are shows in the inputs.
    "text.files": (["presets/*.txt"], set()),
    "text.source": ({"text": {"source": "dataset", "dataset": {"path": "x"}}}, {"tokenise"}),
    "text.separator": ("\n", {"tokenise"}),
    "text.max_documents": (5, {"tokenise"}),
    **{
        f"text.dataset.{key}": ("x", {"tokenise"})
        for key in ("path", "name", "split", "column", "revision")
    },
    "tokens.context": (16, {"tokenise"}),
    "tokens.eval_fraction": (0.3, {"tokenise"}),
    "tokens.max_train_sequences": (9, {"tokenise"}),
    "tokens.max_eval_sequences": (9, {"tokenise"}),
    "tokens.seed": (1, {"tokenise"}),
    "activations.dtype": ("float32", {"cache_activations"}),
    "activations.batch_size": (7, {"cache_activations"}),
    "activations.train_shards": (3, {"cache_activations"}),
    "activations.eval_shards": (2, {"cache_activations"}),
    "activations.skip_first_position": (False, {"cache_activations", "cross_entropy"}),
    "activations.threads": (3, {"cache_activations", "cross_entropy"}),
    "activations.device": ("cpu", {"cache_activations"}),
    "activations.temporary": (True, set()),
    **{
        f"training.{key}": (value, {"train_sae"})
        for key, value in {
            "architecture": "gated",
            "k": 5,
            "sparsity_coefficient": 1.0,
            "decoder_norm_penalty": True,
            "bandwidth": 0.5,
            "lr": 0.01,
            "betas": [0.8, 0.9],
            "max_grad_norm": 2.0,
            "batch_size": 128,
            "steps": 50,
            "lr_warmup_steps": 3,
            "lr_decay_fraction": 0.1,
            "sparsity_warmup_fraction": 0.1,
            "auxk_coefficient": 0.1,
            "k_aux": 3,
            "dead_after_tokens": 5000,
            "product_dtype": "float32",
            "apply_b_dec_to_input": False,
            "shuffle_buffer": 512,
            "device": "cpu",
            "threads": 3,
            "seed": 1,
        }.items()
    },
    "stitched": (
        [
            {**TINY["stitched"][0], "base": 64, "insert": [{"sae": 128, "select": "novel"}]},
            *TINY["stitched"][1:],
        ],
        {"stitch_sae", "sae_properties", "stitched"},
    ),
    "saes": ([{**TINY["saes"][0], "steps": 50}, *TINY["saes"][1:]], {"train_sae"}),
    "similarity.floor": (0.25, {"similarity"}),
    "similarity.full_matrix_mb": (0, {"similarity"}),
    "similarity.threads": (3, {"similarity"}),
    "evaluation.ce_tokens": (100, {"cross_entropy"}),
    "stitching.pairs": ("adjacent", OF_PAIRS | {"pairs", "explorer"}),
    # Stitched SAEs whose config gives no θ have this one.
    "stitching.threshold": (0.6, {"subgraphs", "stitch_sae"}),
    "stitching.selection_tokens": (99, {"stitch_sae", "select_latents"}),
    "stitching.transition": ([32, 64], {"transition", "orders", "selection"}),
    "stitching.bootstrap_samples": (7, {"roc", "significance"}),
    "stitching.confidence": (0.9, {"roc", "significance"}),
    "stitching.seed": (1, {"roc", "significance", "random_insertion", "transition_orders"}),
    "stitching.random_orders": (7, {"random_insertion", "transition_orders"}),
    "explorer.passages": (3, {"passages"}),
    "explorer.tokens_before": (2, {"passages"}),
    "explorer.tokens_after": (2, {"passages"}),
    "explorer.nearest": (2, {"explorer"}),
    "explorer.inline_mb": (1, {"explorer"}),
    "figures.dpi": (90, FIGURES),
}
# What the report's summary tells of the study.
SUMMARISED = {"paper", "saes", "stitched"} | {
    key
    for key in REACH
    if key.startswith(("model.", "text.", "tokens.", "activations.", "stitching."))
    and key != "text.files"
}
SUMMARISED |= {
    f"training.{key}"
    for key in ("architecture", "k", "sparsity_coefficient", "lr", "batch_size", "steps", "seed")
}


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory) -> dict[tuple[str, str], Any]:
    return params(tmp_path_factory.mktemp("unchanged"), {})


def test_no_key_is_left_out():
    assert set(REACH) == leaves(SCHEMA)


@pytest.mark.slow
@pytest.mark.parametrize("key", REACH)
def test_a_key_reaches_the_rules_that_read_it(unchanged, tmp_path, key):
    value, rules = REACH[key]
    rules = rules | {"summary"} if key in SUMMARISED else rules
    whole = isinstance(value, dict) and key != "sources"
    changed = params(tmp_path, value if whole else nested(key, value))
    common = unchanged.keys() & changed.keys()
    assert {rule for rule, name in common if changed[rule, name] != unchanged[rule, name]} == rules
