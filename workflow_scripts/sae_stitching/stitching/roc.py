"""How well the max decoder cosine tells novel latents from reconstruction latents (Figure 13).

A latent of the larger SAE counts as positive if inserting it alone lowers the smaller SAE's
MSE, and is called novel if its max cosine is below a threshold (Eq. 6). The ROC curve runs
over all thresholds.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np

from sae_stitching.base.errors import StudyError
from sae_stitching.base.record import loader, record, stored
from sae_stitching.stitching.insertions import Insertions

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Float64

# Draws held in memory at once by the bootstrap; each takes about 40 bytes on the way.
_DRAWS_PER_BLOCK = 1 << 21

_logger = logging.getLogger(__name__)


@record("roc", "stitching/roc/<pair>.h5")
class NoveltyROC:
    """ROC curve of "max cosine < θ" as a predictor of "the insertion lowers the MSE".

    With one class only, the curve is empty and its summary numbers are NaN.
    """

    fpr: Float64[np.ndarray, " point"]
    """False positive rate, from 0 to 1."""
    tpr: Float64[np.ndarray, " point"]
    """True positive rate, from 0 to 1."""
    thresholds: Float64[np.ndarray, " point"] = stored(name="threshold")
    """θ of each point, ascending: latents with max cosine < θ are novel.

    These are the distinct cosines themselves (and one value above them all), so that the
    point that belongs to any other θ can be told exactly; see `at`.
    """
    auc: float
    """Area under the curve."""
    auc_low: float
    """Lower end of its bootstrap interval."""
    auc_high: float
    """Upper end of its bootstrap interval."""
    theta_best: float
    """θ of the greatest TPR − FPR (Youden's J); midway between the neighbouring cosines."""
    n_positive: int = stored(unit="latents")
    """Latents whose insertion lowers the MSE."""
    n_negative: int = stored(unit="latents")
    """Latents whose insertion does not."""
    n_never_active: int = stored(unit="latents")
    """Latents left out, since they are never active on the eval tokens."""

    @property
    def defined(self) -> bool:
        """Whether both classes are there, so that there is a curve."""
        return self.fpr.size > 0

    def at(self, theta: float) -> tuple[float, float]:
        """Return (FPR, TPR) of calling exactly the latents with max cosine < `theta` novel."""
        if not self.defined or np.isnan(theta):
            return np.nan, np.nan
        point = min(int(np.searchsorted(self.thresholds, theta)), self.thresholds.size - 1)
        return float(self.fpr[point]), float(self.tpr[point])


load_roc = loader("load_roc", NoveltyROC)


def novelty_roc(
    insertions: Insertions,
    *,
    bootstrap_samples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> NoveltyROC:
    """Measure how well the max cosine predicts the sign of the insertion effect (Figure 13).

    Parameters
    ----------
    insertions
        Effect and max cosine of every latent. Latents that are never active are left out.
    bootstrap_samples
        Resamples of the latents behind the interval; 0 for no interval (NaN).
    confidence
        Coverage of the percentile interval, between 0 and 1.
    seed
        Seed of the resampling.

    Returns
    -------
    NoveltyROC
        With one class only (no insertion lowers the MSE, or all do), its curve is empty, its
        summary numbers are NaN, and a warning is logged.

    Raises
    ------
    StudyError
        If `confidence` is not between 0 and 1, or an active latent has an effect or cosine that
        is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from sae_stitching import Insertions, novelty_roc
    >>> delta_mse, max_cosine = np.array([-2.0, -1.0, 1.0, 3.0]), np.array([0.1, 0.6, 0.5, 0.9])
    >>> error, n_active = np.full(4, 0.1), np.full(4, 8)
    >>> roc = novelty_roc(Insertions(delta_mse, error, n_active, max_cosine, 4.0, 3.5, 100))
    >>> roc.auc, roc.at(0.55)
    (0.75, (0.5, 0.5))
    """
    delta_mse, max_cosine, n_active = (
        np.asarray(getattr(insertions, name)) for name in ("delta_mse", "max_cosine", "n_active")
    )
    if not 0 < confidence < 1:
        raise StudyError(f"stitching.confidence: {confidence} is not between 0 and 1")
    active = n_active > 0
    for name, values in (("delta_mse", delta_mse), ("max_cosine", max_cosine)):
        broken = np.flatnonzero(active & ~np.isfinite(values))
        if broken.size:
            raise StudyError(
                f"{name}: latent {broken[0]} is {values[broken[0]]} though it is active; "
                "look for overflow in the activations or the SAE"
            )
    n_never_active = int(np.count_nonzero(~active))
    positive = delta_mse[active] < 0
    cosine = max_cosine[active]
    n_positive = int(np.count_nonzero(positive))
    n_negative = positive.size - n_positive

    if n_positive == 0 or n_negative == 0:
        _logger.warning(
            "ROC and AUC are undefined: inserting a latent lowers the MSE for %d of %d active "
            "latents, so there is one class only",
            n_positive,
            positive.size,
        )
        nan, none = float("nan"), np.empty(0)
        return NoveltyROC(
            none, none, none, nan, nan, nan, nan, n_positive, n_negative, n_never_active
        )

    # Not above: it takes longer to import than most jobs that read a curve take.
    from sklearn.metrics import roc_auc_score, roc_curve

    fpr, tpr, scores = roc_curve(positive, -cosine, drop_intermediate=False)
    # Point k calls the k lowest distinct cosines novel. scikit-learn's rule is cosine <= -score;
    # Eq. 6 is strict, so the θ of a point is the next distinct cosine up.
    distinct = -scores[1:].astype(cosine.dtype)
    above = np.append(distinct, np.nextafter(distinct[-1], np.inf, dtype=distinct.dtype))
    best = int(np.argmax(tpr - fpr))
    theta_best = above[best]
    if 0 < best < distinct.size:
        # In the cosines' own precision, and above the lower neighbour even where the two are
        # next to each other, so that cosine < θ holds for the same latents in any precision.
        middle = distinct[best - 1] + (distinct[best] - distinct[best - 1]) / 2
        if middle > distinct[best - 1]:
            theta_best = middle

    auc_low, auc_high = _bootstrap_interval(positive, cosine, bootstrap_samples, confidence, seed)
    return NoveltyROC(
        fpr=fpr,
        tpr=tpr,
        thresholds=above.astype(np.float64),
        auc=float(roc_auc_score(positive, -cosine)),
        auc_low=auc_low,
        auc_high=auc_high,
        theta_best=float(theta_best),
        n_positive=n_positive,
        n_negative=n_negative,
        n_never_active=n_never_active,
    )


def bootstrap_auc(
    positive: Bool[np.ndarray, " latent"],
    cosine: Float[np.ndarray, " latent"],
    samples: int,
    seed: int,
) -> Float[np.ndarray, " samples"]:
    """Compute the AUC of resamples of the latents, drawn with replacement.

    The AUC is the share of (positive, negative) pairs in which the positive has the lower
    cosine, ties counting half. Given how often each rank is drawn, a cumulative sum counts
    those pairs, with no sort per resample; blocks of resamples keep the memory bounded.

    Parameters
    ----------
    positive
        Whether each latent's insertion lowers the MSE, (latent,) bool.
    cosine
        Max cosine of each latent, (latent,).
    samples
        Number of resamples.
    seed
        Seed; resample k is ``numpy.random.default_rng(seed).integers(n, size=(samples, n))[k]``.

    Returns
    -------
    numpy.ndarray
        (samples,) float64; NaN where a resample has one class only.
    """
    n = positive.size
    levels, rank = np.unique(cosine, return_inverse=True)
    cell = 2 * rank + positive  # one cell for each rank and class
    cells = 2 * levels.size
    generator = np.random.default_rng(seed)
    block = max(1, _DRAWS_PER_BLOCK // n)
    auc = np.empty(samples)
    for start in range(0, samples, block):
        rows = min(block, samples - start)
        drawn = cell[generator.integers(n, size=(rows, n))]
        drawn += cells * np.arange(rows)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=rows * cells).reshape(rows, -1, 2)
        negatives, positives = counts[..., 0], counts[..., 1]
        # Twice the number of pairs won, so that ties stay whole numbers.
        n_negative = negatives.sum(axis=1)
        beaten = 2 * (n_negative[:, None] - np.cumsum(negatives, axis=1)) + negatives
        won = np.einsum("sr,sr->s", positives, beaten)
        pairs = 2 * n_negative * positives.sum(axis=1)
        auc[start : start + rows] = np.where(pairs > 0, won / np.maximum(pairs, 1), np.nan)
    return auc


def _bootstrap_interval(
    positive: np.ndarray, cosine: np.ndarray, samples: int, confidence: float, seed: int
) -> tuple[float, float]:
    if samples < 1:
        return float("nan"), float("nan")
    auc = bootstrap_auc(positive, cosine, samples, seed)
    defined = auc[np.isfinite(auc)]
    if defined.size < samples:
        _logger.warning(
            "%d of %d bootstrap resamples hold one class only and are left out of the AUC's "
            "interval (%d latents lower the MSE, %d do not)",
            samples - defined.size,
            samples,
            np.count_nonzero(positive),
            np.count_nonzero(~positive),
        )
    if defined.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
