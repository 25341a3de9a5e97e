"""How far a transition depends on the order of its operations within each phase."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sae_stitching.base.errors import StudyError
from sae_stitching.base.record import loader, record, stored
from sae_stitching.matching.subgraphs import Subgraphs
from sae_stitching.stitching.random_insertion import random_orders
from sae_stitching.stitching.transitions import DROP, INSERT, START, SWAP, transition_operations

if TYPE_CHECKING:
    from jaxtyping import Float64, Int8

    from sae_stitching.stitching.effects import EvalPair


@record("transition_orders", "stitching/orders/<pair>.h5")
class TransitionOrders:
    """MSE along one step of the transition, for several orders within the phases.

    Insertions still come before swaps, and swaps before drops, so that all orders agree where a
    phase ends.
    """

    kind: Int8[np.ndarray, " operation+1"]
    """As in `Transition`."""
    given: Float64[np.ndarray, " operation+1"] = stored(unit="activation²")
    """MSE in the order of the latents' numbers, as Figure 5."""
    gain: Float64[np.ndarray, " operation+1"] = stored(unit="activation²")
    """MSE where the operation comes first that lowers it most when applied alone to the smaller
    SAE."""
    random: Float64[np.ndarray, "order operation+1"] = stored(unit="activation²")
    """MSE in random orders."""


load_transition_orders = loader("load_transition_orders", TransitionOrders)


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
