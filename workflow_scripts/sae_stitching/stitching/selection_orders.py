"""Which latents of the larger SAE to insert first: by max cosine, by own effect, or greedily.

The orders are made on training tokens, and each is walked on the eval tokens, so that an order that
measures effects is not judged on the tokens that it measured.
"""

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
    from sae_stitching.matching.decoder_similarity import Similarity
    from sae_stitching.stitching.pairs import EvalPair

ORDERS = ("cosine", "effect", "greedy")

_DATASETS = ("latents", "mse", "l0")


@dataclass(frozen=True)
class InsertionOrder:
    """All latents of the larger SAE inserted into the smaller, one after the other.

    Attributes
    ----------
    latents : (d_large) int64
        In the order of insertion.
    mse, l0 : (d_large + 1) float64
        On the eval tokens, before the first insertion and after each.
    """

    latents: np.ndarray
    mse: np.ndarray
    l0: np.ndarray


@dataclass(frozen=True)
class Selection:
    """The same insertions in several orders.

    Attributes
    ----------
    orders : dict of InsertionOrder
        By `ORDERS`.
    theta : float
        θ of the pair; in the file it is called ``threshold``, as in the config.
    n_novel : int
        Latents with max cosine < θ: the first of the cosine order.
    n_greedy : int
        Latents that the greedy choice takes before none lowers the MSE on the training tokens.
    n_train_tokens : int
    """

    orders: Mapping[str, InsertionOrder]
    theta: float
    n_novel: int
    n_greedy: int
    n_train_tokens: int


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
    from sae_stitching.stitching.effects import cumulative_effects

    operations = Operations.insertions(latents, pair.small.d_sae, pair.large.d_sae)
    found = cumulative_effects(pair, operations, label)
    return InsertionOrder(latents, found.mse, found.l0)


def write_selection(
    found: Selection, path: str | Path, *, study: str, provenance: Mapping[str, Any]
) -> None:
    """Write ``stitching/selection/<small>--<large>.h5``: a group an order."""
    with write_hdf5(path, format="selection", study=study, provenance=provenance) as file:
        for order in ORDERS:
            for name in _DATASETS:
                file[f"{order}/{name}"] = getattr(found.orders[order], name)
        file.attrs["threshold"] = found.theta
        for name in ("n_novel", "n_greedy", "n_train_tokens"):
            file.attrs[name] = getattr(found, name)


def load_selection(path: str | Path, *, study: str | None = None) -> Selection:
    """Read ``stitching/selection/<small>--<large>.h5``."""
    with read_hdf5(path, format="selection", study=study) as file:
        return Selection(
            {
                order: InsertionOrder(*(file[f"{order}/{name}"][...] for name in _DATASETS))
                for order in ORDERS
            },
            float(file.attrs["threshold"]),
            *(int(file.attrs[name]) for name in ("n_novel", "n_greedy", "n_train_tokens")),
        )
