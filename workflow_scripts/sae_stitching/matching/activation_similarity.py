"""Cosine between the activations of two latents over the eval tokens (Figure 8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sae_stitching.base.record import loader, record
from sae_stitching.matching.decoder_similarity import Similarity

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64, Int32

    from sae_stitching.saes.encoding import StoredCodes
    from sae_stitching.sparse.codes import SparseCodes


@record("activation_similarity", "similarity/activations/<pair>.h5")
class ActivationSimilarity:
    """Decoder cosine and activation cosine of pairs of latents, one of each SAE."""

    large: Int32[np.ndarray, " edge"]
    """Latents of the larger SAE."""
    small: Int32[np.ndarray, " edge"]
    """Latents of the smaller SAE."""
    decoder_cosine: Float32[np.ndarray, " edge"]
    """Of their decoder directions."""
    activation_cosine: Float64[np.ndarray, " edge"]
    """Σ_t f1_ti f0_tj / (‖f1_i‖ ‖f0_j‖) over the eval tokens; NaN where one never fires."""


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


load_activation_similarity = loader("load_activation_similarity", ActivationSimilarity)
