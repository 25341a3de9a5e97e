"""Families of SAEs side by side: what holds for one architecture, and what for the others."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter, StrMethodFormatter

from sae_stitching.base.errors import StudyError
from sae_stitching.figures.style import (
    COLUMN_WIDTH,
    GUIDE,
    PAGE_WIDTH,
    SEQUENCE,
    sae_label,
    style,
)

PANELS = {
    "share_novel": "Novel latents",
    "share_improving": "Insertions that lower the MSE",
    "auc": "AUC",
    "theta_best": "Best θ (greatest TPR − FPR)",
    "theta_lowest_mse": "θ of lowest MSE",
    "median_max_cosine": "Median max cosine",
}
"""Columns of the family table that are drawn, a panel each."""

ARCHITECTURE_LABELS = {
    "relu": "ReLU",
    "topk": "TopK",
    "batchtopk": "BatchTopK",
    "jumprelu": "JumpReLU",
    "gated": "Gated",
}

_SHARES = ("share_novel", "share_improving")
_OPACITY = (1.0, 0.45, 0.7, 0.3)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


@style()
def families_figure(table: pd.DataFrame) -> Figure:
    """Draw each quantity of the pairs, a colour an architecture, a marker a seed.

    Parameters
    ----------
    table
        From `tables.families`.

    Raises
    ------
    StudyError
        If the table has no row.
    """
    if table.empty:
        raise StudyError(
            "families: no two SAEs of one architecture and one seed are a pair; set "
            "stitching.pairs: family"
        )
    rows = table.to_dict("records")
    sizes = {(row["d_small"], row["d_large"]) for row in rows}
    places = {pair: n for n, pair in enumerate(sorted(sizes, key=lambda pair: pair[::-1]))}
    colours = architecture_colours(row["architecture"] for row in rows)
    seeds = sorted({row["seed"] for row in rows})
    markers = {seed: _MARKERS[n % len(_MARKERS)] for n, seed in enumerate(seeds)}
    step = 0.7 / len(colours)
    figure = Figure(figsize=(PAGE_WIDTH, 4.4), layout="constrained")
    panels = figure.subplots(2, 3, sharex=True)
    for panel, (column, title) in zip(panels.flat, PANELS.items(), strict=True):
        for row in rows:
            number = list(colours).index(row["architecture"])
            panel.plot(
                places[row["d_small"], row["d_large"]] + (number - (len(colours) - 1) / 2) * step,
                row[column],
                linestyle="",
                marker=markers[row["seed"]],
                markersize=4,
                color=colours[row["architecture"]],
                markeredgecolor="white",
                markeredgewidth=0.4,
                gid=row["architecture"],
            )
        panel.set_title(title)
        for boundary in range(1, len(places)):
            panel.axvline(boundary - 0.5, color=GUIDE, linewidth=0.4, linestyle=":")
        if column in _SHARES:
            panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            panel.set_ylim(0, 1.02)
    for panel in panels[-1]:
        labels = [f"{large}\n→ {small}" for small, large in places]
        panel.set_xticks(range(len(places)), labels)
        panel.set_xlim(-0.5, len(places) - 0.5)
        panel.set_xlabel("Larger → smaller SAE (latents)")
    handles = [
        Line2D(
            [], [], linestyle="", marker="o", color=colour, label=architecture_label(architecture)
        )
        for architecture, colour in colours.items()
    ]
    if len(markers) > 1:
        handles += [
            Line2D([], [], linestyle="", marker=marker, color=GUIDE, label=f"seed {seed}")
            for seed, marker in markers.items()
        ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def family_transitions_table(
    steps: Mapping[tuple[str, int], Sequence[pd.DataFrame]],
) -> pd.DataFrame:
    """List every operation of the steps of all families.

    Parameters
    ----------
    steps
        By architecture and seed, the steps as `figure5_table` lists them.
    """
    frames = []
    for (architecture, seed), parts in steps.items():
        for part in parts:
            frame = part.copy()
            frame.insert(0, "seed", seed)
            frame.insert(0, "architecture", architecture)
            frames.append(frame)
    if not frames:
        raise StudyError("families: no step of a family to draw; set stitching.pairs: family")
    return pd.concat(frames, ignore_index=True)


@style()
def family_transitions_figure(table: pd.DataFrame) -> Figure:
    """Draw the MSE along the transitions, a panel an architecture, a line a seed and step.

    The MSE is that of the stitched SAE over that of the smaller SAE of the step, on one log scale
    for all architectures, so that overshooting by a fifth and by a factor of three both show.

    Parameters
    ----------
    table
        From `family_transitions_table`.
    """
    steps = _steps(table)
    colours = architecture_colours(architecture for architecture, _seed, _columns in steps)
    seeds = sorted({seed for _architecture, seed, _columns in steps})
    figure = Figure(
        figsize=(PAGE_WIDTH if len(colours) > 2 else COLUMN_WIDTH, 2.4), layout="constrained"
    )
    panels = figure.subplots(1, len(colours), sharey=True, squeeze=False)[0]
    for panel, architecture in zip(panels, colours, strict=True):
        for of, seed, columns in steps:
            if of != architecture:
                continue
            look = {
                "color": colours[architecture],
                "alpha": _OPACITY[seeds.index(seed) % len(_OPACITY)],
            }
            n_latents, mse = columns["n_latents"], columns["mse"] / columns["mse"][0]
            panel.plot(n_latents, mse, linewidth=0.9, gid=f"seed {seed}", **look)
            last = np.flatnonzero(np.isin(columns["kind"], ("start", "insert")))[-1]
            panel.plot(
                n_latents[last],
                mse[last],
                linestyle="",
                marker="o",
                markersize=3,
                gid="all novel latents inserted",
                **look,
            )
        panel.axhline(1.0, color=GUIDE, linewidth=0.5, linestyle=":")
        panel.set_title(architecture_label(architecture))
        panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        panel.tick_params(axis="x", rotation=45)
    panels[0].set_yscale("log")
    panels[0].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    panels[0].yaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))
    panels[0].set_ylabel("MSE / MSE of the smaller SAE")
    figure.supxlabel("Number of latents", fontsize=8)
    return figure


def _steps(table: pd.DataFrame) -> list[tuple[str, int, dict[str, np.ndarray]]]:
    """Architecture, seed and columns of each step, in the order of the table."""
    columns = {str(name): table[name].to_numpy() for name in table.columns}
    found: dict[tuple[Any, ...], list[int]] = {}
    keys = (columns[name] for name in ("architecture", "seed", "small", "large"))
    for n, key in enumerate(zip(*keys, strict=True)):
        found.setdefault(key, []).append(n)
    return [
        (str(key[0]), int(key[1]), {name: values[rows] for name, values in columns.items()})
        for key, rows in found.items()
    ]


def architecture_colours(architectures: Iterable[str]) -> dict[str, str]:
    present = set(architectures)
    return {
        name: colour
        for name, colour in zip(ARCHITECTURE_LABELS, SEQUENCE, strict=False)
        if name in present
    }


def architecture_label(architecture: str) -> str:
    return ARCHITECTURE_LABELS.get(architecture, sae_label(architecture))
