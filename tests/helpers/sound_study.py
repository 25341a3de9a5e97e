"""A sound study of a few files, to be spoiled."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from helpers.corpus import write_corpus
from helpers.oracle import random_sae
from helpers.shards import HOOK, MODEL, write_shard
from sae_stitching.base.record import write_record
from sae_stitching.matching.decoder_similarity import (
    load_similarity,
    write_similarity,
)
from sae_stitching.matching.subgraphs import connected_subgraphs
from sae_stitching.saes.encoding import encode_shards
from sae_stitching.saes.sae import read_sae, save_sae
from sae_stitching.stitching.insertions import insertion_effects
from sae_stitching.stitching.pairs import EvalPair, open_pair

D_MODEL, CONTEXT = 8, 16

SOURCE = {
    "architecture": "gpt2",
    "n_layers": 2,
    "d_model": D_MODEL,
    "n_heads": 2,
    "context": 32,
    "seed": 0,
}

ORIGIN: dict[str, Any] = {"study": "test", "provenance": {}}

LONG = "Some text that fills a sequence, and then some more. " * 3


def make_study() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, D_MODEL, generator=generator)
    for split, n in (("train", 40), ("eval", 20)):
        write_shard(f"{split}.h5", x[:n].numpy(), np.arange(n) // 5)
    for name, d_sae in (("small", 12), ("large", 20), ("other", 12)):
        sae = random_sae(generator, D_MODEL, d_sae, "relu", dtype=torch.float32)
        save_sae(replace(sae, hook=HOOK, model=MODEL), f"{name}.h5", **ORIGIN)
        encode_shards(read_sae(f"{name}.h5"), ["eval.h5"], f"codes_{name}.h5", **ORIGIN)
    compare("small", "large", "similarity.h5")
    found = connected_subgraphs(load_similarity("similarity.h5"), 0.5)
    write_record(found, "subgraphs.h5", **ORIGIN)
    with opened() as pair:
        found = insertion_effects(pair, load_similarity("similarity.h5"))
    write_record(found, "insertions.h5", **ORIGIN)
    write_corpus("tokens.h5", train=np.full((4, CONTEXT), 65))


def compare(small: str, large: str, path: str) -> None:
    saes = read_sae(f"{small}.h5"), read_sae(f"{large}.h5")
    write_similarity(*saes, path, floor=0.3, full_matrix_mb=1, **ORIGIN)


@contextmanager
def opened(**changes: str) -> Iterator[EvalPair]:
    files = {
        "small": "small.h5",
        "large": "large.h5",
        "codes_small": "codes_small.h5",
        "codes_large": "codes_large.h5",
        "activations": ["eval.h5"],
    }
    with open_pair(SimpleNamespace(**{**files, **changes}), study="test") as pair:
        yield pair
