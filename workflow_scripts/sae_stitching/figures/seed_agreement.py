"""Agreement of SAEs that differ in their seed alone, beside that of random directions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sae_stitching.figures.style import GUIDE, PAGE_WIDTH, SMALL, sae_label, sequence_style, style
from sae_stitching.matching.seed_agreement import SHARED_COSINE, Agreement

# Column of the table, marker and name.
_MEASURES = (
    ("share_max_cosine", "o", f"max cosine ≥ {SHARED_COSINE:g}"),
    ("share_matched", "s", f"matched one to one, ≥ {SHARED_COSINE:g}"),
    ("pw_mcc", "D", "PW-MCC"),
)
_GRID = np.linspace(0, 1, 101)
_RANDOM = "random directions"


def agreement_row(found: Agreement, random: Agreement) -> dict[str, float]:
    """Numbers of one comparison, beside those of random directions of the same shape."""
    row = {"theta": SHARED_COSINE}
    for prefix, of in (("", found), ("random_", random)):
        row[f"{prefix}share_max_cosine"] = of.share
        row[f"{prefix}share_matched"] = of.share_matched
        row[f"{prefix}pw_mcc"] = of.pw_mcc
    return row


def agreement_curves(found: Mapping[tuple[str, str], Agreement], random: Agreement) -> pd.DataFrame:
    """Share of latents with at least a cosine, over a grid of cosines.

    Parameters
    ----------
    found
        Of each two SAEs.
    random
        Of random directions, drawn beside them.

    Returns
    -------
    pandas.DataFrame
        Columns ``sae``, ``other``, ``cosine``, ``share_max_cosine``, ``share_matched``.
    """
    parts = []
    for (sae, other), of in [*found.items(), ((_RANDOM, ""), random)]:
        columns: dict[str, Any] = {"sae": sae, "other": other, "cosine": _GRID}
        columns["share_max_cosine"] = _at_least(of.max_cosine)
        columns["share_matched"] = _at_least(of.matched_cosine)
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def _at_least(cosine: np.ndarray) -> np.ndarray:
    if not len(cosine):
        return np.full(len(_GRID), np.nan)
    ordered = np.sort(cosine)
    # Cosines of a direction with itself are 1 up to rounding.
    below = np.searchsorted(ordered, _GRID - 1e-6, side="left")
    return 1 - below / len(ordered)


@style()
def agreement_figure(table: pd.DataFrame, curves: pd.DataFrame) -> Figure:
    """Draw the numbers of every comparison, left, and shares against the cosine, right.

    Parameters
    ----------
    table
        One row a comparison, with ``sae``, ``other`` and what `agreement_row` gives.
    curves
        From `agreement_curves`.
    """
    height = max(2.4, 0.9 + 0.2 * len(table))
    figure = Figure(figsize=(PAGE_WIDTH, height), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.15, 1))
    _numbers(left, table)
    _curves(right, curves)
    return figure


def _numbers(panel: Axes, table: pd.DataFrame) -> None:
    rows = table.to_dict("records")
    for i, row in enumerate(rows):
        panel.axhline(-i, color="#e5e5e5", linewidth=0.6, zorder=0)
        for column, marker, _ in _MEASURES:
            panel.plot(
                row[f"random_{column}"], -i, marker, color="white", markeredgecolor=GUIDE,
                markeredgewidth=0.7, markersize=3.5, gid="random",
            )  # fmt: skip
            panel.plot(
                row[column], -i, marker, color=sequence_style(i)["color"], markersize=4,
                markeredgecolor="black", markeredgewidth=0.4, clip_on=False, gid=column,
            )  # fmt: skip
    names = [f"{sae_label(row['sae'])}, {row['other']}" for row in rows]
    panel.set_yticks([-i for i in range(len(rows))], names, fontsize=SMALL)
    panel.set_ylim(0.6 - len(rows), 0.6)
    panel.set_xlim(0, 1)
    panel.set_xlabel("Agreement (hollow: random directions)")
    marks = [
        Line2D([], [], linestyle="", marker=marker, color=GUIDE, markersize=4)
        for _, marker, _ in _MEASURES
    ]
    panel.legend(
        marks, [name for *_, name in _MEASURES], loc="lower center", bbox_to_anchor=(0.5, 1),
        ncols=3, borderpad=0.1, columnspacing=0.8, handletextpad=0.1,
    )  # fmt: skip


def _curves(panel: Axes, curves: pd.DataFrame) -> None:
    comparisons = dict.fromkeys(zip(curves["sae"], curves["other"], strict=True))
    for i, (sae, other) in enumerate(comparisons):
        rows = curves[(curves["sae"] == sae) & (curves["other"] == other)]
        random = sae == _RANDOM
        colour = GUIDE if random else sequence_style(i)["color"]
        for column, line in (("share_max_cosine", "-"), ("share_matched", "--")):
            panel.plot(
                rows["cosine"], rows[column], linestyle=line, linewidth=0.9, color=colour,
                gid="random" if random else column,
            )  # fmt: skip
    panel.axvline(SHARED_COSINE, color=GUIDE, linewidth=0.6, linestyle=":")
    panel.set_xlim(0, 1)
    panel.set_ylim(0, 1.01)
    panel.set_xlabel("Cosine")
    panel.set_ylabel("Share of latents at least as near")
    panel.legend(
        [Line2D([], [], color=GUIDE, linestyle=line) for line in ("-", "--")],
        ["max cosine", "matched one to one"], loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2,
        borderpad=0.1,
    )  # fmt: skip
