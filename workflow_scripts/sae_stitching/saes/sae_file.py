"""saes/<sae>.h5: the weights of an SAE as NumPy arrays, for which torch need not be loaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sae_stitching.base.record import loader, record

if TYPE_CHECKING:
    from jaxtyping import Float32, Int32, Shaped


@record("sae", "saes/<sae>.h5")
class StoredSAE:
    """The weights of an SAE, and what is needed to read them."""

    W_enc: Float32[np.ndarray, "d_model d_sae"]
    """Encoder."""
    W_dec: Float32[np.ndarray, "d_sae d_model"]
    """Decoder: row i is the direction of latent i."""
    b_enc: Float32[np.ndarray, " d_sae"]
    """Bias of the encoder."""
    b_dec: Float32[np.ndarray, " d_model"]
    """Bias of the decoder."""
    threshold: Float32[np.ndarray, " d_sae"] | None
    """Above it a latent is active; of batchtopk, jumprelu and gated."""
    architecture: str
    """relu, topk, batchtopk, jumprelu or gated."""
    apply_b_dec_to_input: bool
    """Whether `b_dec` is subtracted from the encoder's input."""
    hook: str
    """Hook of the language model that the activations are of."""
    model: str
    """The language model."""
    fingerprint: str
    """SHA-256 of settings and weights, by which codes and similarities name their SAE."""
    k: int | None
    """Active latents a token, for topk and batchtopk."""
    normalize: str | None = None
    """How it normalises each token, layer_norm or constant_norm_rescale, if it does."""
    source: Shaped[np.ndarray, " d_sae"] | None = None
    """Of a stitched SAE: the SAE that each latent comes from, in UTF-8."""
    latent: Int32[np.ndarray, " d_sae"] | None = None
    """Of a stitched SAE: the latent's number there."""


load_stored_sae = loader("load_stored_sae", StoredSAE)
