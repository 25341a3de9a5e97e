"""MSE against the threshold θ: all latents with max cosine < θ inserted together (Figure 15).

The lowest point of the curve is the θ that ``stitching.threshold: auto`` takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sae_stitching.base.record import loader, record, stored

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64, Int64

    from sae_stitching.matching.decoder_similarity import Similarity
    from sae_stitching.stitching.effects import EvalPair


@record("threshold", "stitching/threshold/<pair>.h5", derived=("best",))
class ThresholdCurve:
    """The stitched SAE of the smaller one and all novel latents, for every θ that matters."""

    theta: Float32[np.ndarray, " point"]
    """Ascending. The first lies at the smallest max cosine: nothing is inserted."""
    n_inserted: Int64[np.ndarray, " point"] = stored(unit="latents")
    """Latents with max cosine < θ."""
    mse: Float64[np.ndarray, " point"] = stored(unit="activation²")
    """With all of these inserted: a mean over tokens and over d_model."""
    l0: Float64[np.ndarray, " point"] = stored(unit="latents a token")
    """Mean number of active latents."""

    @property
    def best(self) -> float:
        """θ whose novel set, inserted whole, leaves the lowest MSE; the lowest of equals."""
        return self.best_from(-np.inf)

    def best_from(self, floor: float) -> float:
        """The best of the θ that are no less than `floor`, under which no edges are kept."""
        known = self.theta >= np.float32(floor)
        # Where all max cosines are below the floor, all latents are novel from there on.
        return float(self.theta[known][np.argmin(self.mse[known])]) if known.any() else floor


load_threshold_curve = loader("load_threshold_curve", ThresholdCurve)


def threshold_curve(
    pair: EvalPair, similarity: Similarity, label: str = "threshold"
) -> ThresholdCurve:
    """Insert the latents in the order of their max cosine and measure at every distinct one.

    Parameters
    ----------
    pair
        The two SAEs and the eval tokens.
    similarity
        Of the same two SAEs.
    label
        Names the work in the log.

    Raises
    ------
    StudyError
        If the similarity is that of SAEs of other sizes.

    Examples
    --------
    >>> import torch
    >>> from sae_stitching import SAE, EvalPair, similarity, threshold_curve
    >>> def identity(d_sae):
    ...     W = torch.eye(2)[:d_sae]
    ...     return SAE(W.T, W, torch.zeros(d_sae), torch.zeros(2), "relu")
    >>> small, large = identity(1), identity(2)
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> pair = EvalPair.in_memory(small, large, x, sequence=torch.tensor([0, 1]))
    >>> curve = threshold_curve(pair, similarity(small.W_dec, large.W_dec, floor=0.0))
    >>> curve.n_inserted.tolist(), curve.mse.tolist(), curve.best
    ([0, 1, 2], [0.25, 0.0, 0.25], 1.0)
    """
    import torch

    from sae_stitching.stitching.effects import Operations, cumulative_effects

    similarity.check_sizes(pair.small.d_sae, pair.large.d_sae)
    max_cosine = similarity.max_cosine_large
    order = np.argsort(max_cosine, kind="stable")
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    small = torch.full((pair.small.d_sae,), -1)
    path = cumulative_effects(pair, Operations(small, torch.from_numpy(rank), len(rank)), label)
    # Equal cosines fall on the same side of any θ, so only the steps between distinct ones
    # are thresholds: after k insertions θ is the next cosine, and one above all for the last.
    ascending = max_cosine[order]
    theta = np.append(ascending, np.nextafter(ascending[-1], np.float32(2.0)))
    reachable = np.append(True, theta[1:] > theta[:-1])
    return ThresholdCurve(
        theta[reachable],
        np.flatnonzero(reachable),
        path.mse[reachable],
        path.l0[reachable],
    )
