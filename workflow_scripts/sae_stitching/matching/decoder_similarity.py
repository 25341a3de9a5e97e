"""Cosine similarity between the decoder directions of two dictionaries (Eq. 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_stitching.base import arrays
from sae_stitching.base.errors import StudyError
from sae_stitching.base.record import loader, record, stored, write_record

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float32, Int32
    from torch import Tensor

    from sae_stitching.saes.sae import SAE, Decoder

# Latents of either dictionary in one block of the product: 16 MiB in float32, which a large cache
# still holds when the maxima are taken.
_BLOCK = 2048

_SIDES = {"small": "smaller", "large": "larger"}


@record("similarity", "similarity/<pair>.h5")
class Similarity:
    """Greatest cosines both ways, and all pairs of latents at or above a floor.

    A latent whose decoder direction is zero has cosine 0 to all. Of equal cosines the latent
    with the lowest number is the argmax.
    """

    floor: float = stored(kw_only=True)
    """Cosine from which on a pair is kept as an edge."""
    large_fingerprint: str = stored(kw_only=True, default="")
    """SHA-256 of the larger SAE, empty where only decoder directions were compared."""
    small_fingerprint: str = stored(kw_only=True, default="")
    """SHA-256 of the smaller SAE."""
    max_cosine_large: Float32[np.ndarray, " d_large"]
    """Greatest cosine of each latent of the larger SAE to any of the smaller."""
    argmax_large: Int32[np.ndarray, " d_large"]
    """The latent of the smaller SAE that has it."""
    edge_large: Int32[np.ndarray, " edge"] = stored(name="edges/large")
    """Latents of the larger SAE in the pairs with cosine ≥ floor, ascending."""
    max_cosine_small: Float32[np.ndarray, " d_small"]
    """Greatest cosine of each latent of the smaller SAE to any of the larger."""
    argmax_small: Int32[np.ndarray, " d_small"]
    """The latent of the larger SAE that has it."""
    edge_small: Int32[np.ndarray, " edge"] = stored(name="edges/small")
    """Latents of the smaller SAE in these pairs, ascending for each of the larger."""
    edge_cosine: Float32[np.ndarray, " edge"] = stored(name="edges/cosine")
    """Cosines of these pairs."""
    cosine: Float32[np.ndarray, "d_large d_small"] | None = None
    """The whole matrix, where it was asked for."""

    def check_sizes(self, d_small: int, d_large: int) -> None:
        """Raise StudyError unless these are the numbers of latents of the two SAEs."""
        found = len(self.max_cosine_small), len(self.max_cosine_large)
        if found != (d_small, d_large):
            raise StudyError(
                f"similarity: of SAEs of {found[0]} and {found[1]} latents, but these have "
                f"{d_small} and {d_large}; delete the similarity and run again"
            )


def unit_rows(W_dec: Float[Tensor, "d_sae d_model"]) -> Float[Tensor, "d_sae d_model"]:
    """Decoder directions at unit norm; zero rows stay zero."""
    import torch

    norms = torch.linalg.vector_norm(W_dec, dim=1, keepdim=True)
    return W_dec / torch.where(norms > 0, norms, 1.0)


def similarity(
    W_small: Float[Tensor, "d_small d_model"],
    W_large: Float[Tensor, "d_large d_model"],
    *,
    floor: float,
    keep: bool = False,
) -> Similarity:
    """Compare all decoder directions of two dictionaries, block by block (Eq. 6).

    Parameters
    ----------
    W_small, W_large : (d_small, d_model), (d_large, d_model)
        Decoders, one row a latent, of any norm.
    floor
        Cosine from which on a pair of latents is kept as an edge: the least θ that
        `connected_subgraphs` can use.
    keep
        Keep the whole matrix of cosines too.

    Raises
    ------
    StudyError
        If the two dictionaries are not of one d_model.

    Examples
    --------
    >>> import torch
    >>> from sae_stitching import similarity
    >>> W_large = torch.tensor([[1.0, 1.0, 1.0, 1.0], [0.0, 2.0, 0.0, 0.0]])
    >>> found = similarity(torch.eye(4)[:1], W_large, floor=0.5)
    >>> found.max_cosine_large.tolist(), found.argmax_small.tolist()
    ([0.5, 0.0], [0])
    >>> list(zip(found.edge_small.tolist(), found.edge_large.tolist()))
    [(0, 0)]
    """
    import torch

    W_small = arrays.floats("W_small", W_small, "d_small", "d_model")
    W_large = arrays.floats("W_large", W_large, "d_large", "d_model")
    W_large = W_large.to(dtype := torch.promote_types(W_small.dtype, W_large.dtype))
    W_small = W_small.to(dtype)
    if W_small.shape[1:] != W_large.shape[1:]:
        raise StudyError(
            f"W_dec of the smaller SAE has shape {tuple(W_small.shape)}, of the larger "
            f"{tuple(W_large.shape)}; SAEs of different d_model cannot be compared"
        )
    # Only the smaller dictionary is normalised as a whole; the larger one a block at a time.
    small = unit_rows(W_small)
    d_large, d_small = len(W_large), len(small)
    best_large = np.full(d_large, -np.inf, dtype=np.float32)
    best_small = np.full(d_small, -np.inf, dtype=np.float32)
    argmax_large = np.zeros(d_large, dtype=np.int32)
    argmax_small = np.zeros(d_small, dtype=np.int32)
    matrix = np.empty((d_large, d_small), dtype=np.float32) if keep else None
    edges = []
    # One product is written over the last: fresh memory for each costs as much as its maxima.
    buffer = torch.empty(min(_BLOCK, d_large) * min(_BLOCK, d_small), dtype=small.dtype)
    for first in range(0, d_large, _BLOCK):
        rows = slice(first, min(first + _BLOCK, d_large))
        large = unit_rows(W_large[rows])
        found = []
        for second in range(0, d_small, _BLOCK):
            columns = slice(second, min(second + _BLOCK, d_small))
            of_small = small[columns]
            product = buffer[: len(large) * len(of_small)].view(len(large), len(of_small))
            torch.mm(large, of_small.T, out=product)
            block = product.float().numpy()
            greatest = _keep_greatest(best_large[rows], argmax_large[rows], block, 1, second)
            _keep_greatest(best_small[columns], argmax_small[columns], block, 0, first)
            having = np.flatnonzero(greatest >= floor)
            line, j = _where(_lines(block, having, 1) >= floor)
            i = having[line]
            found.append(((i + first).astype(np.int32), j + second, block[i, j]))
            if matrix is not None:
                matrix[rows, columns] = block
        edges.append(_by_row(found))
    edge_large, edge_small, cosine = (np.concatenate(part) for part in zip(*edges, strict=True))
    return Similarity(
        floor=floor,
        max_cosine_large=best_large,
        argmax_large=argmax_large,
        edge_large=edge_large,
        max_cosine_small=best_small,
        argmax_small=argmax_small,
        edge_small=edge_small,
        edge_cosine=cosine,
        cosine=matrix,
    )


def _keep_greatest(
    best: np.ndarray, argmax: np.ndarray, block: np.ndarray, axis: int, offset: int
) -> np.ndarray:
    # NumPy's argmax down the columns takes as long as the product itself. The maxima are quick,
    # and so is finding what equals them, in the few lines where they are greater than before.
    value = block.max(axis=axis)
    greater = np.flatnonzero(value > best)
    found = _where(_lines(block, greater, axis) == np.expand_dims(value[greater], axis))
    # In reverse, so that of several assignments the lowest number is the last, and stays. Only
    # a strictly greater cosine of a later block replaces it.
    line, place = found[1 - axis][::-1], found[axis][::-1]
    argmax[greater[line]] = place + offset
    best[greater] = value[greater]
    return value


def _lines(block: np.ndarray, numbers: np.ndarray, axis: int) -> np.ndarray:
    # Some rows (axis 1) or columns (axis 0) of a block; all of them without a copy.
    whole = len(numbers) == block.shape[1 - axis]
    return block if whole else np.take(block, numbers, axis=1 - axis)


def _where(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # NumPy's nonzero in two dimensions takes ten times as long as in one.
    flat = np.flatnonzero(mask)
    rows, columns = np.divmod(flat, mask.shape[1])
    return rows.astype(np.int32), columns.astype(np.int32)


def _by_row(found: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    # The edges of a block of rows come ordered within each block of columns.
    row, column, cosine = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.argsort(row, kind="stable")
    return row[order], column[order], cosine[order]


def write_similarity(
    small: SAE | Decoder,
    large: SAE | Decoder,
    path: str | Path,
    *,
    floor: float,
    full_matrix_mb: float,
    study: str,
    provenance: Mapping[str, Any],
) -> None:
    """Write ``similarity/<small>--<large>.h5``.

    The whole matrix is kept where it takes at most `full_matrix_mb` megabytes.
    """
    from sae_stitching.saes.sae import fingerprint

    keep = 4 * large.d_sae * small.d_sae <= full_matrix_mb * 1e6
    result = replace(
        similarity(small.W_dec, large.W_dec, floor=floor, keep=keep),
        large_fingerprint=fingerprint(large),
        small_fingerprint=fingerprint(small),
    )
    write_record(result, path, study=study, provenance=provenance)


_load = loader("load_similarity", Similarity)


def load_similarity(
    path: str | Path,
    *,
    study: str | None = None,
    small: SAE | Decoder | None = None,
    large: SAE | Decoder | None = None,
) -> Similarity:
    """Read ``similarity/<small>--<large>.h5``.

    Parameters
    ----------
    path
        File of a study.
    study
        Study that it must belong to; any by default.
    small, large
        SAEs that it must be the similarity of; any by default.

    Raises
    ------
    StudyError
        If the file is missing, damaged, of another format, of another study or of other SAEs.
    """
    found = _load(path, study=study)
    for side, sae in (("small", small), ("large", large)):
        if sae is None:
            continue
        from sae_stitching.saes.sae import fingerprint

        if getattr(found, f"{side}_fingerprint") != fingerprint(sae):
            raise StudyError(
                f"{path}: the {_SIDES[side]} SAE was another one; delete it and run again"
            )
    return found


def novel_latents(
    max_cosine: Float[np.ndarray, " d_large"], threshold: float
) -> Bool[np.ndarray, " d_large"]:
    """Which latents are novel: max decoder cosine < θ (Eq. 6); the others are reconstruction.

    Parameters
    ----------
    max_cosine : (d_large) float32
        Of each latent to the other dictionary, e.g. `Similarity.max_cosine_large`.
    threshold
        θ, compared at the precision of the cosines, as the edges are.

    Examples
    --------
    >>> import numpy as np
    >>> from sae_stitching import novel_latents
    >>> novel_latents(np.float32([0.2, 0.7, 0.9]), 0.7).tolist()
    [True, False, False]
    """
    return arrays.floats("max_cosine", max_cosine).numpy() < np.float32(threshold)
