"""Insertion effects: each latent of the larger SAE put into the smaller one alone (Figure 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_stitching.store import read_hdf5, write_hdf5

# torch takes seconds to load, and figures and tables only read what is stored.
if TYPE_CHECKING:
    from sae_stitching.stitching import EvalPair, IndependentEffects


@dataclass(frozen=True)
class Insertions:
    """What is stored of the insertions of a pair: one value a latent of the larger SAE.

    Attributes
    ----------
    delta_mse, standard_error : (d_large) float64
    n_active : (d_large) int64
        Eval tokens on which the latent is active. Where it is 0 there is no measured effect.
    max_cosine : (d_large) float32
        To any latent of the smaller SAE.
    mse_small, mse_large : float
    n_tokens : int
    """

    delta_mse: np.ndarray
    standard_error: np.ndarray
    n_active: np.ndarray
    max_cosine: np.ndarray
    mse_small: float
    mse_large: float
    n_tokens: int


def insertion_effects(pair: EvalPair, label: str = "insertions") -> IndependentEffects:
    """MSE(small plus i) − MSE(small) for every latent i of the larger SAE, exactly.

    The bias is mixed for |L0| = d_small and |L1| = 1 (Eq. 5).
    """
    import torch

    from sae_stitching.stitching import Operations, independent_effects

    small = torch.full((pair.small.d_sae,), -1)
    operations = Operations(small, torch.arange(pair.large.d_sae), pair.large.d_sae)
    return independent_effects(pair, operations, label)


def write_insertions(
    effects: IndependentEffects,
    max_cosine: np.ndarray,
    path: str | Path,
    *,
    study: str,
    provenance: Mapping[str, Any],
) -> None:
    """Write ``stitching/insertions/<small>--<large>.h5``."""
    with write_hdf5(path, format="insertions", study=study, provenance=provenance) as file:
        file["delta_mse"] = effects.delta_mse
        file["standard_error"] = effects.standard_error
        file["n_active"] = effects.n_active
        file["max_cosine"] = max_cosine
        file.attrs["mse_small"] = effects.mse_small
        file.attrs["mse_large"] = effects.mse_large
        file.attrs["n_tokens"] = effects.n_tokens


def load_insertions(path: str | Path, *, study: str | None = None) -> Insertions:
    """Read ``stitching/insertions/<small>--<large>.h5``."""
    with read_hdf5(path, format="insertions", study=study) as file:
        return Insertions(
            file["delta_mse"][...],
            file["standard_error"][...],
            file["n_active"][...],
            file["max_cosine"][...],
            float(file.attrs["mse_small"]),
            float(file.attrs["mse_large"]),
            int(file.attrs["n_tokens"]),
        )
