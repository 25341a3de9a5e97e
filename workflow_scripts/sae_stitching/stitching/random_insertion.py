"""Latents of the larger SAE inserted in random order, below θ and above it (Figure 15)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sae_stitching.base.record import loader, record, stored

if TYPE_CHECKING:
    from jaxtyping import Bool, Float64, Int

    from sae_stitching.stitching.effects import EvalPair

GROUPS = ("novel", "reconstruction")


@record("random_insertion", "stitching/random_insertion/<pair>.h5")
class RandomInsertion:
    """MSE while one group of latents is inserted in random orders."""

    novel: Float64[np.ndarray, "order n_novel+1"] = stored(unit="activation²")
    """MSE before the first novel latent and after each; these alone are inserted."""
    reconstruction: Float64[np.ndarray, "order n_reconstruction+1"] = stored(unit="activation²")
    """The same of the reconstruction latents."""


load_random_insertion = loader("load_random_insertion", RandomInsertion)


def random_orders(
    members: Int[np.ndarray, " member"], n: int, generator: np.random.Generator
) -> list[Int[np.ndarray, " member"]]:
    """Draw `n` orders of the given numbers."""
    return [generator.permutation(members) for _ in range(n)]


def random_insertion(
    pair: EvalPair,
    novel: Bool[np.ndarray, " d_large"],
    *,
    n_orders: int,
    seed: int,
    label: str = "random insertion",
) -> RandomInsertion:
    """Insert the novel latents, and apart from them the others, in random orders.

    Parameters
    ----------
    pair
    novel : (d_large) bool
        Which latents of the larger SAE are novel.
    n_orders
        Random orders of each group.
    seed
        Fixes the orders.
    label
        Names the work in the log.
    """
    import torch

    from sae_stitching.stitching.effects import Operations
    from sae_stitching.stitching.orders import OrderSums

    generator = np.random.default_rng(seed)
    d_large = pair.large.d_sae
    operations = Operations(torch.full((pair.small.d_sae,), -1), torch.arange(d_large), d_large)
    sums = OrderSums(pair, operations, label)
    groups = [np.flatnonzero(novel), np.flatnonzero(~novel)]
    orders = [order for group in groups for order in random_orders(group, n_orders, generator)]
    mse = [walk.mse for walk in sums.walks(orders)]
    return RandomInsertion(np.stack(mse[:n_orders]), np.stack(mse[n_orders:]))
