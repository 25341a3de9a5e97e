"""Factors that other libraries apply beside an SAE's weights, brought into them."""

from typing import Any

import torch
from torch import Tensor


def fold_decoder_norm(tensors: dict[str, Any], W_dec: Tensor) -> Tensor:
    """Give latents the scale of unit decoder directions, where they are chosen by f_i ‖W_dec_i‖.

    Parameters
    ----------
    tensors
        ``W_enc`` and ``b_enc``, which are replaced.
    W_dec : (d_sae, d_model)

    Returns
    -------
    W_dec : (d_sae, d_model)
    """
    norms = torch.linalg.vector_norm(W_dec, dim=1)
    tensors["W_enc"], tensors["b_enc"] = tensors["W_enc"] * norms, tensors["b_enc"] * norms
    # A latent without a direction is never chosen before another and adds nothing: it stays zero.
    return W_dec / torch.where(norms > 0, norms, 1.0)[:, None]
