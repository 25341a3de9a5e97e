"""Each number of the config at its least and at its greatest: refused at once, or the study runs.

What the config alone can tell must not come out after hours. Here the steps of a study are done one
after the other, as the rules do them, on a model of two narrow layers and a few hundred tokens.
"""

import copy
import shutil
import string
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from helpers.checkout import ROOT
from sae_stitching.activations.cache import cache_shard
from sae_stitching.activations.language_model import LanguageModel
from sae_stitching.activations.shards import ActivationShards
from sae_stitching.base.errors import StudyError
from sae_stitching.config.study import load_study, sae_sizes
from sae_stitching.explorer.passages import token_places, top_passages
from sae_stitching.figures.figure13 import figure13, figure13_table
from sae_stitching.figures.figure15 import figure15, figure15_table
from sae_stitching.figures.style import save_figure
from sae_stitching.matching.decoder_similarity import load_similarity, write_similarity
from sae_stitching.matching.subgraphs import connected_subgraphs
from sae_stitching.saes import training
from sae_stitching.saes.cross_entropy import cross_entropies, eval_sequences
from sae_stitching.saes.encoding import encode_shards, open_codes
from sae_stitching.saes.evaluation import evaluate, mean_activation
from sae_stitching.saes.sae import load_decoder, read_sae, save_sae
from sae_stitching.saes.training import Trainer, TrainingConfig
from sae_stitching.stitching.insertions import insertion_effects
from sae_stitching.stitching.pairs import EvalPair, open_pair
from sae_stitching.stitching.random_insertion import random_insertion
from sae_stitching.stitching.recipe import stitch_recipe
from sae_stitching.stitching.roc import novelty_roc
from sae_stitching.stitching.selection_orders import insertion_orders, walk
from sae_stitching.stitching.swaps import swap_effects
from sae_stitching.stitching.threshold import threshold_curve
from sae_stitching.stitching.transition_orders import transition_orders
from sae_stitching.stitching.transitions import transition
from sae_stitching.tables.summary import pair_row, pairs
from sae_stitching.text.documents import read_documents
from sae_stitching.text.sources import make_random_model
from sae_stitching.text.tokens import write_tokens

SCHEMA_PATH = ROOT / "schemas" / "config.schema.yaml"
SCHEMA = yaml.safe_load(SCHEMA_PATH.read_text(encoding="utf-8"))

SOURCE = {"kind": "random-model", "n_layers": 2, "d_model": 8, "n_heads": 2, "context": 12}
CONFIG: dict[str, Any] = {
    "study": "extreme",
    "sources": {"small": SOURCE},
    "model": {"name": "small", "hook": "blocks.1.hook_resid_pre", "dtype": "float32"},
    "text": {"source": "files", "files": ["text.txt"], "separator": "|"},
    "tokens": {"context": 8, "eval_fraction": 0.4},
    "activations": {"train_shards": 2},
    "training": {
        "architecture": "topk",
        "k": 2,
        "batch_size": 16,
        "shuffle_buffer": 32,
        "steps": 4,
        "lr_warmup_steps": 1,
        "betas": [0.9, 0.999],
        "dead_after_tokens": 16,
        "product_dtype": "float32",
    },
    "saes": [{"d_sae": 6}, {"d_sae": 12, "architecture": "batchtopk"}],
    "stitched": [
        {
            "name": "it",
            "base": 6,
            "swap": [{"sae": 12, "threshold": 0.2}],
            "insert": [{"sae": 12, "select": "greedy", "n": 2}],
        }
    ],
    "similarity": {"floor": 0.1, "full_matrix_mb": 1},
    "stitching": {
        "threshold": 0.4,
        "selection_tokens": 64,
        "bootstrap_samples": 8,
        "random_orders": 2,
    },
    "evaluation": {"ce_tokens": 32},
    "figures": {"dpi": 30},
}


#: Sections that decide over all up to the codes.
EARLY = ("sources", "model", "text", "tokens", "activations", "training", "saes")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The study of CONFIG up to the codes, for all that is about what comes later."""
    folder = tmp_path_factory.mktemp("done")
    letters = np.random.default_rng(0).choice(list(string.ascii_letters), (24, 20))
    (folder / "text.txt").write_text("|".join("".join(document) for document in letters))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(training, "_STATISTICS_TOKENS", 256)
        study = load_study(CONFIG, SCHEMA_PATH, ".")
        run_early(study)
    return folder, study


@pytest.fixture(autouse=True)
def here(done: tuple[Path, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(done[0], tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    # By default 4096 batches of the few tokens that there are.
    monkeypatch.setattr(training, "_STATISTICS_TOKENS", 256)


ORIGIN: dict[str, Any] = {"study": "extreme", "provenance": {}}


def changed(path: str, value: Any) -> dict[str, Any]:
    """Copy CONFIG with one value set."""
    config = copy.deepcopy(CONFIG)
    *parents, last = path.split(".")
    place: Any = config
    for parent in parents:
        place = place[int(parent)] if isinstance(place, list) else place.setdefault(parent, {})
    place[int(last) if isinstance(place, list) else last] = value
    return config


def run(study: dict[str, Any], done: dict[str, Any]) -> None:
    """Do what the rules do, from the model to the figures, bar what is done."""
    if any(study[section] != done[section] for section in EARLY):
        shutil.rmtree("model")
        run_early(study)
    run_late(study)


def files(study: dict[str, Any], split: str) -> list[str]:
    return [f"{split}{number}.h5" for number in range(study["activations"][f"{split}_shards"])]


def run_early(study: dict[str, Any]) -> None:
    model, activations = study["model"], study["activations"]
    make_random_model(study["sources"]["small"], Path("model"))
    documents = read_documents(study["text"])
    write_tokens(documents, "model", "tokens.h5", name="small", **study["tokens"], **ORIGIN)
    loaded = LanguageModel("model", model["hook"], model["dtype"])
    settings = {key: activations[key] for key in ("batch_size", "dtype", "skip_first_position")}
    for split in ("train", "eval"):
        paths = files(study, split)
        for number, path in enumerate(paths):
            place = (split, number, len(paths), loaded, path)
            cache_shard("tokens.h5", *place, model_name="small", **settings, **ORIGIN)
    train = ActivationShards(files(study, "train"), study="extreme")
    for sae in study["saes"]:
        trained = Trainer(TrainingConfig.from_mapping(sae), train).train(sae["name"])
        save_sae(trained, f"{sae['name']}.h5", **ORIGIN)
        read = read_sae(f"{sae['name']}.h5")
        encode_shards(read, files(study, "eval"), f"codes_{sae['name']}.h5", **ORIGIN)


def run_late(study: dict[str, Any]) -> None:
    stitching, model = study["stitching"], study["model"]
    shards = {split: files(study, split) for split in ("train", "eval")}
    train = ActivationShards(shards["train"], study="extreme")
    names = [sae["name"] for sae in study["saes"]]
    known = {name: read_sae(f"{name}.h5") for name in names}
    (recipe,) = study["stitched"]
    tokens = train.first(stitching["selection_tokens"])
    stitched = stitch_recipe(recipe, known, tokens)
    assert stitched.sae.d_sae <= sae_sizes(study)[recipe["name"]]
    pair_files = SimpleNamespace(activations=shards["eval"])
    for side, name in zip(("small", "large"), names, strict=True):
        setattr(pair_files, side, f"{name}.h5")
        setattr(pair_files, f"codes_{side}", f"codes_{name}.h5")
        decoder = load_decoder(f"{name}.h5", double=True)
        with open_codes(f"codes_{name}.h5", decoder) as codes:
            assert evaluate(decoder, ActivationShards(shards["eval"]), codes)["n_tokens"] > 0
            explorer = study["explorer"]
            top_passages(
                codes,
                *token_places(shards["eval"], study="extreme"),
                n_passages=explorer["passages"],
                before=explorer["tokens_before"],
                after=explorer["tokens_after"],
            )
    if n_tokens := study["evaluation"]["ce_tokens"]:
        sequences = eval_sequences("tokens.h5", n_tokens, study="extreme")
        mean = mean_activation(ActivationShards(shards["eval"]))
        skips = study["activations"]["skip_first_position"]
        loaded = LanguageModel("model", model["hook"], model["dtype"])
        rows = cross_entropies(loaded, sequences, known, mean, skip_first_position=skips)
        assert all(row["ce_tokens"] > 0 for row in rows)
    saes = list(known.values())
    sizes = {key: study["similarity"][key] for key in ("floor", "full_matrix_mb")}
    write_similarity(*saes, "similarity.h5", **sizes, **ORIGIN)
    found = load_similarity("similarity.h5")
    orders, _ = insertion_orders(EvalPair.in_memory(*saes, *tokens), found)
    bootstrap = {key: stitching[key] for key in ("bootstrap_samples", "confidence", "seed")}
    many = {"n_orders": stitching["random_orders"], "seed": stitching["seed"]}
    with open_pair(pair_files) as pair:
        curve, insertions = threshold_curve(pair, found), insertion_effects(pair, found)
        theta = stitching["threshold"]
        theta = curve.best_from(found.floor) if theta == "auto" else theta
        subgraphs = connected_subgraphs(found, theta)
        swaps, roc = swap_effects(pair, subgraphs), novelty_roc(insertions, **bootstrap)
        walk(pair, orders["greedy"], "greedy")
        if stitching["transition"]:
            assert transition(pair, subgraphs).mse[-1] >= 0
            transition_orders(pair, subgraphs, **many, label="orders")
        inserted = random_insertion(pair, subgraphs.novel, **many, label="random")
    parts = {"insertions": insertions, "subgraphs": subgraphs, "swaps": swaps}
    two = (names[0], names[1])
    assert len(pairs([pair_row(*two, **parts, curve=curve, roc=roc)])) == 1
    curves = figure13_table({two: roc}, {two: theta})
    drawn = figure13({two: roc}, {two: theta})
    figure15(figure15_table({two: inserted}, {two: theta}))
    if study["figures"]["dpi"] != CONFIG["figures"]["dpi"]:
        save_figure(drawn, curves, "a", dpi=study["figures"]["dpi"])


# The keys


def numbers(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every key that may hold a number, with its schema; entries of lists as CONFIG has them."""
    if "$ref" in schema:
        target: Any = SCHEMA
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        schema = {**target, **schema}
    kinds = schema.get("type", [])
    if {"integer", "number"} & {*([kinds] if isinstance(kinds, str) else kinds)}:
        yield path, schema
    for key, sub in schema.get("properties", {}).items():
        yield from numbers(sub, f"{path}.{key}".lstrip("."))
    if isinstance(sub := schema.get("else"), dict):
        yield from numbers({key: sub[key] for key in sub if key != "items"}, path)
    if "items" in schema and path != "saes":
        yield from numbers(schema["items"], f"{path}.0")


#: Not numbers but names, or as many as the machine has.
LEFT_OUT = (".name", ".base", ".sae", ".threads", "transition.0")
#: Where the greatest number that the schema allows would only take long, what is tried for it.
LARGE = {"steps": 40, "bootstrap_samples": 300, "random_orders": 20, "d_sae": 300, "dpi": 150}
LARGE |= {"n_layers": 4, "d_model": 64, "n_heads": 4, "context": 512, "max_documents": 10**6}
NUMBERS = {
    path: sub
    for path, sub in (
        *numbers(SCHEMA),
        ("saes.1.d_sae", SCHEMA["properties"]["saes"]["items"]["properties"]["d_sae"]),
        *numbers(SCHEMA["$defs"]["random-model"], "sources.small"),
    )
    if path and not path.endswith(LEFT_OUT)
}


def extremes(path: str, schema: dict[str, Any]) -> Iterator[int | float]:
    whole = "integer" in schema["type"]
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    if low is not None:
        yield low if "minimum" in schema else float(np.nextafter(low, np.inf)) + 1e-9
    high = schema.get("maximum", schema.get("exclusiveMaximum", 10**9 if whole else 1e9))
    high = high if "exclusiveMaximum" not in schema else high - 1e-9
    yield LARGE.get(path.rpartition(".")[2], high)


CASES = [(path, value) for path, sub in NUMBERS.items() for value in extremes(path, sub)]


@pytest.mark.slow
def test_all_sections_have_their_numbers_tried():
    sections = {path.partition(".")[0] for path in NUMBERS}
    assert sections >= set(SCHEMA["properties"]) - {"study", "cache", "registry", "paper", "model"}
    assert {"training.betas.0", "stitching.threshold", "stitched.0.insert.0.n"} <= set(NUMBERS)
    assert len(CASES) > 90


#: What no config can tell: how much text there is, and whether a training stays finite.
UNTOLD = {
    ("tokens.eval_fraction", 1 - 1e-9): "16 tokens a batch, but the training shards hold only 14",
    ("training.batch_size", 10**9): "tokens a batch, but the training shards hold only",
    ("training.lr", 1e9): "is not finite",
}


@pytest.mark.slow
@pytest.mark.parametrize(("path", "value"), CASES)
def test_an_extreme_is_refused_at_once_or_the_study_runs(path, value, done):
    torch.manual_seed(0)
    try:
        study = load_study(changed(path, value), SCHEMA_PATH, ".")
    except StudyError as error:
        assert "\n" not in str(error) and ": " in str(error)
        return
    try:
        run(study, done[1])
    except StudyError as error:
        assert (path, value) in UNTOLD and UNTOLD[path, value] in str(error), str(error)


@pytest.mark.parametrize("threshold", ["auto", 0.9, 1])
@pytest.mark.parametrize("floor", [-1, 0.4, 0.89])
def test_any_threshold_from_the_floor_on(threshold, floor, done):
    config = changed("similarity.floor", floor)
    config["stitching"]["threshold"] = threshold
    run(load_study(config, SCHEMA_PATH, "."), done[1])
