"""Figure 7: histogram of the max decoder cosine, beside that of random directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from scipy.stats import beta

from sae_stitching.figures.style import (
    GUIDE,
    NOVEL,
    RECONSTRUCTION,
    SMALL,
    Pair,
    by_pair,
    pair_label,
    panels,
    style,
)
from sae_stitching.matching.decoder_similarity import at_least

if TYPE_CHECKING:
    from jaxtyping import Float

BINS = 50
_CERTAIN = 0.99


def random_max_cosine_cdf(
    cosine: Float[np.ndarray, " point"], d_model: int, d_small: int
) -> Float[np.ndarray, " point"]:
    """Probability that a random direction's max cosine to `d_small` others is at most `cosine`.

    For independent directions uniform on the sphere, (1 + cosine) / 2 of two of them follows the
    Beta distribution with both parameters (d_model − 1) / 2, and given one direction its cosines
    to the others are independent. So nothing has to be drawn.
    """
    shape = (d_model - 1) / 2
    if shape == 0:  # a line: every cosine is −1 or 1
        return np.where(np.asarray(cosine) >= 1, 1.0, np.where(cosine < -1, 0.0, 0.5**d_small))
    return beta.cdf((1 + np.asarray(cosine)) / 2, shape, shape) ** d_small


def random_max_cosine_quantile(share: float, d_model: int, d_small: int) -> float:
    """Cosine that `share` of the random directions stay below; see `random_max_cosine_cdf`."""
    shape = (d_model - 1) / 2
    return 1.0 if shape == 0 else float(2 * beta.ppf(share ** (1 / d_small), shape, shape) - 1)


def figure7_table(
    cosines: Mapping[Pair, Float[np.ndarray, " d_large"]],
    thetas: Mapping[Pair, float],
    d_small: Mapping[Pair, int],
    d_model: int,
) -> pd.DataFrame:
    """Count the latents of the larger SAE by their max cosine, and expect the same of random ones.

    Parameters
    ----------
    cosines
        Max cosine of each latent of the larger SAE to the smaller, for each pair.
    thetas
        θ of each pair.
    d_small
        Latents of each pair's smaller SAE.
    d_model
        Size of the decoder directions.

    Returns
    -------
    pandas.DataFrame
        One row a bin: ``small``, ``large``, ``low``, ``high`` (a cosine c is counted where
        low < c ≤ high), ``n_novel``, ``n_reconstruction``, ``n_random`` (expected, for as many
        random directions as the larger SAE has latents, against as many as the smaller has),
        ``theta``, and ``random_99``, below which 99 % of the random directions stay.
    """
    frames = [pd.DataFrame(columns=pd.Index(_COLUMNS))] if not cosines else []
    for (small, large), cosine in cosines.items():
        theta, size = thetas[small, large], d_small[small, large]
        low = min(0.0, float(np.floor(10 * cosine.min(initial=0.0)) / 10))
        edges = np.linspace(low, 1, BINS + 1)
        # Rounding may bring a cosine a little above 1.
        bins = np.clip(np.searchsorted(edges, cosine, side="left") - 1, 0, BINS - 1)
        novel = ~at_least(cosine, theta)
        cdf = random_max_cosine_cdf(edges, d_model, size)
        cdf[0] = 0.0  # what lies below the first bin is counted in it, as above
        frames.append(
            pd.DataFrame(
                {
                    "small": small,
                    "large": large,
                    "low": edges[:-1],
                    "high": edges[1:],
                    "n_novel": np.bincount(bins[novel], minlength=BINS),
                    "n_reconstruction": np.bincount(bins[~novel], minlength=BINS),
                    "n_random": len(cosine) * np.diff(cdf),
                    "theta": theta,
                    "random_99": random_max_cosine_quantile(_CERTAIN, d_model, size),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


_COLUMNS = [
    "small", "large", "low", "high", "n_novel", "n_reconstruction", "n_random", "theta", "random_99"
]  # fmt: skip


@style()
def figure7(table: pd.DataFrame) -> Figure:
    """Draw one histogram a pair, novel and reconstruction latents stacked.

    Parameters
    ----------
    table
        From `figure7_table`.
    """
    groups = by_pair(table)
    figure, axes = panels(len(groups), 2.0, extra=0.4)
    for panel, ((small, large), rows) in zip(axes, groups, strict=True):
        _draw(panel, rows)
        panel.set_title(pair_label(small, large), fontsize=8)
    figure.supxlabel("Max cosine with a decoder direction of the smaller SAE", fontsize=8)
    figure.supylabel("Latents of the larger SAE", fontsize=8)
    handles = [
        Patch(color=NOVEL, linewidth=0),
        Patch(color=RECONSTRUCTION, linewidth=0),
        Line2D([], [], color=GUIDE, linewidth=1.0),
    ]
    labels = ["novel", "reconstruction", "expected of random directions"]
    columns = 3 if len(groups) > 1 else 2
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, borderpad=0.1)
    return figure


def _draw(panel: Axes, rows: pd.DataFrame) -> None:
    low, width = rows["low"].to_numpy(), (rows["high"] - rows["low"]).to_numpy()
    novel, found = rows["n_novel"].to_numpy(), rows["n_reconstruction"].to_numpy()
    panel.bar(low, novel, width, align="edge", color=NOVEL, linewidth=0, gid="novel")
    panel.bar(
        low, found, width, novel, align="edge", color=RECONSTRUCTION, linewidth=0,
        gid="reconstruction",
    )  # fmt: skip
    random = rows["n_random"].to_numpy(np.float64)
    edges = np.append(low, rows["high"].to_numpy()[-1])
    panel.stairs(random, edges, color=GUIDE, linewidth=1.0, gid="random")
    # The random directions lie in a few bins, and would flatten the latents to a line.
    top = 1.25 * max(1, int((novel + found).max()))
    panel.set_ylim(0, top)
    panel.set_xlim(edges[0], 1)
    if random.max() > top:
        peak = low[np.argmax(random)] + width[0] / 2
        panel.annotate(
            f"up to {random.max():,.0f}",
            (peak, 1),
            xycoords=("data", "axes fraction"),
            xytext=(9, -2),
            textcoords="offset points",
            va="top",
            fontsize=SMALL - 0.5,
            color=GUIDE,
        )
    theta = float(rows["theta"].iloc[0])
    panel.axvline(theta, color=GUIDE, linestyle="--", linewidth=0.8, gid="theta")
    panel.annotate(
        f"θ = {theta:.3g} ",
        (theta, 1),
        xycoords=("data", "axes fraction"),
        xytext=(-2, -2),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=SMALL - 0.5,
    )
