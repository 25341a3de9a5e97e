"""Figure 8: cosine of two latents' decoder directions against that of their activations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sae_stitching.figures.style import (
    BLUE,
    GUIDE,
    RASTERISE_ABOVE,
    SMALL,
    Pair,
    of_pair,
    pair_label,
    panels,
    style,
)
from sae_stitching.matching.activation_similarity import ActivationSimilarity

if TYPE_CHECKING:
    from jaxtyping import Float

FITTED_ABOVE = 0.5
"""Decoder cosine above which R² is taken, as in the paper."""
POINTS = 10_000
"""Pairs of latents of one panel that are drawn and listed at most."""


def r_squared(
    decoder_cosine: Float[np.ndarray, " pair"], activation_cosine: Float[np.ndarray, " pair"]
) -> tuple[float, int]:
    """R² of a straight line through the pairs with decoder cosine above `FITTED_ABOVE`.

    Returns
    -------
    r_squared : float
        NaN where fewer than three pairs, or none that differ, are left.
    n : int
        Pairs that it is taken over.
    """
    chosen = (decoder_cosine > FITTED_ABOVE) & np.isfinite(activation_cosine)
    x, y = decoder_cosine[chosen].astype(np.float64), activation_cosine[chosen]
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan"), len(x)
    return float(np.corrcoef(x, y)[0, 1] ** 2), len(x)


def figure8_table(found: Mapping[Pair, ActivationSimilarity]) -> pd.DataFrame:
    """List pairs of latents with both cosines; of very many, every k-th.

    Returns
    -------
    pandas.DataFrame
        ``small``, ``large``, ``latent_small``, ``latent_large``, ``decoder_cosine``,
        ``activation_cosine``; and for the whole pair of SAEs ``n_pairs`` (of latents that both
        fire, at or above the floor of the similarity), ``n_fitted`` and ``r_squared``, over all
        pairs with decoder cosine above `FITTED_ABOVE`.
    """
    columns = [
        "small", "large", "latent_small", "latent_large", "decoder_cosine", "activation_cosine",
        "n_pairs", "n_fitted", "r_squared",
    ]  # fmt: skip
    frames = [pd.DataFrame(columns=pd.Index(columns))] if not found else []
    for (small, large), cosines in found.items():
        r2, n_fitted = r_squared(cosines.decoder_cosine, cosines.activation_cosine)
        fires = np.flatnonzero(np.isfinite(cosines.activation_cosine))
        shown = fires[:: max(1, -(-len(fires) // POINTS))]
        frames.append(
            pd.DataFrame(
                {
                    "small": small,
                    "large": large,
                    "latent_small": cosines.small[shown],
                    "latent_large": cosines.large[shown],
                    "decoder_cosine": cosines.decoder_cosine[shown],
                    "activation_cosine": cosines.activation_cosine[shown],
                    "n_pairs": len(fires),
                    "n_fitted": n_fitted,
                    "r_squared": r2,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


@style()
def figure8(table: pd.DataFrame, pairs: list[Pair]) -> Figure:
    """Draw one scatter a pair of SAEs, a dot a pair of latents.

    Parameters
    ----------
    table
        From `figure8_table`.
    pairs
        Pairs of SAEs, those without a dot among them.
    """
    figure, axes = panels(len(pairs), 2.5, extra=0.2, sharex=True, sharey=True)
    for panel, (small, large) in zip(axes, pairs, strict=True):
        rows = of_pair(table, (small, large))
        panel.plot((-1, 1), (-1, 1), color=GUIDE, linewidth=0.6, linestyle=":", zorder=1)
        panel.axvline(FITTED_ABOVE, color=GUIDE, linewidth=0.6, linestyle="--", zorder=1)
        panel.scatter(
            rows["decoder_cosine"],
            rows["activation_cosine"],
            s=2.5,
            color=BLUE,
            alpha=0.35,
            linewidths=0,
            rasterized=len(table) > RASTERISE_ABOVE // 4,
            gid="latents",
        )
        panel.set_title(f"{pair_label(small, large)}\n{_note(rows)}", fontsize=SMALL)
        panel.set_box_aspect(1)
    # Nothing lies below the floor of the similarity.
    left = float(table["decoder_cosine"].to_numpy(np.float64).min(initial=FITTED_ABOVE)) - 0.02
    for panel in axes:
        panel.set_xlim(left, 1.01)
        panel.set_ylim(-0.01, 1.01)
    figure.supxlabel("Cosine of the decoder directions", fontsize=8)
    figure.supylabel("Cosine of the activations", fontsize=8)
    return figure


def _note(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "no pair of latents above the floor"
    n, fitted, r2 = (rows[name].iloc[0] for name in ("n_pairs", "n_fitted", "r_squared"))
    said = "undefined" if np.isnan(r2) else f"{r2:.2f}"
    shown = "" if len(rows) == n else f"\n{len(rows):,} of {n:,} drawn"
    return f"R² {said}, {fitted:,} pairs above {FITTED_ABOVE:g}{shown}"
