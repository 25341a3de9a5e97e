"""Figure 15: MSE while latents are inserted in random order, below θ and above it."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

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
from sae_stitching.stitching.random_insertion import GROUPS, RandomInsertion

POINTS = 500
"""Points of a curve that are kept."""
HIGHEST = 100.0
"""Change in percent above which curves leave the frame, as in the paper."""

_COLUMNS = [
    "small", "large", "theta", "group", "n_added", "percent_mean", "percent_low", "percent_high",
    "n_orders",
]  # fmt: skip
_COLOURS = dict(zip(GROUPS, (NOVEL, RECONSTRUCTION), strict=True))
_LINES = dict(zip(GROUPS, ("-", "--"), strict=True))


def figure15_table(
    insertions: Mapping[Pair, RandomInsertion], thetas: Mapping[Pair, float]
) -> pd.DataFrame:
    """Summarise the random orders: change in MSE after a number of insertions.

    Returns
    -------
    pandas.DataFrame
        ``small``, ``large``, ``theta``, ``group`` (novel: max cosine < θ, or reconstruction),
        ``n_added``, ``percent_mean``, ``percent_low``, ``percent_high`` (mean, least and greatest
        of the orders, in percent of the smaller SAE's MSE), ``n_orders``. At most `POINTS` rows a
        curve, the first and the last insertion among them.
    """
    frames = [pd.DataFrame(columns=pd.Index(_COLUMNS))] if not insertions else []
    for (small, large), found in insertions.items():
        for group in GROUPS:
            mse = getattr(found, group)
            at = np.unique(np.linspace(0, mse.shape[1] - 1, POINTS).round().astype(int))
            percent = 100 * (mse[:, at] / mse[:, :1] - 1)
            frames.append(
                pd.DataFrame(
                    {
                        "small": small,
                        "large": large,
                        "theta": thetas[small, large],
                        "group": group,
                        "n_added": at,
                        "percent_mean": percent.mean(0),
                        "percent_low": percent.min(0),
                        "percent_high": percent.max(0),
                        "n_orders": len(mse),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


@style()
def figure15(table: pd.DataFrame) -> Figure:
    """Draw one panel a pair: mean over the orders as a line, their range as a band.

    Parameters
    ----------
    table
        From `figure15_table`.
    """
    groups = by_pair(table)
    figure, axes = panels(len(groups), 1.9, extra=0.4)
    for panel, ((small, large), rows) in zip(axes, groups, strict=True):
        _draw(panel, rows)
        theta = float(rows["theta"].iloc[0])
        panel.set_title(f"{pair_label(small, large)}, θ = {theta:.3g}", fontsize=8)
    figure.supxlabel("Latents of the larger SAE added to the smaller", fontsize=8)
    figure.supylabel("Change in MSE (%)", fontsize=8)
    handles = [
        Line2D([], [], color=_COLOURS[g], linestyle=_LINES[g], linewidth=1.4) for g in GROUPS
    ]
    labels = ["novel (below θ)", "reconstruction (above θ)"]
    figure.legend(handles, labels, loc="outside upper center", ncols=2, borderpad=0.1)
    return figure


def _draw(panel: Axes, rows: pd.DataFrame) -> None:
    panel.axhline(0, color=GUIDE, linewidth=0.6, zorder=1)
    ends = []
    for group in GROUPS:
        curve = pd.DataFrame(rows[rows["group"] == group])
        x = curve["n_added"].to_numpy()
        mean, low, high = (curve[f"percent_{name}"].to_numpy() for name in ("mean", "low", "high"))
        look = {"color": _COLOURS[group], "linestyle": _LINES[group], "linewidth": 1.4}
        panel.fill_between(x, low, high, color=_COLOURS[group], alpha=0.3, linewidth=0)
        panel.plot(x, mean, gid=group, zorder=3, **look)
        ends.append((x[-1], mean[-1]))
    values = rows[["percent_low", "percent_high"]].to_numpy()
    lowest, highest = float(values.min()), float(values.max())
    top = min(highest, HIGHEST)
    margin = 0.05 * (top - lowest or 1)
    panel.set_ylim(lowest - margin, top + margin)
    beyond = [f"{value:+,.0f} %" for _, value in ends if value > HIGHEST]
    if beyond:
        panel.annotate(
            "ends at " + " and ".join(beyond),
            (0.98, 0.97),
            xycoords="axes fraction",
            ha="right",
            va="top",
            fontsize=SMALL - 0.5,
        )
