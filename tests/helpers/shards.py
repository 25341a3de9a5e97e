"""Activation shards as `activations.cache_shard` writes them, from arrays."""

from pathlib import Path

import numpy as np
import torch
from sae_stitching.activations.shard_file import Shard
from sae_stitching.activations.shards import ActivationShards, create_activations
from sae_stitching.base.record import create_record
from torch import Tensor

HOOK, MODEL, STUDY = "blocks.1.hook_resid_pre", "tiny", "test"


def write_shard(
    path, activations, sequence, *, dtype="float32", provenance=None, **attributes
) -> Path:
    """Write one shard: the rows `activations` (token, d_model), each of its `sequence`."""
    activations = np.asarray(activations, dtype=dtype)
    sequence = np.asarray(sequence, dtype=np.int32)
    position = np.zeros(len(sequence), dtype=np.int32)
    for s in np.unique(sequence):
        position[sequence == s] = np.arange((sequence == s).sum()) + 1
    with create_record(Shard, path, study=STUDY, provenance=provenance or {}) as file:
        create_activations(file, *activations.shape, dtype)[:] = activations
        file["sequence"], file["position"] = sequence, position
        origin = {"hook": HOOK, "model": MODEL, "d_model": activations.shape[1]}
        place = {"split": "train", "shard": 0, "n_shards": 1, "context": 16}
        file.attrs.update({**origin, **place, **attributes})
    return Path(path)


def write_shards(
    folder: Path, x: Tensor, lengths: list[int], *, context: int = 16
) -> ActivationShards:
    """Cut the tokens `x` into shards of these lengths, with sequences of `context` tokens."""
    paths, first, sequences = [], 0, 0
    for number, length in enumerate(lengths):
        sequence = np.arange(length) // context
        path = folder / f"{number}.h5"
        paths.append(write_shard(path, x[first : first + length].numpy(), sequence + sequences))
        first, sequences = first + length, sequences + -(-length // context)
    assert first == len(x)
    return ActivationShards(paths)


def counting(n_tokens: int, d_model: int = 3) -> Tensor:
    """Activations whose first value is the number of the token."""
    return torch.arange(n_tokens, dtype=torch.float32)[:, None] + torch.arange(d_model) / 8
