"""The training curves: loss, unexplained variance, settled directions, L0 and dead latents."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

from sae_stitching.figures.style import PAGE_WIDTH, sae_label, sequence_style, style

# Column of the curve, and the axis it is drawn on.
_PANELS = (
    ("loss", "Loss", "log"),
    ("fvu", "FVU", "log"),
    ("settled", "Settled directions", "linear"),
    ("l0", "L0", "log"),
    ("n_dead", "Dead latents", "linear"),
)


def training_curve_table(curves: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Put the training curves below each other, with the SAE's name as first column.

    Parameters
    ----------
    curves
        Of each SAE the rows of ``saes/<sae>.csv``: a training batch every so many steps, with
        ``step``, ``tokens``, ``loss``, ``fvu``, ``l0``, ``n_dead`` and, in some rows, ``settled``.
    """
    named = []
    for name, curve in curves.items():
        rows = curve.copy()
        rows.insert(0, "sae", name)
        named.append(rows)
    return pd.concat(named, ignore_index=True)


@style()
def training_curve(table: pd.DataFrame) -> Figure:
    """Draw what is watched in training against the tokens seen, one line an SAE.

    Loss, FVU and L0 have logarithmic axes: they fall fast at first and the differences that
    matter are small. Settled directions are the share of latents whose decoder direction is where
    it was at half as many tokens: near one, the SAE is done; far below, its latents are not yet
    worth comparing.
    """
    figure = Figure(figsize=(PAGE_WIDTH, 4.0), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True)
    *_, last = panels.flat
    last.set_axis_off()
    names = list(dict.fromkeys(table["sae"]))
    for axes, (column, label, scale) in zip(panels.flat, _PANELS, strict=False):
        for i, name in enumerate(names):
            curve = table[(table["sae"] == name) & table[column].notna()]
            axes.plot(
                curve["tokens"] / 1e6,
                curve[column],
                gid=f"{column} {name}",
                # A line at zero or one would be half behind the axis.
                # (Nor would an empty line without clipping leave the layout room.)
                clip_on=column not in ("n_dead", "settled") or curve.empty,
                marker="o" if column == "settled" else "",
                markersize=2.5,
                **sequence_style(i),
            )
        axes.set_ylabel(label)
        values = table[column].to_numpy()
        if scale == "log" and bool((values > 0).all()):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
        elif column == "settled":
            axes.set_ylim(0, 1)
        elif column == "n_dead":
            axes.set_ylim(bottom=0, top=None if values.any() else 1)
            axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (*panels[1, :-1], panels[0, -1]):
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("Training tokens (millions)")
    figure.suptitle("Training, measured on single training batches", fontsize=8)
    figure.legend(
        [Line2D([], [], **sequence_style(i)) for i in range(len(names))],
        [sae_label(name) for name in names],
        loc="outside lower center",
        ncols=min(len(names), 6),
    )
    return figure
