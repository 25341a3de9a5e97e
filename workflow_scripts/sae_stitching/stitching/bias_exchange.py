"""MSE of an SAE that decodes with the decoder bias of another (Figure 17)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sae_stitching.activations.shards import ActivationShards
from sae_stitching.saes import normalization
from sae_stitching.saes.encoding import StoredCodes
from sae_stitching.saes.evaluation import mean_activation
from sae_stitching.saes.sae import SAE, Decoder

if TYPE_CHECKING:
    from jaxtyping import Float


@dataclass(frozen=True)
class Means:
    """Means over the eval tokens, of what SAEs that normalise each token so read.

    With x − m and s as in `normalization`; without a norm they are x and 1.

    Attributes
    ----------
    x : (d_model) float64
        Mean of s (x − m).
    squares : (token) float64 or None
        s² of each token; None without a norm.
    """

    x: Float[Tensor, " d_model"]
    squares: Float[Tensor, " token"] | None = None

    @property
    def weight(self) -> float:
        """Mean of s²."""
        return 1.0 if self.squares is None else self.squares.mean().item()


def means(activations: ActivationShards, normalize: str | None) -> Means:
    """Average activations as SAEs of this norm read them."""
    if normalize is None:
        return Means(mean_activation(activations))
    total, squares = torch.zeros(activations.d_model, dtype=torch.float64), []
    for block in activations.blocks():
        x, scale = normalization.centred(block.activations.double(), normalize)
        total += scale @ x
        squares.append(scale.square())
    return Means(total / activations.n_tokens, torch.cat(squares))


def mean_codes(codes: StoredCodes, of: Means) -> Float[Tensor, " d_sae"]:
    """Mean of s² f over the eval tokens, of every latent's activation, in float64."""
    total = torch.zeros(codes.d_sae, dtype=torch.float64)
    start = 0
    for block in codes.blocks():
        values = block.values.double()
        if of.squares is not None:
            squares = of.squares[start : start + block.n_tokens]
            values = normalization.scaled(block.double(), squares).values
        start += block.n_tokens
        total += block.pattern.sum_by_latent(values)
    return total / codes.n_tokens


def mean_residual(
    sae: SAE | Decoder, of: Means, mean_f: Float[Tensor, " d_sae"]
) -> Float[Tensor, " d_model"]:
    """Mean of s (x − x̂) over the tokens, which the other means give: decoding is linear."""
    return of.x - mean_f @ sae.W_dec.double() - of.weight * sae.b_dec.double()


def bias_exchange(
    biases: Mapping[str, Float[Tensor, " d_model"]],
    residuals: Mapping[str, Float[Tensor, " d_model"]],
    mses: Mapping[str, float],
    weight: float = 1.0,
) -> list[dict[str, Any]]:
    """Give each SAE the decoder bias of every SAE, itself among them; its latents stay.

    With r = x − x̂ and Δb the change in bias, the mean of ‖r − Δb‖² is that of ‖r‖² less
    2 Δb·r̄ plus ‖Δb‖², so that only the mean residual r̄ is needed. Where SAEs normalise each token
    Δb is s times as large on each, with the mean of s r instead of r̄, and that of s² before ‖Δb‖².

    Parameters
    ----------
    biases
        b_dec of each SAE.
    residuals
        Mean residual of each, from `mean_residual`.
    mses
        MSE of each with its own bias.
    weight
        Mean of s².

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
            delta = (weight * (change @ change) - 2 * change @ residuals[sae]).item() / d_model
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
