"""What jobs ask for: more for larger SAEs and more tokens, and more again after a failure."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.tiny import TINY
from helpers.workflow_api import read

LARGE = SimpleNamespace(sae="large")
PAIR = SimpleNamespace(pair="small--large")
# What the rules reckon for a job, of a pair or of one SAE.
OF_A_JOB = {
    "stitching_mb": PAIR,
    "stitching_minutes": PAIR,
    "training_mb": LARGE,
    "training_minutes": LARGE,
}


@contextmanager
def functions(
    d_small: int = 576,
    d_large: int = 1152,
    max_eval_sequences: int | None = 1000,
    max_train_sequences: int | None = None,
    d_model: int = 768,
) -> Iterator[SimpleNamespace]:
    """The functions that rules reckon resources with, as Snakemake has them, for two SAEs."""
    name = TINY["model"]["name"]
    config: dict[str, Any] = {
        "sources": {name: {**TINY["sources"][name], "d_model": d_model}},
        "tokens": {
            "max_eval_sequences": max_eval_sequences,
            "max_train_sequences": max_train_sequences,
        },
        "training": {"batch_size": 4096, "steps": 1000},
        "saes": [{"name": "small", "d_sae": d_small}, {"name": "large", "d_sae": d_large}],
        "stitched": [],
    }
    with TemporaryDirectory() as folder:
        study = Path(folder) / "study"
        study.mkdir()
        with read(study, config) as workflow:
            yield SimpleNamespace(**workflow.globals)


@cache
def reckoned(**sizes: Any) -> dict[str, Any]:
    """All amounts for a study of these sizes, and what three attempts of a job get."""
    with functions(**sizes) as here:
        found: dict[str, Any] = {name: getattr(here, name)(job) for name, job in OF_A_JOB.items()}
        for name in ("selection_mb", "selection_minutes"):
            found[name] = getattr(here, name)("small", "large")
        for split in ("train", "eval"):
            found[f"n_tokens {split}"] = here.n_tokens(split)
        for amount, job in {1000: LARGE, **OF_A_JOB}.items():
            resource = here.scaled(getattr(here, amount) if isinstance(amount, str) else amount)
            found[f"attempts of {amount}"] = [resource(job, attempt) for attempt in (1, 2, 3)]
        return {**found, "d_model": here.d_model}


@pytest.mark.parametrize("amount", [1000, *OF_A_JOB])
def test_every_attempt_gets_as_much_again(amount):
    first, *others = reckoned()[f"attempts of {amount}"]
    assert isinstance(first, int)
    for attempt, found in enumerate(others, start=2):
        assert attempt * (first - 1) <= found <= attempt * first


@pytest.mark.parametrize(
    "amount",
    ["selection_mb", "selection_minutes", "stitching_mb", "training_mb", "training_minutes"],
)
def test_more_latents_take_more(amount):
    amounts = [reckoned(d_small=d, d_large=2 * d)[amount] for d in (768, 6144, 49152)]
    assert amounts == sorted(set(amounts))


def test_more_tokens_get_more_time_but_no_more_memory():
    few, many = reckoned(max_eval_sequences=100), reckoned(max_eval_sequences=100_000)
    assert few["stitching_minutes"] < many["stitching_minutes"]
    assert few["stitching_mb"] == many["stitching_mb"]


def test_what_the_config_does_not_tell_is_assumed():
    found, share = reckoned(max_eval_sequences=None), TINY["tokens"]["eval_fraction"]
    assert found["n_tokens eval"] == share * found["n_tokens train"]
    assert found["d_model"] == 768


def test_time_for_training_ends_somewhere():
    assert reckoned(d_large=98304 * 100)["training_minutes"] == 2880
