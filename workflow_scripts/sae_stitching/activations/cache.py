"""Activations: what the language model computes at its hook, cached on disk in shards."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sae_stitching.activations.shard_file import Shard
from sae_stitching.activations.shards import create_activations
from sae_stitching.base.errors import StudyError
from sae_stitching.base.progress import Progress
from sae_stitching.base.record import create_record, open_record
from sae_stitching.text.token_file import Tokens

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)


class Model(Protocol):
    """What is needed of a language model; `LanguageModel` is one."""

    hook: str
    d_model: int

    def __call__(self, tokens: "torch.Tensor", /) -> "torch.Tensor":
        """Map tokens (sequence, context) to activations (sequence, context, d_model)."""
        ...


def shard_bounds(n_sequences: int, shard: int, n_shards: int) -> tuple[int, int]:
    """Compute which sequences a shard holds: from the first number up to, not with, the second.

    Shards are contiguous, in order, and differ by one sequence at most, the longer ones first
    (as `numpy.array_split`).
    """
    size, longer = divmod(n_sequences, n_shards)
    start = shard * size + min(shard, longer)
    return start, start + size + (shard < longer)


def cache_shard(
    tokens_path: str | Path,
    split: str,
    shard: int,
    n_shards: int,
    model: Model,
    path: str | Path,
    *,
    model_name: str,
    batch_size: int,
    dtype: str,
    skip_first_position: bool,
    study: str,
    provenance: Mapping[str, Any],
) -> None:
    """Run the model over one shard of a split and write activations/<split>/<shard>.h5.

    Rows are in the order of (sequence, position); `sequence` counts within the split, not the
    shard.

    Parameters
    ----------
    tokens_path
        corpus/tokens.h5.
    split
        ``"train"`` or ``"eval"``.
    shard, n_shards
        Number of the shard, from 0, and how many there are.
    model
        Maps tokens to activations.
    path
        Where the file ends up.
    model_name
        What the file calls the model.
    batch_size
        Sequences that go through the model at once.
    dtype
        ``"float16"`` or ``"float32"``, of the stored activations.
    skip_first_position
        Leave out position 0 (BOS), whose activations are unlike all others.
    study, provenance
        See `store.write_hdf5`.

    Raises
    ------
    StudyError
        If there are fewer sequences than shards, or if an activation is not finite or does not
        fit float16.
    """
    import torch

    first = int(skip_first_position)
    with open_record(Tokens, tokens_path, study=study) as corpus:
        tokens = getattr(corpus, split).tokens
        n_sequences, context = tokens.shape
        if n_shards > n_sequences:
            raise StudyError(
                f"activations.{split}_shards: {n_shards}, but the {split} split has only "
                f"{n_sequences} sequences; give {n_sequences} or less"
            )
        if context <= first:
            raise StudyError(f"tokens.context: {context} leaves no position to cache")
        start, stop = shard_bounds(n_sequences, shard, n_shards)
        per_sequence = context - first
        n_tokens = (stop - start) * per_sequence
        label = f"cache {split} {shard + 1}/{n_shards}"
        progress = Progress(n_tokens, label)
        with create_record(Shard, path, study=study, provenance=provenance) as file:
            attributes = {
                "hook": model.hook,
                "model": model_name,
                "d_model": model.d_model,
                "split": split,
                "shard": shard,
                "n_shards": n_shards,
                "context": context,
            }
            file.attrs.update(attributes)
            dataset = create_activations(file, n_tokens, model.d_model, dtype)
            positions = np.arange(first, context, dtype=np.int32)
            file["position"] = np.tile(positions, stop - start)
            file["sequence"] = np.repeat(np.arange(start, stop, dtype=np.int32), per_sequence)
            row = 0
            for begin in range(start, stop, batch_size):
                end = min(begin + batch_size, stop)
                batch = torch.from_numpy(tokens[begin:end].astype(np.int64))
                computed = model(batch)[:, first:]
                stored = computed.to(getattr(torch, dtype))
                if not bool(torch.isfinite(stored).all()):
                    raise StudyError(_not_finite(computed, stored, label, begin, first, model.hook))
                rows = stored.reshape(-1, model.d_model).cpu().numpy()
                dataset[row : row + len(rows)] = rows
                row += len(rows)
                progress.update(len(rows))


def _not_finite(
    computed: "torch.Tensor",
    stored: "torch.Tensor",
    label: str,
    begin: int,
    first: int,
    hook: str,
) -> str:
    """Say where the first value is that cannot be stored, and what to do."""
    import torch

    sequence, position, dimension = (~torch.isfinite(stored)).nonzero()[0].tolist()
    value = float(computed[sequence, position, dimension])
    where = f"{label}: {hook} at sequence {begin + sequence}, position {first + position}"
    if np.isfinite(value):
        return (
            f"{where} is {value:.4g}, too large for float16 (65504); set activations.dtype: float32"
        )
    return (
        f"{where} is {value}; the model computes no finite number there, try model.dtype: float32"
    )
