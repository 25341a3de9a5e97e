"""Cosine between the activations of two latents over the eval tokens (Figure 8)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_stitching.base.store import read_hdf5, write_hdf5
from sae_stitching.matching.decoder_similarity import Similarity

# torch takes seconds to load, and figures and tables only read what is stored.
if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from sae_stitching.saes.encoding import StoredCodes
    from sae_stitching.sparse.codes import SparseCodes


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

    large: Int[np.ndarray, " pair"]
    small: Int[np.ndarray, " pair"]
    decoder_cosine: Float[np.ndarray, " pair"]
    activation_cosine: Float[np.ndarray, " pair"]


def activation_similarity(
    codes_small: SparseCodes | StoredCodes,
    codes_large: SparseCodes | StoredCodes,
    similarity: Similarity,
) -> ActivationSimilarity:
    """Compare the activations of all pairs of latents that are edges of the similarity.

    Parameters
    ----------
    codes_small, codes_large
        Of both SAEs over the same tokens.
    similarity
        Of both decoders.
    """
    from sae_stitching.sparse.csr import to_csr

    i, j = similarity.edge_large.astype(np.int64), similarity.edge_small.astype(np.int64)
    products = np.zeros(len(i))
    squares = [np.zeros(codes_small.d_sae), np.zeros(codes_large.d_sae)]
    for pair in zip(codes_small.blocks(), codes_large.blocks(), strict=True):
        small, large = (to_csr(codes) for codes in pair)
        for square, block in zip(squares, (small, large), strict=True):
            square += block.power(2).sum(axis=0)
        products += (large.T @ small).tocsr()[i, j]
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = products / np.sqrt(squares[1][i] * squares[0][j])
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
    """Read ``similarity/activations/<small>--<large>.h5``.

    Parameters
    ----------
    path
        File of a study.
    study
        Study that it must belong to; any by default.

    Raises
    ------
    StudyError
        If the file is missing, damaged, of another format or of another study.
    """
    names = ("large", "small", "decoder_cosine", "activation_cosine")
    with read_hdf5(path, format="activation_similarity", study=study) as file:
        return ActivationSimilarity(*(file[name][...] for name in names))
