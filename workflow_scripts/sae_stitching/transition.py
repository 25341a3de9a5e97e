"""Transition from the smaller SAE to the larger, operation by operation (Figure 5)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_stitching.errors import StudyError
from sae_stitching.store import read_hdf5, write_hdf5
from sae_stitching.subgraphs import Subgraphs

# torch takes seconds to load, and figures and tables only read what is stored.
if TYPE_CHECKING:
    from sae_stitching.stitching import CumulativeEffects, EvalPair, Operations

START, INSERT, SWAP, DROP = range(4)
KINDS = ("start", "insert", "swap", "drop")

_DATASETS = ("n_latents", "mse", "l0", "kind")


def transition_operations(subgraphs: Subgraphs) -> tuple[Operations, np.ndarray]:
    """All operations of a transition, in order, and the kind of each.

    First the novel latents of the larger SAE go in one by one, then the connected subgraphs are
    swapped, then the latents of the smaller SAE that have no partner are dropped one by one; in
    each phase in the order of the latents' numbers. At the end the larger SAE is left.
    """
    import torch

    from sae_stitching.stitching import Operations

    novel = np.flatnonzero(subgraphs.component_large < 0)
    alone = np.flatnonzero(subgraphs.component_small < 0)
    n_insert, n_swap, n_drop = len(novel), subgraphs.n_components, len(alone)
    large = subgraphs.component_large.astype(np.int64) + n_insert
    large[novel] = np.arange(n_insert)
    small = subgraphs.component_small.astype(np.int64) + n_insert
    small[alone] = np.arange(n_drop) + n_insert + n_swap
    n = n_insert + n_swap + n_drop
    kinds = np.repeat([INSERT, SWAP, DROP], [n_insert, n_swap, n_drop]).astype(np.int8)
    return Operations(torch.from_numpy(small), torch.from_numpy(large), n), kinds


def transition(
    pair: EvalPair, subgraphs: Subgraphs, label: str = "transition"
) -> tuple[CumulativeEffects, np.ndarray]:
    """Walk from the smaller SAE to the larger; MSE, L0 and size after every operation.

    Returns
    -------
    CumulativeEffects
    kind : (operation + 1) int8
        `START`, then `INSERT`, `SWAP` or `DROP`.
    """
    from sae_stitching.stitching import cumulative_effects

    operations, kinds = transition_operations(subgraphs)
    path = cumulative_effects(pair, operations, label)
    # What is left at the end is the larger SAE, bias included: the walk checks itself.
    if not np.isclose(path.mse[-1], path.mse_large, rtol=1e-6, atol=1e-12):
        raise StudyError(
            f"{label}: the transition ends at MSE {path.mse[-1]:.9g}, the larger SAE has "
            f"{path.mse_large:.9g}; the codes are not those of these SAEs; delete them and "
            "run again"
        )
    return path, np.concatenate([[np.int8(START)], kinds])


def write_transition_step(
    path: CumulativeEffects,
    kind: np.ndarray,
    target: str | Path,
    *,
    study: str,
    provenance: Mapping[str, Any],
) -> None:
    """Write one step, ``stitching/transition/<small>--<large>.h5``."""
    with write_hdf5(target, format="transition_step", study=study, provenance=provenance) as file:
        file["n_latents"] = path.n_latents
        file["mse"] = path.mse
        file["l0"] = path.l0
        file["kind"] = kind
        file.attrs["mse_large"] = path.mse_large
        file.attrs["l0_large"] = path.l0_large
        file.attrs["n_tokens"] = path.n_tokens


def gather_transition(
    steps: Mapping[str, str | Path],
    target: str | Path,
    *,
    study: str,
    provenance: Mapping[str, Any],
) -> None:
    """Write ``stitching/transition.h5``: a group a step, in the order of the path.

    Parameters
    ----------
    steps
        ``<small>--<large>`` and the file of the step.
    target
        File to write.
    """
    with write_hdf5(target, format="transition", study=study, provenance=provenance) as file:
        file.attrs["steps"] = list(steps)
        for name, source in steps.items():
            with read_hdf5(source, format="transition_step", study=study) as step:
                for dataset in _DATASETS:
                    file[f"{name}/{dataset}"] = step[dataset][...]
                for attribute in ("mse_large", "l0_large", "n_tokens"):
                    file[name].attrs[attribute] = step.attrs[attribute]


def load_transition(path: str | Path, *, study: str | None = None) -> dict[str, dict[str, Any]]:
    """Read ``stitching/transition.h5``: name of each step and its datasets, in order."""
    with read_hdf5(path, format="transition", study=study) as file:
        return {
            str(step): {name: file[f"{step}/{name}"][...] for name in _DATASETS}
            for step in file.attrs["steps"]
        }


def load_transition_step(path: str | Path, *, study: str | None = None) -> dict[str, Any]:
    """Read ``stitching/transition/<small>--<large>.h5``: the datasets of one step."""
    with read_hdf5(path, format="transition_step", study=study) as file:
        return {name: file[name][...] for name in _DATASETS}
