"""Calls of the library as the scripts of the rules make them, on the files of a study."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from helpers.interrupted_training import small_config
from helpers.shards import HOOK, MODEL
from helpers.sound_study import CONTEXT, D_MODEL, ORIGIN, opened
from helpers.spoiling import write
from sae_stitching.activations.cache import cache_shard
from sae_stitching.activations.language_model import LanguageModel
from sae_stitching.activations.shards import ActivationShards
from sae_stitching.base.record import write_record
from sae_stitching.formats import find_local
from sae_stitching.formats.agreement import Activations
from sae_stitching.formats.pretrained import fitted, read_files
from sae_stitching.matching.decoder_similarity import (
    load_similarity,
)
from sae_stitching.matching.subgraphs import connected_subgraphs, load_subgraphs
from sae_stitching.saes.encoding import encode_shards, open_codes
from sae_stitching.saes.evaluation import evaluate
from sae_stitching.saes.sae import read_sae, save_sae
from sae_stitching.saes.training import Trainer
from sae_stitching.stitching.insertions import insertion_effects, load_insertions
from sae_stitching.stitching.recipe import stitch_recipe
from sae_stitching.stitching.roc import novelty_roc
from sae_stitching.stitching.stitched import save_stitched
from sae_stitching.stitching.swaps import swap_effects
from sae_stitching.stitching.transitions import transition
from sae_stitching.text.documents import read_documents
from sae_stitching.text.tokens import write_tokens
from safetensors.torch import save_file


def text(content: bytes | str | None = None, *, model: str = "gpt2", **options: Any) -> None:
    """Rule tokenise, on one file."""
    if content is not None:
        write("a.txt", content)
    spec = {"source": "files", "files": ["a.txt"], "separator": None, **options}
    sizes = {"name": "gpt2", "context": CONTEXT, "eval_fraction": 0.5}
    write_tokens(read_documents(spec), model, "out.h5", **sizes, **ORIGIN)


def dataset(path: str, **options: Any) -> None:
    spec = {"path": path, "name": None, "split": "train", "column": "text", "revision": None}
    text(source="dataset", dataset={**spec, **options})


def dump(content: bytes) -> None:
    write("a.bz2", content)
    documents = read_documents({"source": "w"}, {"kind": "mediawiki-dump"}, Path("a.bz2"))
    write_tokens(documents, "gpt2", "out.h5", name="gpt2", context=CONTEXT, eval_fraction=0.5,
                 **ORIGIN)  # fmt: skip


def cache(model: str = "gpt2", hook: str = HOOK, dtype: str = "float16", **options: Any) -> None:
    """Rule cache_activations."""
    center = options.pop("center", False)
    loaded = LanguageModel(model, hook, "float32", center_writing_weights=center)
    settings = {"model_name": MODEL, "batch_size": 2, "skip_first_position": True, **options}
    n_shards = settings.pop("n_shards", 1)
    cache_shard("tokens.h5", "train", 0, n_shards, loaded, "out.h5", dtype=dtype, **settings,
                **ORIGIN)  # fmt: skip


def train(architecture: str = "topk", **changes: Any) -> None:
    """Rule train_sae."""
    config = {"steps": 3, "batch_size": 16, "shuffle_buffer": 32, "d_sae": 12, **changes}
    shards = ActivationShards(["train.h5"], study="test")
    Trainer(small_config(architecture, **config), shards).train("train")


def encode(sae: str = "small") -> None:
    encode_shards(read_sae(f"{sae}.h5", study="test"), ["eval.h5"], "out.h5", **ORIGIN)


def measure() -> None:
    """Rule evaluate."""
    sae, shards = read_sae("small.h5"), ActivationShards(["eval.h5"], study="test")
    with open_codes("codes_small.h5", sae, study="test") as codes:
        evaluate(sae, shards, codes)


def insert(**changes: str) -> None:
    """Rule insertions."""
    with opened(**changes) as pair:
        saes = {"small": pair.small, "large": pair.large}
        found = load_similarity("similarity.h5", study="test", **saes)
        write_record(insertion_effects(pair, found), "out.h5", **ORIGIN)


def group(threshold: float = 0.5) -> None:
    """Rule subgraphs."""
    found = connected_subgraphs(load_similarity("similarity.h5", study="test"), threshold)
    write_record(found, "out.h5", **ORIGIN)


def stitch(**parts: dict[str, Any]) -> None:
    """Rule stitch_sae."""
    entry = {"threshold": None, "n": None, "components": "all"}
    asked = {
        kind: [{**entry, **parts[kind]}] if kind in parts else [] for kind in ("swap", "insert")
    }
    saes = {name: read_sae(f"{name}.h5", study="test") for name in ("small", "large")}
    tokens = ActivationShards(["train.h5"], study="test").first(30)
    stitched = stitch_recipe({"name": "it", "base": "small", **asked}, saes, tokens)
    save_stitched(stitched, "out.h5", **ORIGIN)


def swap() -> None:
    with opened() as pair:
        swap_effects(pair, load_subgraphs("subgraphs.h5", study="test"))


def step() -> None:
    """Rule transition_step."""
    with opened() as pair:
        transition(pair, load_subgraphs("subgraphs.h5", study="test"))


def classify() -> None:
    """Rule roc."""
    found = load_insertions("insertions.h5", study="test")
    sizes = {"bootstrap_samples": 5, "confidence": 0.9, "seed": 0}
    novelty_roc(found, **sizes)


def pretrained(
    kind: str,
    change: Callable[[], Any] = lambda: None,
    d_sae: int = 12,
    d_model: int = D_MODEL,
    **told: Any,
) -> None:
    """Rule import_sae, of a sound SAE that `change` spoils."""
    shapes = {"W_enc": (D_MODEL, 12), "W_dec": (12, D_MODEL), "b_enc": (12,), "b_dec": (D_MODEL,)}
    tensors = {name: torch.ones(shape) for name, shape in shapes.items()}
    if kind == "saelens":
        save_file(tensors, "sae_weights.safetensors")
        settings = {"d_in": D_MODEL, "d_sae": 12, "architecture": "standard"}
        metadata = {"sae_lens_version": "6.0.0", "hook_name": HOOK, "model_name": MODEL}
        write("cfg.json", json.dumps({**settings, "metadata": metadata}))
    elif kind == "gemma-scope":
        np.savez("params.npz", **{k: v.numpy() for k, v in tensors.items()}, threshold=np.ones(12))
    elif kind == "dictionary-learning":
        names = {"encoder.weight": tensors["W_dec"], "decoder.weight": tensors["W_enc"]}
        torch.save({**names, "encoder.bias": torch.ones(12), "bias": torch.ones(D_MODEL)}, "ae.pt")
        trainer = {"dict_class": "AutoEncoder", "activation_dim": D_MODEL, "dict_size": 12}
        write("config.json", json.dumps({"trainer": trainer}))
    elif kind == "sparsify":
        names = {"encoder.weight": tensors["W_dec"], "encoder.bias": tensors["b_enc"]}
        save_file({**names, "W_dec": tensors["W_dec"].clone(), "b_dec": tensors["b_dec"]},
                  "sae.safetensors")  # fmt: skip
        write("cfg.json", json.dumps({"d_in": D_MODEL, "num_latents": 12, "k": 3}))
    change()
    study = Activations(**{"hook": HOOK, "model": MODEL, "published": False, **told})
    sae, said = read_files(find_local("."))
    sizes = {"d_sae": d_sae, "d_model": d_model}
    save_sae(fitted(sae, said, "12", study=study, **sizes), "out.h5", **ORIGIN)
