"""The paper's published numbers beside the study's own, one panel a quantity."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, StrMethodFormatter

from sae_stitching.figures.style import BLUE, PAGE_WIDTH, SMALL, style

_PANELS = (
    {
        "l0": "L0",
        "mse": "MSE",
        "ce_recovered_zero": "CE recovered (zero)",
        "ce_recovered_mean": "CE recovered (mean)",
    },
    {
        "auc": "AUC of the max cosine",
        "share_reconstruction": "Share of reconstruction latents",
        "subgraphs": "Connected subgraphs",
    },
)
"""Quantities and titles, by row of panels."""

_LINE = 0.135
"""Height of a line, in inches."""

_PUBLISHED = {"marker": "o", "markersize": 5, "markerfacecolor": "none", "markeredgewidth": 0.8}
_STUDY = {"marker": "o", "markersize": 2.6}


@style()
def plot_reproduction(table: pd.DataFrame) -> Figure:
    """Draw the published numbers as rings and the study's as dots, a line a number.

    A quantity that the paper did not publish has no panel; a number that the study lacks is a
    ring without a dot.

    Parameters
    ----------
    table
        From `reproduction.reproduction`.
    """
    values = {name: part for name, part in table.groupby("quantity", sort=False)}
    rows = [[name for name in names if name in values] for names in _PANELS]
    rows = [names for names in rows if names]
    heights = [0.6 + _LINE * max(len(values[name]) for name in names) for names in rows]
    heights.append(0.25)  # the legend
    figure = Figure(figsize=(PAGE_WIDTH, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    for part, names in zip(parts, rows, strict=False):
        titles = next(titles for titles in _PANELS if names[0] in titles)
        panels = part.subplots(1, len(titles), squeeze=False)[0]
        for panel in panels[len(names) :]:
            panel.set_axis_off()
        for panel, name in zip(panels, names, strict=False):
            _draw(panel, values[name])
            panel.set_title(f"{titles[name]}\n{_source(values[name])}", fontsize=SMALL + 0.5)
    parts[-1].legend(
        [
            Line2D([], [], linestyle="", color="black", **_PUBLISHED),
            Line2D([], [], linestyle="", color=BLUE, **_STUDY),
        ],
        ["published", "this study"],
        loc="center",
        ncols=2,
        borderpad=0.1,
    )
    return figure


def _draw(panel: Axes, rows: pd.DataFrame) -> None:
    y = np.arange(len(rows))
    published, study = rows["published"].to_numpy(), rows["study"].to_numpy()
    counts = rows["quantity"].iloc[0] == "subgraphs"
    panel.hlines(y, 0, 1, transform=panel.get_yaxis_transform(), color="#eeeeee", linewidth=0.5)
    panel.hlines(y, rows["study_low"], rows["study_high"], color=BLUE, linewidth=1.0, zorder=2)
    panel.plot(published, y, linestyle="", color="black", zorder=3, gid="published", **_PUBLISHED)
    panel.plot(study, y, linestyle="", color=BLUE, zorder=4, gid="study", **_STUDY)
    if counts:
        # Most are 1, some hundreds, and what the other lacks is 0.
        panel.set_xscale("symlog", linthresh=1)
        panel.set_xlim(-0.3, 3 * max(1.0, np.nanmax([*published, *study])))
        panel.xaxis.set_major_locator(FixedLocator([0, 1, 10, 100, 1000, 10000]))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    else:
        # Never so near that a difference of a hundredth spans the panel.
        low, high = panel.dataLim.intervalx
        pad = max(0.1 * (high - low), 0.05 * (high + low) / 2 - (high - low) / 2)
        panel.set_xlim(low - pad, high + pad)
        panel.xaxis.set_major_locator(MaxNLocator(nbins=3, min_n_ticks=2))
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.set_yticks(y, [_label(row) for row in rows.to_dict("records")])
    panel.tick_params(axis="y", length=0)


def _label(row: dict) -> str:
    if isinstance(row["subgraph"], str):
        return row["subgraph"].replace("-", "\N{EN DASH}")
    return row["sae"] if isinstance(row["sae"], str) else f"{row['large']} → {row['small']}"


def _source(rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    if isinstance(first["subgraph"], str):
        return f"{first['source']}, latents of {first['small']} and {first['large']}"
    return str(first["source"])
