"""Cosine between the activations of two latents over the eval tokens (Figure 8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_stitching.similarity import Similarity
from sae_stitching.store import read_hdf5, write_hdf5

# torch takes seconds to load, and figures and tables only read what is stored.
if TYPE_CHECKING:
    from sae_stitching.codes import StoredCodes


@dataclass(frozen=True)
class ActivationSimilarity:
    """Decoder cosine and activation cosine of pairs of latents, one of each SAE.

    Attributes
    ----------
    large, small : (pair) int32
        The latents.
    decoder_cosine : (pair) float32
    activation_cosine : (pair) float64
        Σ_t f1_ti f0_tj / (‖f1_i‖ ‖f0_j‖) over the eval tokens; NaN where one never fires.
    """

    large: np.ndarray
    small: np.ndarray
    decoder_cosine: np.ndarray
    activation_cosine: np.ndarray


def activation_similarity(
    codes_large: StoredCodes, codes_small: StoredCodes, similarity: Similarity
) -> ActivationSimilarity:
    """Compare the activations of all pairs of latents that are edges of the similarity."""
    from sae_stitching.csr import to_csr

    i, j = similarity.edge_large.astype(np.int64), similarity.edge_small.astype(np.int64)
    products = np.zeros(len(i))
    squares = [np.zeros(codes_large.d_sae), np.zeros(codes_small.d_sae)]
    for pair in zip(codes_large.blocks(), codes_small.blocks(), strict=True):
        blocks = [to_csr(codes) for codes in pair]
        for square, block in zip(squares, blocks, strict=True):
            square += block.power(2).sum(axis=0)
        products += (blocks[0].T @ blocks[1]).tocsr()[i, j]
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = products / np.sqrt(squares[0][i] * squares[1][j])
    return ActivationSimilarity(
        similarity.edge_large, similarity.edge_small, similarity.edge_cosine, cosine
    )


def write_activation_similarity(
    found: ActivationSimilarity, path: str | Path, *, study: str, provenance: Mapping[str, Any]
) -> None:
    """Write ``similarity/activations/<small>--<large>.h5``."""
    with write_hdf5(
        path, format="activation_similarity", study=study, provenance=provenance
    ) as file:
        for name, values in vars(found).items():
            file[name] = values


def load_activation_similarity(
    path: str | Path, *, study: str | None = None
) -> ActivationSimilarity:
    """Read ``similarity/activations/<small>--<large>.h5``."""
    names = ("large", "small", "decoder_cosine", "activation_cosine")
    with read_hdf5(path, format="activation_similarity", study=study) as file:
        return ActivationSimilarity(*(file[name][...] for name in names))
