"""Gated SAEs as other libraries store them: two biases and a scale on one encoder."""

import torch
from torch import Tensor

from sae_stitching.saes.architectures import Gated


def gated_encoder(W_enc: Tensor, b_gate: Tensor, b_mag: Tensor, r_mag: Tensor) -> dict[str, Tensor]:
    """Encoder, bias and threshold with which `SAE.encode` gives the same codes.

    Parameters
    ----------
    W_enc : (d_model, d_sae)
        Of the gate; that of the magnitudes is e^r_mag times it.
    b_gate, b_mag, r_mag : (d_sae)
    """
    p = {"W_enc_t": W_enc.T, "b_enc": b_gate, "b_mag": b_mag, "r_mag": r_mag}
    gated = Gated(k=0, bandwidth=0.0, decoder_norm_penalty=False)
    # In float64, since a threshold is a difference of two products.
    encoder = gated.inference({name: tensor.double() for name, tensor in p.items()}, scale=1.0)
    return {name: tensor.to(torch.float32).contiguous() for name, tensor in encoder.items()}
