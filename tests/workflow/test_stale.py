"""What makes results stale: which jobs Snakemake would do again after which change."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers.checkout import LIBRARY, PARTS, ROOT, SCRIPTS
from helpers.tiny import (
    EVERYTHING,
    FLOOR,
    JOBS,
    LIST,
    PAIRS,
    SHARDS,
    SHOWN,
    SIZES,
    STITCHED_SAES,
    THETA,
    TINY,
    jobs,
    pages,
)
from helpers.workflow_api import stale

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


# What is written


# The rules


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
    assert stale(away.folder, config) == expected


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
CODE_CHANGES: dict[str, tuple[Path, set[str], set[str]]] = {
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
    with edited(copy.folder / folder.relative_to(ROOT) / name.partition(" ")[0], "the code"):
        found = copy.stale()
    assert needed <= found <= needed | spare


@pytest.mark.parametrize("how", ["a comment", "a docstring"])
def test_words_about_the_code_rerun_nothing(copy, how):
    with edited(copy.folder / LIBRARY.relative_to(ROOT) / "saes" / "training.py", how):
        assert not copy.stale()


def test_a_fresh_checkout_reruns_nothing(copy):
    for part in (*PARTS, SCRIPTS.name):
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


# What is said when something is wrong


# The numbers, against brute force on what is stored
