"""Latents of the larger SAE inserted in random order, below θ and above it (Figure 15)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_stitching.base.store import read_hdf5, write_hdf5
from sae_stitching.stitching.operations import Operations

# torch takes seconds to load, and figures and tables only read what is stored.
if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from sae_stitching.stitching.pairs import EvalPair

GROUPS = ("novel", "reconstruction")


@dataclass(frozen=True)
class RandomInsertion:
    """MSE while one group of latents is inserted in random orders.

    Attributes
    ----------
    novel, reconstruction : (order, latent + 1) float64
        MSE before the first latent and after each; the group's latents alone are inserted.
    """

    novel: Float[np.ndarray, "order latent+1"]
    reconstruction: Float[np.ndarray, "order latent+1"]


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
    from sae_stitching.stitching.orders import OrderSums

    generator = np.random.default_rng(seed)
    d_large = pair.large.d_sae
    operations = Operations.insertions(np.arange(d_large), pair.small.d_sae, d_large)
    sums = OrderSums(pair, operations, label)
    groups = [np.flatnonzero(novel), np.flatnonzero(~novel)]
    orders = [order for group in groups for order in random_orders(group, n_orders, generator)]
    mse = [walk.mse for walk in sums.walks(orders)]
    return RandomInsertion(np.stack(mse[:n_orders]), np.stack(mse[n_orders:]))


def write_random_insertion(
    found: RandomInsertion, path: str | Path, *, study: str, provenance: Mapping[str, Any]
) -> None:
    """Write ``stitching/random_insertion/<small>--<large>.h5``."""
    with write_hdf5(path, format="random_insertion", study=study, provenance=provenance) as file:
        for group in GROUPS:
            file[group] = getattr(found, group)


def load_random_insertion(path: str | Path, *, study: str | None = None) -> RandomInsertion:
    """Read ``stitching/random_insertion/<small>--<large>.h5``.

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
    with read_hdf5(path, format="random_insertion", study=study) as file:
        return RandomInsertion(*(file[group][...] for group in GROUPS))
