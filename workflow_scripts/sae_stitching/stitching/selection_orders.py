"""Which latents of the larger SAE to insert first: by max cosine, by own effect, or greedily.

The orders are made on training tokens, and each is walked on the eval tokens, so that an order that
measures effects is not judged on the tokens that it measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from sae_stitching.base.record import loader, record, stored

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

    from sae_stitching.matching.decoder_similarity import Similarity
    from sae_stitching.stitching.effects import EvalPair

ORDERS = ("cosine", "effect", "greedy")


@record()
class InsertionOrder:
    """All latents of the larger SAE inserted into the smaller, one after the other."""

    latents: Int64[np.ndarray, " d_large"]
    """In the order of insertion."""
    mse: Float64[np.ndarray, " d_large+1"] = stored(unit="activation²")
    """On the eval tokens, before the first insertion and after each."""
    l0: Float64[np.ndarray, " d_large+1"] = stored(unit="latents a token")
    """Mean number of active latents, likewise."""


@record("selection", "stitching/selection/<pair>.h5")
class Selection:
    """The same insertions in several orders."""

    orders: Mapping[str, InsertionOrder] = stored(keys=ORDERS)
    """By max cosine, by own effect and greedily."""
    threshold: float
    """θ of the pair."""
    n_novel: int = stored(unit="latents")
    """Latents with max cosine < θ: the first of the cosine order."""
    n_greedy: int = stored(unit="latents")
    """Latents that the greedy choice takes before none lowers the MSE on the training tokens."""
    n_train_tokens: int = stored(unit="tokens")
    """Training tokens that the effects were measured on."""


load_selection = loader("load_selection", Selection)


def insertion_orders(pair: EvalPair, similarity: Similarity) -> tuple[dict[str, np.ndarray], int]:
    """Put the latents of the larger SAE in several orders.

    Parameters
    ----------
    pair
        With the tokens that effects are measured on.
    similarity
        Of the same two SAEs.

    Returns
    -------
    orders : dict
        By `ORDERS`: ascending max cosine; ascending effect of the insertion alone; greedy, each
        latent by its effect given those before (`greedy_latents`). Latents that are never active
        on these tokens come last in the latter two. Of equals the lowest number comes first.
    n_greedy : int
        Latents that the greedy choice takes before none lowers the MSE.
    """
    from sae_stitching.stitching.greedy import greedy_latents
    from sae_stitching.stitching.insertions import insertion_effects

    effects = insertion_effects(pair, similarity, "effects of single insertions")
    effect = np.where(effects.n_active > 0, effects.delta_mse, np.inf)
    greedy = greedy_latents(pair, len(effect), label="greedy insertions")
    never = np.setdiff1d(np.arange(len(effect)), greedy.latents)
    orders = {
        "cosine": np.argsort(similarity.max_cosine_large, kind="stable"),
        "effect": np.argsort(effect, kind="stable"),
        "greedy": np.concatenate([greedy.latents, never]),
    }
    return orders, greedy.n_lowering


def walk(pair: EvalPair, latents: np.ndarray, label: str = "insertions") -> InsertionOrder:
    """Insert latents of the larger SAE one after the other.

    Parameters
    ----------
    pair
        With the tokens that MSE and L0 are measured on.
    latents
        Numbers in the larger SAE, in order.
    label
        Names the work in the log.
    """
    import torch

    from sae_stitching.stitching.effects import Operations, cumulative_effects

    large = np.full(pair.large.d_sae, -1)
    large[latents] = np.arange(len(latents))
    none = torch.full((pair.small.d_sae,), -1)
    path = cumulative_effects(pair, Operations(none, torch.from_numpy(large), len(latents)), label)
    return InsertionOrder(latents, path.mse, path.l0)
