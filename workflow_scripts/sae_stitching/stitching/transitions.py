"""Transition from the smaller SAE to the larger, operation by operation (Figure 5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_stitching.base.errors import StudyError
from sae_stitching.base.names import split_pair_name
from sae_stitching.base.store import read_hdf5, write_hdf5
from sae_stitching.matching.subgraphs import Subgraphs
from sae_stitching.stitching.operations import Operations
from sae_stitching.stitching.swaps import swap_operations
from sae_stitching.stitching.walks import Walk

# torch takes seconds to load, and figures and tables only read what is stored.
if TYPE_CHECKING:
    from jaxtyping import Int8

    from sae_stitching.stitching.pairs import EvalPair

START, INSERT, SWAP, DROP = range(4)
KINDS = ("start", "insert", "swap", "drop")

_DATASETS = ("n_latents", "mse", "l0", "kind")
_ATTRIBUTES = ("mse_large", "l0_large", "n_tokens")


@dataclass(frozen=True)
class Transition(Walk):
    """The stitched SAE on the way from the smaller SAE to the larger, after every operation.

    Attributes
    ----------
    n_latents, mse, l0 : (operation + 1)
        As of any `Walk`.
    kind : (operation + 1) int8
        `START`, then `INSERT`, `SWAP` or `DROP`; their names are `KINDS`.
    mse_large, l0_large : float
        Of the larger SAE itself, which the walk ends at.
    n_tokens : int
        Eval tokens.
    """

    kind: Int8[np.ndarray, " operation+1"]
    mse_large: float
    l0_large: float
    n_tokens: int


def transition_operations(
    subgraphs: Subgraphs,
) -> tuple[Operations, Int8[np.ndarray, " operation"]]:
    """All operations of a transition, in order, and the kind of each.

    First the novel latents of the larger SAE go in one by one, then the connected subgraphs are
    swapped, then the latents of the smaller SAE that have no partner are dropped one by one; in
    each phase in the order of the latents' numbers. At the end the larger SAE is left.
    """
    sizes = len(subgraphs.component_small), len(subgraphs.component_large)
    insert = Operations.insertions(np.flatnonzero(subgraphs.novel), *sizes)
    swap = swap_operations(subgraphs)
    drop = Operations.drops(np.flatnonzero(subgraphs.unmatched), *sizes)
    kinds = np.repeat([INSERT, SWAP, DROP], [insert.n, swap.n, drop.n]).astype(np.int8)
    return insert.then(swap).then(drop), kinds


def transition(pair: EvalPair, subgraphs: Subgraphs, label: str = "transition") -> Transition:
    """Walk from the smaller SAE to the larger; MSE, L0 and size after every operation (Figure 5).

    Novel latents go in one by one, then connected subgraphs are swapped, then the smaller SAE's
    latents without a partner are dropped.

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
        If the subgraphs are those of SAEs of other sizes, or the walk does not end at the larger
        SAE.

    Examples
    --------
    >>> import torch
    >>> from sae_stitching import SAE, EvalPair, connected_subgraphs, similarity, transition
    >>> def identity(d_sae):
    ...     W = torch.eye(2)[:d_sae]
    ...     return SAE(W.T, W, torch.zeros(d_sae), torch.zeros(2), "relu")
    >>> small, large = identity(1), identity(2)
    >>> found = connected_subgraphs(similarity(small.W_dec, large.W_dec, floor=0.0), 0.7)
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> step = transition(EvalPair.in_memory(small, large, x, torch.tensor([0, 1])), found)
    >>> step.kind.tolist(), step.n_latents.tolist(), step.mse.tolist()
    ([0, 1, 2], [1, 2, 2], [0.25, 0.0, 0.0])
    """
    from sae_stitching.stitching.effects import cumulative_effects

    operations, kinds = transition_operations(subgraphs)
    walk = cumulative_effects(pair, operations, label)
    # What is left at the end is the larger SAE, bias included: the walk checks itself.
    if not np.isclose(walk.mse[-1], walk.mse_large, rtol=1e-6, atol=1e-12):
        raise StudyError(
            f"{label}: the transition ends at MSE {walk.mse[-1]:.9g}, the larger SAE has "
            f"{walk.mse_large:.9g}; the codes are not those of these SAEs; delete them and "
            "run again"
        )
    return Transition(
        **vars(walk),
        kind=np.concatenate([[np.int8(START)], kinds]),
    )


def write_transition_step(
    step: Transition, path: str | Path, *, study: str, provenance: Mapping[str, Any]
) -> None:
    """Write one step, ``stitching/transition/<small>--<large>.h5``."""
    with write_hdf5(path, format="transition_step", study=study, provenance=provenance) as file:
        for name in _DATASETS:
            file[name] = getattr(step, name)
        for name in _ATTRIBUTES:
            file.attrs[name] = getattr(step, name)


def gather_transition(
    steps: Mapping[str, str | Path],
    path: str | Path,
    *,
    study: str,
    provenance: Mapping[str, Any],
) -> None:
    """Write ``stitching/transition.h5``: a group a step, in the order of the path.

    Parameters
    ----------
    steps
        ``<small>--<large>`` and the file of the step.
    path
        File to write.
    """
    with write_hdf5(path, format="transition", study=study, provenance=provenance) as file:
        file.attrs["steps"] = list(steps)
        for name, source in steps.items():
            with read_hdf5(source, format="transition_step", study=study) as step:
                for dataset in _DATASETS:
                    file[f"{name}/{dataset}"] = step[dataset][...]
                for attribute in _ATTRIBUTES:
                    file[name].attrs[attribute] = step.attrs[attribute]


def load_transition(
    path: str | Path, *, study: str | None = None
) -> dict[tuple[str, str], Transition]:
    """Read ``stitching/transition.h5``: the steps in order, by the names of their SAEs.

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
    with read_hdf5(path, format="transition", study=study) as file:
        return {
            split_pair_name(str(step)): _read(file, file[str(step)].attrs, f"{step}/")
            for step in file.attrs["steps"]
        }


def load_transition_step(path: str | Path, *, study: str | None = None) -> Transition:
    """Read ``stitching/transition/<small>--<large>.h5``.

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
    with read_hdf5(path, format="transition_step", study=study) as file:
        return _read(file, file.attrs)


def _read(file: Any, attributes: Any, group: str = "") -> Transition:
    return Transition(
        *(file[f"{group}{name}"][...] for name in _DATASETS),
        mse_large=float(attributes["mse_large"]),
        l0_large=float(attributes["l0_large"]),
        n_tokens=int(attributes["n_tokens"]),
    )
