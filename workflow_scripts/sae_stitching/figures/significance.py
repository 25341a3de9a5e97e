"""Which insertion effects differ from zero beyond their standard error, and the AUC on those."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sae_stitching.figures.style import (
    DECREASES_MSE,
    GUIDE,
    INCREASES_MSE,
    PAGE_WIDTH,
    SMALL,
    pair_label,
    style,
)
from sae_stitching.stitching.significance import TESTS

_GROUPS = ("novel", "reconstruction")
_KINDS = {"lower": DECREASES_MSE, "uncertain": "#cccccc", "raise": INCREASES_MSE}
_LABELS = {
    "lower": "lowers the MSE",
    "uncertain": "not told from zero",
    "raise": "raises the MSE",
}
_MARKS = {"none": ("o", "all active latents"), "single": ("s", "certain latents"),
          "fdr": ("D", "certain, false discoveries held")}  # fmt: skip


def significance_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Lay out the rows of `significance.significance_rows` of all pairs."""
    frame = pd.DataFrame([dict(row) for row in rows])
    if frame.empty:
        return frame
    for group in _GROUPS:
        certain = frame[f"n_{group}_lower"] + frame[f"n_{group}_raise"]
        n = frame[f"n_{group}"]
        frame[f"share_{group}_certain"] = (certain / n.where(n > 0)).astype(float)
    return frame


@style()
def significance(table: pd.DataFrame) -> Figure:
    """Draw the shares of certain effects by group, left, and the AUC on them, right.

    Parameters
    ----------
    table
        From `significance_table`.
    """
    pairs = list(dict.fromkeys(zip(table["small"], table["large"], strict=True)))
    confidence = 100 * float(table["confidence"].iloc[0])
    figure = Figure(figsize=(PAGE_WIDTH, 0.95 + 0.42 * len(pairs)), layout="constrained")
    shares, aucs = figure.subplots(1, 2, width_ratios=(1.5, 1))
    ticks, names = [], []
    for i, (small, large) in enumerate(pairs):
        rows = table[(table["small"] == small) & (table["large"] == large)].set_index("test")
        for k, group in enumerate(_GROUPS):
            at = 2.5 * (len(pairs) - i) - k
            _bar(shares, rows.loc["single"].to_dict(), group, at)
            ticks.append(at)
            names.append(f"{pair_label(str(small), str(large))}, {group}")
        _aucs(aucs, rows, 2.5 * (len(pairs) - i) - 0.5)
    limits = 2.5 - 1.75, 2.5 * len(pairs) + 0.75
    shares.set_ylim(*limits)
    shares.set_yticks(ticks, names, fontsize=SMALL)
    shares.set_xlim(0, 100)
    shares.set_xlabel(f"Active latents (%), tested one by one at {confidence:g} %")
    aucs.set_ylim(*limits)
    aucs.set_yticks([])
    aucs.set_xlabel(f"AUC of the max cosine, with {confidence:g} % interval")
    low = float(np.nanmin(table[["auc", "auc_low"]].to_numpy(np.float64), initial=1.0))
    aucs.set_xlim(max(0.0, np.floor(20 * low - 0.2) / 20), 1.005)
    handles = [Patch(color=colour, linewidth=0) for colour in _KINDS.values()]
    shares.legend(
        handles, list(_LABELS.values()), loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3,
        borderpad=0.1, columnspacing=1.0, handlelength=1.2,
    )  # fmt: skip
    marks = [
        Line2D([], [], linestyle="", marker=marker, color=GUIDE, markersize=3.5)
        for marker, _ in _MARKS.values()
    ]
    aucs.legend(
        marks, [label for _, label in _MARKS.values()], loc="lower center",
        bbox_to_anchor=(0.5, 1), ncols=2, borderpad=0.1, columnspacing=0.8, handletextpad=0.1,
    )  # fmt: skip
    return figure


def _bar(panel: Axes, row: Mapping[Any, Any], group: str, at: float) -> None:
    n, left = row[f"n_{group}"], 0.0
    for kind, colour in _KINDS.items():
        count = row[f"n_{group}_{kind}"]
        width = 100 * count / n if n else 0.0
        panel.barh(at, width, 0.8, left, color=colour, linewidth=0, gid=f"{group} {kind}")
        if width > 6:
            panel.text(
                left + width / 2, at, f"{count:,}", ha="center", va="center",
                fontsize=SMALL - 0.5, color="black" if kind == "uncertain" else "white",
            )  # fmt: skip
        left += width
    if n == 0:
        panel.text(1, at, "none", va="center", fontsize=SMALL - 0.5)


def _aucs(panel: Axes, rows: pd.DataFrame, at: float) -> None:
    for k, test in enumerate(TESTS):
        row = rows.loc[test]
        y = at + 0.55 * (1 - k)
        if np.isnan(row["auc"]):
            continue
        if not np.isnan(row["auc_low"]):
            panel.plot(
                (row["auc_low"], row["auc_high"]), (y, y), color=GUIDE, linewidth=0.9, zorder=1
            )
        marker, _ = _MARKS[test]
        panel.plot(
            row["auc"], y, marker=marker, color="black", markersize=3.5, zorder=2, gid="auc",
            linestyle="",
        )  # fmt: skip
