"""Insertion effects: each latent of the larger SAE put into the smaller one alone (Figure 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sae_stitching.base.errors import StudyError
from sae_stitching.base.record import loader, record, stored

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64, Int64

    from sae_stitching.matching.decoder_similarity import Similarity
    from sae_stitching.stitching.effects import EvalPair


@record("insertions", "stitching/insertions/<pair>.h5")
class Insertions:
    """Effect of every latent of the larger SAE on the smaller one, and its max cosine.

    Raises
    ------
    StudyError
        If the arrays differ in length.
    """

    delta_mse: Float64[np.ndarray, " d_large"] = stored(unit="activation²")
    """MSE of the smaller SAE plus the latent minus that of the smaller SAE: a mean over tokens and
    over d_model."""
    standard_error: Float64[np.ndarray, " d_large"] = stored(unit="activation²")
    """Of `delta_mse` over the eval tokens, clustered by sequence; NaN for a single sequence."""
    n_active: Int64[np.ndarray, " d_large"] = stored(unit="tokens")
    """Eval tokens on which the latent is active. Where it is 0 there is no measured effect."""
    max_cosine: Float32[np.ndarray, " d_large"]
    """To any latent of the smaller SAE (left side of Eq. 6)."""
    mse_small: float = stored(unit="activation²")
    """Of the smaller SAE itself."""
    mse_large: float = stored(unit="activation²")
    """Of the larger SAE itself."""
    n_tokens: int = stored(unit="tokens")
    """Eval tokens."""

    def __post_init__(self) -> None:
        names = ("delta_mse", "standard_error", "n_active", "max_cosine")
        shapes = {name: np.shape(getattr(self, name)) for name in names}
        if len(set(shapes.values())) != 1 or len(shapes["delta_mse"]) != 1:
            found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise StudyError(
                f"insertions: {found} must be one value a latent of the same larger SAE; "
                "delete the insertions and run again"
            )


load_insertions = loader("load_insertions", Insertions)


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
    import torch

    from sae_stitching.stitching.effects import Operations, independent_effects

    similarity.check_sizes(pair.small.d_sae, pair.large.d_sae)
    small = torch.full((pair.small.d_sae,), -1)
    operations = Operations(small, torch.arange(pair.large.d_sae), pair.large.d_sae)
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
