"""Top activating passages: where in the eval text each latent of an SAE is most active."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sae_stitching.activations.shard_file import Shard
from sae_stitching.base.record import loader, open_record, record, stored

if TYPE_CHECKING:
    from jaxtyping import Float32, Int, Int32, Int64

    from sae_stitching.saes.encoding import StoredCodes

# Tokens whose codes are in memory at once.
_BLOCK_TOKENS = 1 << 15


@record("passages", "passages/<sae>.h5")
class Passages:
    """The most active tokens of every latent, the strongest first, one a sequence at most."""

    sequence: Int32[np.ndarray, "d_sae passage"]
    """Sequence of the token in the eval split; −1 where the latent is active in fewer sequences."""
    position: Int32[np.ndarray, "d_sae passage"]
    """Place of the token in its sequence; −1 where there is none."""
    activation: Float32[np.ndarray, "d_sae passage"]
    """Activation on that token; 0 where there is none."""
    n_active: Int64[np.ndarray, " d_sae"] = stored(unit="tokens")
    """Eval tokens on which the latent is active."""
    # Mostly zeros.
    window: Float32[np.ndarray, "d_sae passage window"] = stored(compression="gzip")
    """Activations on the tokens around it, which is at `before`; 0 beyond the sequence."""
    n_tokens: int = stored(unit="tokens")
    """Eval tokens."""
    before: int = stored(unit="tokens")
    """Tokens of the window that come before the one that it is about."""


load_passages = loader("load_passages", Passages)


def token_places(
    paths: Sequence[str | Path], *, study: str | None = None
) -> tuple[Int[np.ndarray, " token"], Int[np.ndarray, " token"]]:
    """Sequence and position of every eval token, from the activation shards."""
    sequence, position = [], []
    for path in paths:
        with open_record(Shard, path, study=study) as shard:
            sequence.append(shard.sequence[...])
            position.append(shard.position[...])
    return np.concatenate(sequence), np.concatenate(position)


def top_passages(
    codes: StoredCodes,
    sequence: Int[np.ndarray, " token"],
    position: Int[np.ndarray, " token"],
    *,
    n_passages: int,
    before: int,
    after: int,
) -> Passages:
    """Find the tokens on which each latent is most active.

    Of a sequence only the token with the greatest activation counts, so that the passages differ.
    Of equal activations the earlier token wins.

    Parameters
    ----------
    codes
        Codes of the eval tokens.
    sequence, position : (token)
        Where each token stands; tokens of a sequence are consecutive.
    n_passages
        Passages of a latent at most.
    before, after
        Tokens of the window on either side.
    """
    n_active = np.zeros(codes.d_sae, dtype=np.int64)
    latent = np.empty(0, dtype=np.int64)
    token = np.empty(0, dtype=np.int64)
    value = np.empty(0, dtype=np.float32)
    for start, end in _whole_sequences(sequence):
        here, row, activation = _entries(codes, start, end)
        n_active += np.bincount(here, minlength=codes.d_sae)
        row = row + start
        order = np.lexsort((row, -activation, sequence[row], here))
        here, row, activation = here[order], row[order], activation[order]
        best = _first_of_each(here, sequence[row])
        latent = np.concatenate([latent, here[best]])
        token = np.concatenate([token, row[best]])
        value = np.concatenate([value, activation[best]])
        order = np.lexsort((token, -value, latent))
        order = order[_rank(latent[order]) < n_passages]
        latent, token, value = latent[order], token[order], value[order]

    rank, shape = _rank(latent), (codes.d_sae, n_passages)
    places = {"sequence": sequence, "position": position}
    found = {name: np.full(shape, -1, dtype=np.int32) for name in places}
    for name, place in places.items():
        found[name][latent, rank] = place[token]
    strength = np.zeros(shape, dtype=np.float32)
    strength[latent, rank] = value
    window = np.zeros((*shape, before + 1 + after), dtype=np.float32)
    window[latent, rank] = _windows(codes, sequence, latent, token, before, after)
    return Passages(
        found["sequence"],
        found["position"],
        strength,
        n_active,
        window,
        len(sequence),
        before,
    )


def _whole_sequences(sequence: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of about `_BLOCK_TOKENS` tokens that end where a sequence ends."""
    ends = np.append(np.flatnonzero(np.diff(sequence)) + 1, len(sequence))
    start = 0
    while start < len(sequence):
        # At least one whole sequence, however long.
        last = np.searchsorted(ends, start + _BLOCK_TOKENS, side="right") - 1
        end = int(ends[max(last, np.searchsorted(ends, start, side="right"))])
        yield start, end
        start = end


def _entries(codes: StoredCodes, start: int, end: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Latent, token (from 0) and activation of all active latents of a range of tokens."""
    block = codes.tokens(start, end)
    counts = np.diff(block.pattern.indptr.numpy())
    return (
        block.pattern.indices.numpy(),
        np.repeat(np.arange(end - start), counts),
        block.values.numpy(),
    )


def _first_of_each(*keys: np.ndarray) -> np.ndarray:
    """Positions in sorted `keys` at which a new combination of them starts."""
    new = np.ones(len(keys[0]), dtype=bool)
    if len(new) > 1:
        new[1:] = np.any([key[1:] != key[:-1] for key in keys], axis=0)
    return np.flatnonzero(new)


def _rank(key: np.ndarray) -> np.ndarray:
    """Number of each element among those of the same sorted key, from 0."""
    if not len(key):
        return np.empty(0, dtype=np.int64)
    first = _first_of_each(key)
    return np.arange(len(key)) - np.repeat(first, np.diff(np.append(first, len(key))))


def _windows(
    codes: StoredCodes,
    sequence: np.ndarray,
    latent: np.ndarray,
    token: np.ndarray,
    before: int,
    after: int,
) -> np.ndarray:
    """Activations of each passage's latent around its token, (passage, before + 1 + after)."""
    offsets = np.arange(-before, after + 1)
    window = np.zeros((len(token), len(offsets)), dtype=np.float32)
    for start, end in _whole_sequences(sequence):
        mine = np.flatnonzero((token >= start) & (token < end))
        here, row, activation = _entries(codes, start, end)
        # One number for (latent, token), so that a sorted search finds the entries.
        key = here.astype(np.int64) * (end - start) + row
        order = np.argsort(key)
        key, activation = key[order], activation[order]
        around = token[mine, None] - start + offsets
        inside = (around >= 0) & (around < end - start)
        inside &= sequence[np.where(inside, around, 0) + start] == sequence[token[mine], None]
        wanted = latent[mine, None] * (end - start) + around
        at = np.minimum(np.searchsorted(key, wanted), max(len(key) - 1, 0))
        if len(key):
            window[mine] = np.where(inside & (key[at] == wanted), activation[at], 0)
    return window
