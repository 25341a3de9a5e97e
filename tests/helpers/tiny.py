"""The tiny preset: what its file says, and what the tests count on."""

from typing import Any

import yaml
from helpers.checkout import ROOT
from sae_stitching.tables.register import RESULTS

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


# A second run is of the first two SAEs and makes what is of each of them and of their pair, whose
# bytes must be those of the first run; what is drawn and tabulated of all comes from these alone.
SECOND_STUDY: dict[str, Any] = {"saes": LIST[:2], "stitched": TINY["stitched"][:1]}
SECOND_FILES = (
    "corpus/tokens.h5",
    *(f"activations/{shard}.h5" for shard in SHARDS),
    *(f"{kind}/{sae}.h5" for kind in ("saes", "codes") for sae in ("32", "64", "32-novel")),
    *(f"saes/{sae}.csv" for sae in ("32", "64")),
    *(f"passages/{sae}.h5" for sae in ("32", "64")),
    *(f"{kind}/32--64.h5" for kind in ("similarity", "similarity/activations", "subgraphs")),
    "subgraphs/32--64.graphml",
    *(
        f"stitching/{kind}/32--64.h5"
        for kind in ("insertions", "swaps", "threshold", "random_insertion")
    ),
    *(f"stitching/{kind}/32--64.h5" for kind in ("transition", "orders", "selection")),
    *(f"figures/figure4_32--64.{suffix}" for suffix in ("pdf", "png", "csv")),
)
