"""Swaps: each connected subgraph exchanged alone in the smaller SAE (Figure 14)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_stitching.base.store import read_hdf5, write_hdf5
from sae_stitching.matching.subgraphs import Subgraphs
from sae_stitching.stitching.operations import Operations

# torch takes seconds to load, and figures and tables only read what is stored.
if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from sae_stitching.stitching.pairs import EvalPair

_OF_COMPONENTS = ("delta_mse", "standard_error", "delta_l0", "n_small", "n_large")


@dataclass(frozen=True)
class Swaps:
    """Effect of swapping each connected subgraph alone.

    Attributes
    ----------
    delta_mse : (component) float64
        MSE after the swap minus that of the smaller SAE: a mean over tokens and over d_model.
    standard_error : (component) float64
        Of `delta_mse` over the eval tokens, clustered by sequence; NaN for a single sequence.
    delta_l0 : (component) float64
        Change in the mean number of active latents.
    n_small, n_large : (component) int64
        Latents that go and that come.
    mse_small, l0_small : float
        Of the smaller SAE itself.
    n_tokens : int
        Eval tokens.
    """

    delta_mse: Float[np.ndarray, " component"]
    standard_error: Float[np.ndarray, " component"]
    delta_l0: Float[np.ndarray, " component"]
    n_small: Int[np.ndarray, " component"]
    n_large: Int[np.ndarray, " component"]
    mse_small: float
    l0_small: float
    n_tokens: int


def swap_operations(subgraphs: Subgraphs) -> Operations:
    """One operation a connected subgraph: its small latents go, its large ones come."""
    return Operations(
        subgraphs.component_small.astype(np.int64),
        subgraphs.component_large.astype(np.int64),
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
        operations.n_small,
        operations.n_large,
        effects.mse_small,
        effects.l0_small,
        effects.n_tokens,
    )


def write_swaps(
    swaps: Swaps, path: str | Path, *, study: str, provenance: Mapping[str, Any]
) -> None:
    """Write ``stitching/swaps/<small>--<large>.h5``."""
    with write_hdf5(path, format="swaps", study=study, provenance=provenance) as file:
        for name in _OF_COMPONENTS:
            file[name] = getattr(swaps, name)
        for name in ("mse_small", "l0_small", "n_tokens"):
            file.attrs[name] = getattr(swaps, name)


def load_swaps(path: str | Path, *, study: str | None = None) -> Swaps:
    """Read ``stitching/swaps/<small>--<large>.h5``.

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
    with read_hdf5(path, format="swaps", study=study) as file:
        return Swaps(
            *(file[name][...] for name in _OF_COMPONENTS),
            mse_small=float(file.attrs["mse_small"]),
            l0_small=float(file.attrs["l0_small"]),
            n_tokens=int(file.attrs["n_tokens"]),
        )
