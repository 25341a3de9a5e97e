"""Figure 5: mean MSE and L0 on the way from the smallest SAE to the largest."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, NullLocator, StrMethodFormatter

from sae_stitching.base.errors import StudyError
from sae_stitching.figures.style import (
    COLUMN_WIDTH,
    GUIDE,
    PAGE_WIDTH,
    SMALL,
    Pair,
    sae_label,
    sequence_style,
    style,
)
from sae_stitching.stitching.transitions import KINDS, Transition

DRAWN = 20_000
"""Points of a panel above which not every operation is drawn."""

_LINES = {
    "insert": {"linewidth": 1.8, "linestyle": "-"},
    "swap": {"linewidth": 1.0, "linestyle": "-"},
    "drop": {"linewidth": 1.0, "linestyle": (0, (1, 1))},
}
_LEGEND = {
    "insert": "novel latents inserted",
    "swap": "subgraphs swapped",
    "drop": "unmatched dropped",
}


def figure5_table(steps: Mapping[Pair, Transition]) -> pd.DataFrame:
    """List every operation of a transition.

    Parameters
    ----------
    steps
        By the names of the smaller and the larger SAE, in order.

    Returns
    -------
    pandas.DataFrame
        ``step``, ``small``, ``large``, ``operation`` (from 0 in each step), ``kind`` (start,
        insert, swap, drop), ``n_latents``, ``mse``, ``l0`` after the operation.

    Raises
    ------
    StudyError
        If the lengths of a step differ, it is empty, or it has a kind that is not known.
    """
    frames = []
    for number, ((small, large), step) in enumerate(steps.items()):
        where = f"transition step {small}--{large}"
        columns = {name: np.asarray(getattr(step, name)) for name in ("n_latents", "mse", "l0")}
        kind = np.asarray(step.kind)
        if len({array.shape for array in (*columns.values(), kind)}) != 1 or kind.size == 0:
            raise StudyError(
                f"{where}: n_latents, mse, l0 and kind are empty or differ in length; "
                "delete the transition and run again"
            )
        if kind.min() < 0 or kind.max() >= len(KINDS):
            raise StudyError(f"{where}: kind holds {kind.max()}, known are 0 to {len(KINDS) - 1}")
        frames.append(
            pd.DataFrame(
                {
                    "step": number,
                    "small": small,
                    "large": large,
                    "operation": np.arange(kind.size),
                    "kind": np.array(KINDS)[kind],
                    **columns,
                }
            )
        )
    if not frames:
        raise StudyError("stitching.transition: no step to draw; name two SAEs or more")
    return pd.concat(frames, ignore_index=True)


@style()
def figure5(table: pd.DataFrame, *, mse_only: bool = False) -> Figure:
    """Draw mean MSE and mean L0 against the number of latents, one colour a step.

    Lines run in the order of the operations, since a swap may lower the number of latents.
    Figure 19 is the same for JumpReLU SAEs, with `mse_only`.

    Parameters
    ----------
    table
        From `figure5_table`.
    mse_only
        Leave out the panel of L0, and mark the MSE of each SAE by a dashed line.
    """
    steps = [step for _, step in table.groupby("step", sort=True)]
    ends = _ends(steps)
    width = COLUMN_WIDTH if len(steps) <= 3 else PAGE_WIDTH
    quantities = {"mse": "Mean MSE"} if mse_only else {"mse": "Mean MSE", "l0": "Mean L0"}
    figure = Figure(figsize=(width, 1.0 + 1.4 * len(quantities)), layout="constrained")
    panels = list(figure.subplots(len(quantities), 1, sharex=True, squeeze=False)[:, 0])
    stride = max(1, -(-len(table) // DRAWN))

    for number, step in enumerate(steps):
        look = sequence_style(number)
        inserted = step[step["kind"].isin(("start", "insert"))]["n_latents"]
        for panel, quantity in zip(panels, quantities, strict=True):
            panel.axvspan(
                inserted.min(),
                inserted.max(),
                color=look["color"],
                alpha=0.13,
                linewidth=0,
                zorder=0,
                gid="insert phase",
            )
            _draw_step(panel, step, quantity, look["color"], stride)

    first, last = ends[0][0], ends[-1][0]
    title = f"Transition from {sae_label(first)} to {sae_label(last)}"
    columns = int(width / COLUMN_WIDTH * 52)
    figure.suptitle(textwrap.fill(title, columns, break_on_hyphens=False), fontsize=8)
    for panel, label in zip(panels, quantities.values(), strict=True):
        panel.set_ylabel(label)
    if mse_only:
        for step in steps:
            for mse in step["mse"].iloc[[0, -1]]:
                panels[0].axhline(mse, color=GUIDE, linewidth=0.6, linestyle="--", gid="SAE MSE")
    _scale_x(panels[-1], table["n_latents"].to_numpy(), ends)
    _name_ends(figure, panels, ends)
    figure.align_ylabels(panels)
    figure.legend(
        *_legend(table),
        loc="outside lower center",
        ncols=3,
        columnspacing=0.9,
        handlelength=1.2,
        handletextpad=0.5,
        borderpad=0.1,
    )
    return figure


def _draw_step(panel: Axes, step: pd.DataFrame, quantity: str, color: str, stride: int) -> None:
    x, y = step["n_latents"].to_numpy(), step[quantity].to_numpy(np.float64)
    kind = step["kind"].to_numpy(str)
    for phase, line in _LINES.items():
        where = np.flatnonzero(kind == phase)
        if where.size == 0:
            continue
        # From the point that the phase starts at; first and last are drawn whatever the stride.
        first, last = max(where[0] - 1, 0), where[-1]
        drawn = np.unique(np.append(np.arange(first, last, stride), last))
        panel.plot(
            x[drawn], y[drawn], color=color, solid_joinstyle="round", gid=phase, zorder=2, **line
        )
    panel.plot(
        x[[0, -1]],
        y[[0, -1]],
        linestyle="",
        marker="o",
        markersize=4,
        markerfacecolor=color,
        markeredgecolor="white",
        markeredgewidth=0.5,
        zorder=3,
        gid="SAEs",
    )


def _ends(steps: Sequence[pd.DataFrame]) -> list[tuple[str, int]]:
    """List the SAEs that the transition passes, with their numbers of latents."""
    ends: dict[str, int] = {}
    for step in steps:
        ends.setdefault(str(step["small"].iloc[0]), int(step["n_latents"].iloc[0]))
        ends.setdefault(str(step["large"].iloc[0]), int(step["n_latents"].iloc[-1]))
    return list(ends.items())


def _scale_x(panel: Axes, n_latents: np.ndarray, ends: Sequence[tuple[str, int]]) -> None:
    """Scale linearly as in the paper, or to powers of two where the sizes span more than 16."""
    low, high = int(n_latents.min()), int(n_latents.max())
    sizes = [size for _, size in ends]
    if max(sizes) <= 16 * min(sizes):
        panel.set_xlabel("Total number of latents")
        panel.set_xlim(low - 0.03 * (high - low or 1), high + 0.03 * (high - low or 1))
        panel.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True))
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        return
    panel.set_xlabel("Total number of latents (log scale)")
    panel.set_xscale("log", base=2)
    pad = (high / low) ** 0.03
    panel.set_xlim(low / pad, high * pad)
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    panel.xaxis.set_minor_locator(NullLocator())


def _name_ends(figure: Figure, panels: Sequence[Axes], ends: Sequence[tuple[str, int]]) -> None:
    """Write the SAEs' names above the panels, in rows where they would touch."""
    low, high = panels[0].get_xlim()
    scale = np.log if panels[0].get_xscale() == "log" else np.asarray
    inches = (figure.get_figwidth() - 0.7) / (scale(high) - scale(low))
    taken: list[float] = []  # right end of the last name in each row, in inches
    for name, n_latents in sorted(ends, key=lambda end: end[1]):
        for panel in panels:
            panel.axvline(n_latents, color=GUIDE, linewidth=0.5, linestyle=":", zorder=1)
        label = sae_label(name)
        half = 0.5 * len(label) * 0.62 * SMALL / 72  # DejaVu Sans: 0.62 em a character or less
        centre = float((scale(n_latents) - scale(low)) * inches)
        rows = (row for row, end in enumerate(taken) if centre - half > end + 0.03)
        row = next(rows, len(taken))
        taken[row : row + 1] = [centre + half]
        panels[0].annotate(
            label,
            (n_latents, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2 + row * 1.25 * SMALL),
            textcoords="offset points",
            ha="center",
            fontsize=SMALL,
            annotation_clip=False,
            gid="SAE",
        )


def _legend(table: pd.DataFrame) -> tuple[list[Any], list[str]]:
    kinds = set(table["kind"])
    handles, labels = [], []
    for phase, label in _LEGEND.items():
        if phase in kinds:
            line = Line2D([], [], color=GUIDE, **_LINES[phase])
            shade = Patch(color=GUIDE, alpha=0.2, linewidth=0)
            handles.append((shade, line) if phase == "insert" else line)
            labels.append(label)
    return handles, labels
