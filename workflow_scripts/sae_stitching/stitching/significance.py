"""Whether an insertion effect differs from zero beyond its standard error.

A latent's effect is a mean over the eval tokens, with a standard error that is clustered by
sequence. Here it is called certain if a two-sided test of "the effect is zero" rejects: either
each latent by itself at level 1 − confidence, or all of a pair at once with the false discovery
rate held at that level (Benjamini and Hochberg).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import false_discovery_control, norm

from sae_stitching.stitching.insertions import Insertions
from sae_stitching.stitching.roc import novelty_roc

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

TESTS = ("none", "single", "fdr")
"""How certain latents are told: all count, each by itself, or the false discovery rate."""


def p_values(
    delta_mse: Float[np.ndarray, " latent"], standard_error: Float[np.ndarray, " latent"]
) -> Float[np.ndarray, " latent"]:
    """Two-sided p-value of "the effect is zero", from the normal distribution.

    It is 1 where the standard error is unknown (one sequence alone) and the effect zero; an
    effect without any spread over the sequences is certain.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.abs(delta_mse) / standard_error
    return np.where(np.isnan(z), 1.0, 2 * norm.sf(z))


def certain_effects(
    insertions: Insertions, *, confidence: float, test: str
) -> Bool[np.ndarray, " d_large"]:
    """Which active latents have an effect that differs from zero, (d_large) bool.

    Parameters
    ----------
    insertions
    confidence
        1 − the level of the test.
    test
        One of `TESTS`.
    """
    active = insertions.n_active > 0
    if test == "none" or not active.any():
        return active
    p = p_values(insertions.delta_mse[active], insertions.standard_error[active])
    if test == "fdr":
        p = false_discovery_control(p)
    certain = np.zeros_like(active)
    certain[active] = p <= 1 - confidence
    return certain


def significance_rows(
    small: str,
    large: str,
    insertions: Insertions,
    novel: Bool[np.ndarray, " d_large"],
    *,
    confidence: float,
    bootstrap_samples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """Count certain effects and measure the AUC on them, a row for each of `TESTS`.

    Returns
    -------
    list of dict
        ``small``, ``large``, ``test``, ``confidence``; for ``novel`` and ``reconstruction`` the
        number of active latents (``n_<group>``), of those that certainly lower
        (``n_<group>_lower``) and raise the MSE (``n_<group>_raise``), and of the others
        (``n_<group>_uncertain``); and the ``auc`` of the max cosine on the certain latents with
        its bootstrap interval ``auc_low``, ``auc_high``.
    """
    active = insertions.n_active > 0
    lowers = insertions.delta_mse < 0
    rows = []
    for test in TESTS:
        certain = certain_effects(insertions, confidence=confidence, test=test)
        row: dict[str, Any] = {
            "small": small, "large": large, "test": test, "confidence": confidence
        }  # fmt: skip
        for group, members in (("novel", active & novel), ("reconstruction", active & ~novel)):
            row |= {
                f"n_{group}": int(members.sum()),
                f"n_{group}_lower": int((members & certain & lowers).sum()),
                f"n_{group}_raise": int((members & certain & ~lowers).sum()),
                f"n_{group}_uncertain": int((members & ~certain).sum()),
            }
        roc = novelty_roc(
            replace(insertions, n_active=np.where(certain, insertions.n_active, 0)),
            bootstrap_samples=bootstrap_samples,
            confidence=confidence,
            seed=seed,
        )
        rows.append(row | {name: getattr(roc, name) for name in ("auc", "auc_low", "auc_high")})
    return rows
