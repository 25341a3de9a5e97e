"""Insertion effects: each latent of the larger SAE put into the smaller one alone (Figure 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_stitching.base.errors import StudyError
from sae_stitching.base.store import read_hdf5, write_hdf5
from sae_stitching.stitching.operations import Operations

# torch takes seconds to load, and figures and tables only read what is stored.
if TYPE_CHECKING:
    from jaxtyping import Float, Int

    from sae_stitching.matching.decoder_similarity import Similarity
    from sae_stitching.stitching.pairs import EvalPair

_OF_LATENTS = ("delta_mse", "standard_error", "n_active", "max_cosine")


@dataclass(frozen=True)
class Insertions:
    """Effect of every latent of the larger SAE on the smaller one, and its max cosine.

    Attributes
    ----------
    delta_mse : (d_large) float64
        MSE of the smaller SAE plus the latent minus that of the smaller SAE: a mean over tokens
        and over d_model, in squared units of the activations.
    standard_error : (d_large) float64
        Of `delta_mse` over the eval tokens, clustered by sequence; NaN for a single sequence.
    n_active : (d_large) int64
        Eval tokens on which the latent is active. Where it is 0 there is no measured effect.
    max_cosine : (d_large) float32
        To any latent of the smaller SAE (left side of Eq. 6).
    mse_small, mse_large : float
        Of the two SAEs themselves.
    n_tokens : int
        Eval tokens.

    Raises
    ------
    StudyError
        If the arrays differ in length.
    """

    delta_mse: Float[np.ndarray, " d_large"]
    standard_error: Float[np.ndarray, " d_large"]
    n_active: Int[np.ndarray, " d_large"]
    max_cosine: Float[np.ndarray, " d_large"]
    mse_small: float
    mse_large: float
    n_tokens: int

    def __post_init__(self) -> None:
        shapes = {name: np.shape(getattr(self, name)) for name in _OF_LATENTS}
        if len(set(shapes.values())) != 1 or len(shapes["delta_mse"]) != 1:
            found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise StudyError(
                f"insertions: {found} must be one value a latent of the same larger SAE; "
                "delete the insertions and run again"
            )


def insertion_effects(
    pair: EvalPair, similarity: Similarity, label: str = "insertions"
) -> Insertions:
    """MSE(small plus i) − MSE(small) for every latent i of the larger SAE, exactly (Figure 4).

    The bias is mixed for ``|L0| = d_small`` and ``|L1| = 1`` (Eq. 5). No latent is left out and
    none is sampled: all effects together take one pass over the codes.

    Parameters
    ----------
    pair
        The two SAEs and the eval tokens.
    similarity
        Of the same two SAEs; its max cosines go with the effects.
    label
        Names the work in the log.

    Raises
    ------
    StudyError
        If the similarity is that of SAEs of other sizes.

    Examples
    --------
    The smaller SAE has the first direction, the larger one both. The second is novel, and with
    it nothing is left to explain; the first would be there twice.

    >>> import torch
    >>> from sae_stitching import SAE, EvalPair, insertion_effects, similarity
    >>> def identity(d_sae):
    ...     W = torch.eye(2)[:d_sae]
    ...     return SAE(W.T, W, torch.zeros(d_sae), torch.zeros(2), "relu")
    >>> small, large = identity(1), identity(2)
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    >>> pair = EvalPair.in_memory(small, large, x, sequence=torch.tensor([0, 0, 1, 1]))
    >>> found = insertion_effects(pair, similarity(small.W_dec, large.W_dec, floor=0.0))
    >>> found.mse_small, found.delta_mse.tolist(), found.max_cosine.tolist()
    (0.25, [0.25, -0.25], [1.0, 0.0])
    """
    from sae_stitching.stitching.effects import independent_effects

    d_small, d_large = pair.small.d_sae, pair.large.d_sae
    similarity.check_sizes(d_small, d_large)
    operations = Operations.insertions(np.arange(d_large), d_small, d_large)
    effects = independent_effects(pair, operations, label)
    return Insertions(
        effects.delta_mse,
        effects.standard_error,
        effects.n_active,
        similarity.max_cosine_large,
        effects.mse_small,
        effects.mse_large,
        effects.n_tokens,
    )


def write_insertions(
    insertions: Insertions,
    path: str | Path,
    *,
    study: str,
    provenance: Mapping[str, Any],
) -> None:
    """Write ``stitching/insertions/<small>--<large>.h5``."""
    with write_hdf5(path, format="insertions", study=study, provenance=provenance) as file:
        for name in _OF_LATENTS:
            file[name] = getattr(insertions, name)
        for name in ("mse_small", "mse_large", "n_tokens"):
            file.attrs[name] = getattr(insertions, name)


def load_insertions(path: str | Path, *, study: str | None = None) -> Insertions:
    """Read ``stitching/insertions/<small>--<large>.h5``.

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
    with read_hdf5(path, format="insertions", study=study) as file:
        arrays = [file[name][...] for name in _OF_LATENTS]
        mse_small, mse_large = float(file.attrs["mse_small"]), float(file.attrs["mse_large"])
        n_tokens = int(file.attrs["n_tokens"])
    try:
        return Insertions(*arrays, mse_small=mse_small, mse_large=mse_large, n_tokens=n_tokens)
    except StudyError as error:
        raise StudyError(f"{path}: {error}") from error
