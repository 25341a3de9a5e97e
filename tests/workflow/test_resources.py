"""What jobs ask for: more for larger SAEs and more tokens, and more again after a failure."""

import math
import re
from types import SimpleNamespace

import pytest
from helpers.checkout import ROOT

RULES = ROOT / "rules"
SAE = {"batch_size": 4096, "steps": 1000, "shuffle_buffer": 1 << 17}


def helpers(d_small=576, d_large=1152, max_eval_sequences=1000, d_model=768):
    """The functions that rules/common.smk reckons resources with, for a study of two SAEs."""
    _, mark, functions = (RULES / "common.smk").read_text().partition("# Resources.")
    study = {
        "model": {"name": "model"},
        "tokens": {
            "context": 128,
            "eval_fraction": 0.1,
            "max_eval_sequences": max_eval_sequences,
            "max_train_sequences": None,
        },
        "stitching": {"selection_tokens": 65536},
    }
    found = {
        "math": math,
        "model_source": {"d_model": d_model},
        "study": study,
        "saes": {"small": {**SAE, "d_sae": d_small}, "large": {**SAE, "d_sae": d_large}},
        "sizes": {"small": d_small, "large": d_large},
        "names": lambda _: ("small", "large"),
    }
    exec(mark + functions, found)
    return SimpleNamespace(**found)


LARGE = SimpleNamespace(sae="large")
OF_A_JOB = ("stitching_mb", "stitching_minutes", "training_mb", "training_minutes")


@pytest.mark.parametrize("amount", [1000, *OF_A_JOB])
def test_every_attempt_gets_as_much_again(amount):
    here = helpers()
    resource = here.scaled(getattr(here, amount) if isinstance(amount, str) else amount)
    first = resource(LARGE, 1)
    assert isinstance(first, int)
    for attempt in (2, 3):
        assert attempt * (first - 1) <= resource(LARGE, attempt) <= attempt * first


@pytest.mark.parametrize("amount", ["selection_mb", "selection_minutes"])
def test_choosing_among_more_latents_takes_more(amount):
    amounts = [getattr(helpers(d, 2 * d), amount)("small", "large") for d in (768, 6144, 49152)]
    assert amounts == sorted(set(amounts))


@pytest.mark.parametrize("amount", ["stitching_mb", "training_mb", "training_minutes"])
def test_larger_saes_get_more(amount):
    amounts = [getattr(helpers(d, 2 * d), amount)(LARGE) for d in (768, 6144, 49152)]
    assert amounts == sorted(set(amounts))


def test_more_tokens_get_more_time_but_no_more_memory():
    few, many = helpers(max_eval_sequences=100), helpers(max_eval_sequences=100_000)
    assert few.stitching_minutes(LARGE) < many.stitching_minutes(LARGE)
    assert few.stitching_mb(LARGE) == many.stitching_mb(LARGE)


def test_what_the_config_does_not_tell_is_assumed():
    here = helpers(max_eval_sequences=None)
    assert here.n_tokens("eval") == 0.1 * here.n_tokens("train")
    assert helpers(d_model=768).d_model == 768


def test_time_for_training_ends_somewhere():
    assert helpers(d_large=98304 * 100).training_minutes(LARGE) == 2880


def test_every_rule_asks_for_more_after_a_failure():
    text = "\n".join(path.read_text() for path in RULES.glob("*.smk"))
    asked = re.findall(r"^        (mem_mb|runtime)=(\w+)", text, re.MULTILINE)
    assert len(asked) == 2 * text.count("    resources:\n")
    assert {function for _, function in asked} == {"scaled"}
