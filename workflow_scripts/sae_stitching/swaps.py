"""Swaps: each connected subgraph exchanged alone in the smaller SAE (Figure 14)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_stitching.store import read_hdf5, write_hdf5
from sae_stitching.subgraphs import Subgraphs

# torch takes seconds to load, and figures and tables only read what is stored.
if TYPE_CHECKING:
    from sae_stitching.stitching import EvalPair, IndependentEffects, Operations


@dataclass(frozen=True)
class Swaps:
    """What is stored of the swaps of a pair: one value a connected subgraph.

    Attributes
    ----------
    delta_mse, standard_error, delta_l0 : (component) float64
    n_small, n_large : (component) int64
        Latents that go and that come.
    mse_small, l0_small : float
    """

    delta_mse: np.ndarray
    standard_error: np.ndarray
    delta_l0: np.ndarray
    n_small: np.ndarray
    n_large: np.ndarray
    mse_small: float
    l0_small: float


def swap_operations(subgraphs: Subgraphs) -> Operations:
    """One operation a connected subgraph: its small latents go, its large ones come."""
    import torch

    from sae_stitching.stitching import Operations

    return Operations(
        torch.from_numpy(subgraphs.component_small).long(),
        torch.from_numpy(subgraphs.component_large).long(),
        subgraphs.n_components,
    )


def swap_effects(pair: EvalPair, subgraphs: Subgraphs, label: str = "swaps") -> IndependentEffects:
    """Change in MSE and L0 when one connected subgraph is swapped, for each, exactly."""
    from sae_stitching.stitching import independent_effects

    return independent_effects(pair, swap_operations(subgraphs), label)


def write_swaps(
    effects: IndependentEffects,
    subgraphs: Subgraphs,
    path: str | Path,
    *,
    study: str,
    provenance: Mapping[str, Any],
) -> None:
    """Write ``stitching/swaps/<small>--<large>.h5``."""
    operations = swap_operations(subgraphs)
    with write_hdf5(path, format="swaps", study=study, provenance=provenance) as file:
        file["delta_mse"] = effects.delta_mse
        file["standard_error"] = effects.standard_error
        file["delta_l0"] = effects.delta_l0
        file["n_small"] = operations.n_small.numpy()
        file["n_large"] = operations.n_large.numpy()
        file.attrs["mse_small"] = effects.mse_small
        file.attrs["l0_small"] = effects.l0_small
        file.attrs["n_tokens"] = effects.n_tokens


def load_swaps(path: str | Path, *, study: str | None = None) -> Swaps:
    """Read ``stitching/swaps/<small>--<large>.h5``."""
    names = ("delta_mse", "standard_error", "delta_l0", "n_small", "n_large")
    with read_hdf5(path, format="swaps", study=study) as file:
        return Swaps(
            *(file[name][...] for name in names),
            mse_small=float(file.attrs["mse_small"]),
            l0_small=float(file.attrs["l0_small"]),
        )
