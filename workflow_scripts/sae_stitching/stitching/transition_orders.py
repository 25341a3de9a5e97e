"""How far a transition depends on the order of its operations within each phase."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_stitching.base.errors import StudyError
from sae_stitching.base.store import read_hdf5, write_hdf5
from sae_stitching.matching.subgraphs import Subgraphs
from sae_stitching.stitching.random_insertion import random_orders
from sae_stitching.stitching.transitions import DROP, INSERT, START, SWAP, transition_operations

# torch takes seconds to load, and figures and tables only read what is stored.
if TYPE_CHECKING:
    from jaxtyping import Float, Int8

    from sae_stitching.stitching.pairs import EvalPair

_DATASETS = ("kind", "given", "gain", "random")


@dataclass(frozen=True)
class TransitionOrders:
    """MSE along one step of the transition, for several orders within the phases.

    Insertions still come before swaps, and swaps before drops, so that all orders agree where a
    phase ends.

    Attributes
    ----------
    kind : (operation + 1) int8
        As in `transition`.
    given : (operation + 1) float64
        In the order of the latents' numbers, as Figure 5.
    gain : (operation + 1) float64
        The operation that lowers the MSE most when applied alone to the smaller SAE comes first.
    random : (order, operation + 1) float64
    """

    kind: Int8[np.ndarray, " operation+1"]
    given: Float[np.ndarray, " operation+1"]
    gain: Float[np.ndarray, " operation+1"]
    random: Float[np.ndarray, "order operation+1"]


def transition_orders(
    pair: EvalPair, subgraphs: Subgraphs, *, n_orders: int, seed: int, label: str = "orders"
) -> TransitionOrders:
    """Walk from the smaller SAE to the larger in several orders.

    Parameters
    ----------
    pair
    subgraphs
    n_orders
        Random orders.
    seed
        Fixes them.
    label
        Names the work in the log.
    """
    from sae_stitching.stitching.orders import OrderSums

    operations, kinds = transition_operations(subgraphs)
    sums = OrderSums(pair, operations, label)
    phases = [np.flatnonzero(kinds == kind) for kind in (INSERT, SWAP, DROP)]
    alone = sums.alone()
    generator = np.random.default_rng(seed)
    gain = [phase[np.argsort(alone[phase], kind="stable")] for phase in phases]
    drawn = zip(*(random_orders(phase, n_orders, generator) for phase in phases), strict=True)
    orders = [np.concatenate(parts) for parts in (phases, gain, *drawn)]
    mse = np.stack([walk.mse for walk in sums.walks(orders)])
    if not np.allclose(mse[:, -1], mse[0, -1], rtol=1e-8, atol=1e-12):
        raise StudyError(f"{label}: the orders end at different MSEs; report this as a bug")
    return TransitionOrders(np.concatenate([[np.int8(START)], kinds]), mse[0], mse[1], mse[2:])


def write_transition_orders(
    found: TransitionOrders, path: str | Path, *, study: str, provenance: Mapping[str, Any]
) -> None:
    """Write ``stitching/orders/<small>--<large>.h5``."""
    with write_hdf5(path, format="transition_orders", study=study, provenance=provenance) as file:
        for name in _DATASETS:
            file[name] = getattr(found, name)


def load_transition_orders(path: str | Path, *, study: str | None = None) -> TransitionOrders:
    """Read ``stitching/orders/<small>--<large>.h5``.

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
    with read_hdf5(path, format="transition_orders", study=study) as file:
        return TransitionOrders(*(file[name][...] for name in _DATASETS))
