"""Swaps: each connected subgraph exchanged alone in the smaller SAE (Figure 14)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sae_stitching.base.record import loader, record, stored
from sae_stitching.matching.subgraphs import Subgraphs

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64

    from sae_stitching.stitching.effects import EvalPair, Operations


@record("swaps", "stitching/swaps/<pair>.h5")
class Swaps:
    """Effect of swapping each connected subgraph alone."""

    delta_mse: Float64[np.ndarray, " component"] = stored(unit="activation²")
    """MSE after the swap minus that of the smaller SAE: a mean over tokens and over d_model."""
    standard_error: Float64[np.ndarray, " component"] = stored(unit="activation²")
    """Of `delta_mse` over the eval tokens, clustered by sequence; NaN for a single sequence."""
    delta_l0: Float64[np.ndarray, " component"] = stored(unit="latents a token")
    """Change in the mean number of active latents."""
    n_small: Int64[np.ndarray, " component"] = stored(unit="latents")
    """Latents of the smaller SAE, that go."""
    n_large: Int64[np.ndarray, " component"] = stored(unit="latents")
    """Latents of the larger SAE, that come."""
    mse_small: float = stored(unit="activation²")
    """Of the smaller SAE itself."""
    l0_small: float = stored(unit="latents a token")
    """Of the smaller SAE itself."""
    n_tokens: int = stored(unit="tokens")
    """Eval tokens."""


load_swaps = loader("load_swaps", Swaps)


def swap_operations(subgraphs: Subgraphs) -> Operations:
    """One operation a connected subgraph: its small latents go, its large ones come."""
    import torch

    from sae_stitching.stitching.effects import Operations

    return Operations(
        torch.from_numpy(subgraphs.component_small).long(),
        torch.from_numpy(subgraphs.component_large).long(),
        subgraphs.n_components,
    )


def swap_effects(pair: EvalPair, subgraphs: Subgraphs, label: str = "swaps") -> Swaps:
    """Change in MSE and L0 when one connected subgraph is swapped, for each, exactly (Figure 14).

    Parameters
    ----------
    pair
        The two SAEs and the eval tokens.
    subgraphs
        Of the same two SAEs.
    label
        Names the work in the log.

    Raises
    ------
    StudyError
        If the subgraphs are those of SAEs of other sizes.

    Examples
    --------
    The larger SAE has the direction of the smaller one in two halves, one for each sign of
    the other dimension.

    >>> import torch
    >>> from sae_stitching import SAE, EvalPair, connected_subgraphs, similarity, swap_effects
    >>> def sae(W):
    ...     return SAE(W.T, W, torch.zeros(len(W)), torch.zeros(2), "relu")
    >>> small = sae(torch.tensor([[1.0, 0.0]]))
    >>> large = sae(torch.tensor([[0.8, 0.6], [0.8, -0.6]]))
    >>> found = connected_subgraphs(similarity(small.W_dec, large.W_dec, floor=0.5), 0.7)
    >>> x = torch.tensor([[4.0, 3.0], [4.0, -3.0]])
    >>> pair = EvalPair.in_memory(small, large, x, sequence=torch.tensor([0, 1]))
    >>> swaps = swap_effects(pair, found)
    >>> swaps.n_small.tolist(), swaps.n_large.tolist(), swaps.delta_l0.tolist()
    ([1], [2], [1.0])
    """
    from sae_stitching.stitching.effects import independent_effects

    operations = swap_operations(subgraphs)
    effects = independent_effects(pair, operations, label)
    return Swaps(
        effects.delta_mse,
        effects.standard_error,
        effects.delta_l0,
        operations.n_small.numpy(),
        operations.n_large.numpy(),
        effects.mse_small,
        effects.l0_small,
        effects.n_tokens,
    )
