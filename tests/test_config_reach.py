"""Which rules each key of the config reaches: exactly those whose result hangs on it.

Snakemake does a job again when its params changed. Here they are asked for of the rules
themselves, for a change of every key there is; that Snakemake does what follows from them is
shown, for some keys, in test_workflow.py.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, Quietness, ResourceSettings
from test_workflow import JOBS, ROOT, TINY

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
                wildcards = dict.fromkeys(rule.wildcard_names, name)
                names = SimpleNamespace(**{**wildcards, "split": split, "shard": shard})
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
OF_ALL_PAIRS = {"pairs", *(f"figure{n}" for n in (7, 8, 12, 13, 14, 15, 16))}
OF_ALL_PAIRS |= {"explorer", "significance"}
FIGURES = {"plot_figure4", *(f"figure{n}" for n in (3, 5, 7, 8, 12, 13, 14, 15, 16, 17))}
FIGURES |= {"orders", "significance", "training_curve"}
MODEL = {"cache_activations", "cross_entropy"}
# A new value, or a whole config where one key cannot change alone; and the rules that it reaches.
REACH: dict[str, tuple[Any, set[str]]] = {
    "study": ("other", set(JOBS) - {"summary"}),
    "cache": ("elsewhere", set()),
    # It wants an SAE of the paper's size, and does nothing to the rules of every study.
    "paper": (
        {"paper": "gpt2-small", "saes": [*TINY["saes"], {"name": "768", "d_sae": 256}]},
        OF_ALL_PAIRS
        | {"sae_properties", "transition", "cross_entropy", "figure17", "orders", "training_curve"},
    ),
    "sources": ({"other": SOURCE}, set()),
    "model.name": (
        {"sources": {"other": SOURCE}, "model": {"name": "other"}},
        MODEL | {"tokenise", "explorer"},
    ),
    "model.hook": ("blocks.0.hook_mlp_out", MODEL | {"explorer"}),
    "model.dtype": ("bfloat16", MODEL),
    "model.center_writing_weights": (True, MODEL),
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
    "activations.skip_first_position": (False, MODEL),
    "activations.threads": (1, MODEL),
    "activations.device": ("cpu", {"cache_activations"}),
    # Whether they are kept is no part of what they are.
    "activations.temporary": (True, set()),
    "evaluation.ce_tokens": (5000, {"cross_entropy"}),
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
            "threads": 1,
            "seed": 1,
        }.items()
    },
    "saes": ([{**TINY["saes"][0], "steps": 50}, *TINY["saes"][1:]], {"train_sae"}),
    "similarity.floor": (0.25, {"similarity"}),
    "similarity.full_matrix_mb": (0, {"similarity"}),
    "similarity.threads": (1, {"similarity"}),
    "stitching.pairs": ("adjacent", OF_ALL_PAIRS),
    "stitching.threshold": ("auto", {"subgraphs"}),
    "stitching.transition": ([32, 64], {"transition", "orders"}),
    "stitching.random_orders": (3, {"random_insertion", "transition_orders"}),
    "stitching.bootstrap_samples": (7, {"roc", "significance"}),
    "stitching.confidence": (0.9, {"roc", "significance"}),
    "stitching.seed": (
        1,
        {"roc", "significance", "random_insertion", "transition_orders"},
    ),
    "explorer.passages": (9, {"passages"}),
    "explorer.tokens_before": (9, {"passages"}),
    "explorer.tokens_after": (9, {"passages"}),
    "explorer.nearest": (9, {"explorer"}),
    "explorer.inline_mb": (9, {"explorer"}),
    "figures.dpi": (90, FIGURES),
}


@pytest.fixture(scope="module")
def unchanged(tmp_path_factory) -> dict[tuple[str, str], Any]:
    return params(tmp_path_factory.mktemp("unchanged"), {})


def test_no_key_is_left_out():
    assert set(REACH) == leaves(SCHEMA)


@pytest.mark.parametrize("key", REACH)
def test_a_key_reaches_the_rules_that_read_it(unchanged, tmp_path, key):
    value, rules = REACH[key]
    whole = isinstance(value, dict) and key != "sources"
    changed = params(tmp_path, value if whole else nested(key, value))
    common = unchanged.keys() & changed.keys()
    reached = {rule for rule, name in common if changed[rule, name] != unchanged[rule, name]}
    # The summary says what the study is, so that almost every key reaches it.
    assert reached - {"summary"} == rules
