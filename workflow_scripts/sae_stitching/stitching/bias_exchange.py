"""MSE of an SAE that decodes with the decoder bias of another (Figure 17)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sae_stitching.saes.encoding import StoredCodes
from sae_stitching.saes.sae import SAE, Decoder

if TYPE_CHECKING:
    from jaxtyping import Float


def mean_codes(codes: StoredCodes) -> Float[Tensor, " d_sae"]:
    """Mean activation of every latent over the eval tokens, in float64."""
    total = torch.zeros(codes.d_sae, dtype=torch.float64)
    for block in codes.blocks():
        total += block.pattern.sum_by_latent(block.values.double())
    return total / codes.n_tokens


def mean_residual(
    sae: SAE | Decoder, mean_x: Float[Tensor, " d_model"], mean_f: Float[Tensor, " d_sae"]
) -> Float[Tensor, " d_model"]:
    """Mean of x − x̂ over the tokens, which the means of x and f give: decoding is linear."""
    return mean_x.double() - mean_f @ sae.W_dec.double() - sae.b_dec.double()


def bias_exchange(
    biases: Mapping[str, Float[Tensor, " d_model"]],
    residuals: Mapping[str, Float[Tensor, " d_model"]],
    mses: Mapping[str, float],
) -> list[dict[str, Any]]:
    """Give each SAE the decoder bias of every SAE, itself among them; its latents stay.

    With r = x − x̂ and Δb the change in bias, the mean of ‖r − Δb‖² is that of ‖r‖² less
    2 Δb·r̄ plus ‖Δb‖², so that only the mean residual r̄ is needed.

    Parameters
    ----------
    biases
        b_dec of each SAE.
    residuals
        Mean of x − x̂ of each, from `mean_residual`.
    mses
        MSE of each with its own bias.

    Returns
    -------
    list of dict
        ``sae``, ``bias_of``, ``mse``, ``change_percent`` (against the SAE's own bias), ``cosine``
        of the two biases, and ``norm_ratio``, that of `bias_of` over that of `sae`.
    """
    names: Sequence[str] = list(biases)
    rows = []
    for sae in names:
        for other in names:
            own, b = biases[sae].double(), biases[other].double()
            change = b - own
            d_model = len(own)
            delta = (change @ change - 2 * change @ residuals[sae]).item() / d_model
            norms = own.norm().item(), b.norm().item()
            rows.append(
                {
                    "sae": sae,
                    "bias_of": other,
                    "mse": mses[sae] + delta,
                    "change_percent": 100 * delta / mses[sae] if mses[sae] else float("nan"),
                    "cosine": (own @ b).item() / (norms[0] * norms[1]) if all(norms) else 0.0,
                    "norm_ratio": norms[1] / norms[0] if norms[0] else float("nan"),
                }
            )
    return rows
