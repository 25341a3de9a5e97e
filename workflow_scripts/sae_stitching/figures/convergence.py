"""What becomes of the paper's figures as training goes on: every number against the steps."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator, PercentFormatter

from sae_stitching.figures.families import architecture_colours, architecture_label
from sae_stitching.figures.style import GUIDE, PAGE_WIDTH, style

# Columns of the table, one where a pair has one number, two where each SAE has; title; share.
_PANELS: tuple[tuple[tuple[str, ...], str, bool], ...] = (
    (
        ("share_max_cosine_small", "share_max_cosine_large"),
        "Shared by two seeds (max cosine)",
        True,
    ),
    (("pw_mcc_small", "pw_mcc_large"), "PW-MCC of two seeds", False),
    (("settled_small", "settled_large"), "Settled directions", True),
    (("share_novel",), "Novel latents", True),
    (("share_improving",), "Insertions that lower the MSE", True),
    (("auc",), "AUC", False),
    (("theta_best",), "Best θ (greatest TPR − FPR)", False),
    (("overshoot",), "Overshoot of the transition", True),
    (("fvu_small", "fvu_large"), "FVU, held-out tokens", False),
    (("l0_small", "l0_large"), "L0, held-out tokens", False),
)
_LINES = ("-", "--")


@style()
def convergence_figure(table: pd.DataFrame) -> Figure:
    """Draw each number against the tokens seen: a colour an architecture, a line a seed.

    Parameters
    ----------
    table
        From `convergence.convergence`, of one pair of sizes.
    """
    figure = Figure(figsize=(PAGE_WIDTH, 6.6), layout="constrained")
    panels = figure.subplots(4, 3, sharex=True)
    colours = architecture_colours(table["architecture"])
    ages = sorted(set(table["tokens"] / 1e6))
    alike = table.groupby(["architecture", "seed", "d_small", "d_large"], sort=False)
    lines = [(rows["architecture"].iloc[0], rows.sort_values("tokens")) for _, rows in alike]
    for panel, (columns, title, share) in zip(panels.flat, _PANELS, strict=False):
        for architecture, rows in lines:
            for column, line in zip(columns, _LINES, strict=False):
                panel.plot(
                    rows["tokens"] / 1e6, rows[column], line, color=colours[architecture],
                    marker="o", markersize=2.2, linewidth=0.8, gid=f"{column} {architecture}",
                )  # fmt: skip
        _axes(panel, title, share, ages)
    rest = list(panels.flat)[len(_PANELS) :]
    for panel in rest:
        panel.set_axis_off()
    for panel in panels.flat:
        panel.tick_params(labelbottom=True)
    figure.supxlabel("Training tokens (millions)", fontsize=8)
    handles: list[Any] = [
        Line2D([], [], color=colour, label=architecture_label(name))
        for name, colour in colours.items()
    ]
    handles += [
        Line2D([], [], color=GUIDE, linestyle=line, label=label)
        for line, label in zip(_LINES, ("smaller SAE, or the pair", "larger SAE"), strict=True)
    ]
    rest[0].legend(handles=handles, loc="center left")
    return figure


def _axes(panel: Axes, title: str, share: bool, ages: list[float]) -> None:
    panel.set_title(title)
    panel.set_xscale("log")
    # The ages themselves: each is a few times the one before.
    panel.set_xticks(ages, [f"{age:.2g}" for age in ages])
    panel.xaxis.set_minor_locator(NullLocator())
    if share:
        panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panel.set_ylim(bottom=0)
