"""Transition from the smaller SAE to the larger, operation by operation (Figure 5)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_stitching.base.errors import StudyError
from sae_stitching.base.names import split_pair_name
from sae_stitching.base.record import loader, record, stored, write_record
from sae_stitching.matching.subgraphs import Subgraphs

if TYPE_CHECKING:
    from jaxtyping import Float64, Int8, Int64

    from sae_stitching.stitching.effects import EvalPair, Operations

START, INSERT, SWAP, DROP = range(4)
KINDS = ("start", "insert", "swap", "drop")


@record("transition_step", "stitching/transition/<pair>.h5")
class Transition:
    """The stitched SAE on the way from the smaller SAE to the larger, after every operation."""

    n_latents: Int64[np.ndarray, " operation+1"] = stored(unit="latents")
    """Latents of the stitched SAE."""
    mse: Float64[np.ndarray, " operation+1"] = stored(unit="activation²")
    """Mean over tokens and over d_model."""
    l0: Float64[np.ndarray, " operation+1"] = stored(unit="latents a token")
    """Mean number of active latents."""
    kind: Int8[np.ndarray, " operation+1"]
    """0 start, then 1 insert, 2 swap or 3 drop."""
    mse_large: float = stored(unit="activation²")
    """Of the larger SAE itself, which the walk ends at."""
    l0_large: float = stored(unit="latents a token")
    """Of the larger SAE itself."""
    n_tokens: int = stored(unit="tokens")
    """Eval tokens."""


load_transition_step = loader("load_transition_step", Transition)


@record("transition", "stitching/transition.h5")
class Transitions:
    """The steps of the path through a study's SAEs."""

    steps: Mapping[str, Transition]
    """A step each, in their order."""


_load_steps = loader("load_transition", Transitions)


def load_transition(
    path: str | Path, *, study: str | None = None
) -> dict[tuple[str, str], Transition]:
    """Read ``stitching/transition.h5``: the steps in order, by the names of their SAEs.

    Parameters and errors are those of `load_transition_step`.
    """
    steps = _load_steps(path, study=study).steps
    return {split_pair_name(name): step for name, step in steps.items()}


def transition_operations(
    subgraphs: Subgraphs,
) -> tuple[Operations, Int8[np.ndarray, " operation"]]:
    """All operations of a transition, in order, and the kind of each.

    First the novel latents of the larger SAE go in one by one, then the connected subgraphs are
    swapped, then the latents of the smaller SAE that have no partner are dropped one by one; in
    each phase in the order of the latents' numbers. At the end the larger SAE is left.
    """
    import torch

    from sae_stitching.stitching.effects import Operations

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
    path = cumulative_effects(pair, operations, label)
    # What is left at the end is the larger SAE, bias included: the walk checks itself.
    if not np.isclose(path.mse[-1], path.mse_large, rtol=1e-6, atol=1e-12):
        raise StudyError(
            f"{label}: the transition ends at MSE {path.mse[-1]:.9g}, the larger SAE has "
            f"{path.mse_large:.9g}; the codes are not those of these SAEs; delete them and "
            "run again"
        )
    return Transition(
        path.n_latents,
        path.mse,
        path.l0,
        np.concatenate([[np.int8(START)], kinds]),
        path.mse_large,
        path.l0_large,
        path.n_tokens,
    )


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
    found = {name: load_transition_step(source, study=study) for name, source in steps.items()}
    write_record(Transitions(found), path, study=study, provenance=provenance)
