"""Figure 12: latent families, the types of connected subgraphs and how many there are of each."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sae_stitching.figures.bipartite import draw_family, row
from sae_stitching.figures.style import (
    LARGER_SAE,
    PAGE_WIDTH,
    SMALL,
    SMALLER_SAE,
    Pair,
    of_pair,
    sae_label,
    style,
)
from sae_stitching.matching.decoder_similarity import Similarity
from sae_stitching.matching.latent_families import Family, family
from sae_stitching.matching.subgraphs import Subgraphs

DRAWN = 24
"""Types of subgraphs that are drawn for a pair at most."""
LATENTS = 12
"""Latents on one side up to which a subgraph is drawn."""

_SPACING, _DROP, _LINE = 0.16, 0.3, 0.75  # inches


def drawn_types(table: pd.DataFrame) -> pd.DataFrame:
    """Types of one pair that are drawn: single latents first, then by size; not the largest."""
    small = table[(table["n_small"] <= LATENTS) & (table["n_large"] <= LATENTS)]
    total = small["n_small"] + small["n_large"]
    ordered = small.assign(total=total).sort_values(["total", "n_small"], kind="stable")
    return ordered.drop(columns="total").head(DRAWN)


def figure12_table(
    table: pd.DataFrame,
    graphs: Mapping[Pair, Subgraphs],
    similarities: Mapping[Pair, Similarity],
) -> tuple[pd.DataFrame, dict[tuple[Pair, int], Family]]:
    """List the edges of the subgraphs that are drawn, one of each type.

    Parameters
    ----------
    table
        From `latent_families.component_types`.
    graphs, similarities
        Of each pair.

    Returns
    -------
    DataFrame
        One row an edge: ``small``, ``large``, ``n_small``, ``n_large``, ``count`` (subgraphs of
        this type), ``component``, ``latent_small``, ``latent_large``, ``cosine``. Latents that
        stand alone have one row a side, with no component and no cosine.
    dict
        The subgraphs, by pair and number.
    """
    rows, found = [], {}
    for pair, graph in graphs.items():
        types = of_pair(table, pair)
        for kind in drawn_types(types).to_dict("records"):
            shared = {**dict(zip(("small", "large"), pair, strict=True)),
                      **{key: kind[key] for key in ("n_small", "n_large", "count")}}  # fmt: skip
            if pd.isna(kind["example"]):
                rows.append(shared)
                continue
            member = family(int(kind["example"]), graph, similarities[pair])
            found[pair, member.component] = member
            for (i, j), cosine in zip(member.edges, member.cosine, strict=True):
                edge = {"component": member.component, "latent_small": member.small[i],
                        "latent_large": member.large[j], "cosine": cosine}  # fmt: skip
                rows.append({**shared, **edge})
    columns = ["small", "large", "n_small", "n_large", "count", "component", "latent_small",
               "latent_large", "cosine"]  # fmt: skip
    frame = pd.DataFrame(rows, columns=pd.Index(columns))
    whole = ["component", "latent_small", "latent_large"]
    return frame.astype(dict.fromkeys(whole, "Int64")), found


@style()
def figure12(
    table: pd.DataFrame,
    families: Mapping[tuple[Pair, int], Family],
    thetas: Mapping[Pair, float],
) -> Figure:
    """Draw one subgraph of every type with the number of such subgraphs below, a block a pair.

    Parameters
    ----------
    table
        From `latent_families.component_types`.
    families
        From `figure12_table`.
    thetas
        θ of each pair.
    """
    layouts = [_layout(table, pair) for pair in thetas]
    heights = [_LINE * (layout[-1][2] + 1 if layout else 1) for layout in layouts] or [1.0]
    figure = Figure(
        figsize=(PAGE_WIDTH, sum(heights) + 0.3 * len(heights) + 0.3), layout="constrained"
    )
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel in axes:
        panel.set_axis_off()
    for panel, layout, height, (pair, theta) in zip(
        axes, layouts, heights, thetas.items(), strict=False
    ):
        panel.set_xlim(0, PAGE_WIDTH - 0.1)
        panel.set_ylim(0.15 - height, 0.15)
        _draw(panel, layout, families, pair, theta)
        types = of_pair(table, pair)
        hidden = len(types) - len(layout)
        more = f"; {hidden} larger type{'s' if hidden > 1 else ''} not drawn" if hidden else ""
        panel.set_title(
            f"{sae_label(pair[0])} (above) and {sae_label(pair[1])} (below), "
            f"linked where cosine ≥ {theta:.3g}{more}",
            loc="left",
            fontsize=8,
        )
    handles = [
        Line2D([], [], linestyle="", marker="o", markersize=5, color=colour)
        for colour in (SMALLER_SAE, LARGER_SAE)
    ]
    figure.legend(
        handles, ["latent of the smaller SAE", "latent of the larger SAE"],
        loc="outside upper center", ncols=2, handletextpad=0.1, borderpad=0.1,
    )  # fmt: skip
    return figure


def _layout(table: pd.DataFrame, pair: Pair) -> list[tuple[dict, float, int]]:
    """Place the types of a pair in lines: each with its centre, in inches, and its line."""
    types = of_pair(table, pair)
    placed, left, line = [], 0.0, 0
    for kind in drawn_types(types).to_dict("records"):
        width = max(0.5, _SPACING * max(kind["n_small"], kind["n_large"]) + 0.3)
        if left + width > PAGE_WIDTH - 0.1:
            left, line = 0.0, line + 1
        placed.append((kind, left + width / 2, line))
        left += width
    return placed


def _draw(
    panel: Axes,
    layout: list[tuple[dict, float, int]],
    families: Mapping[tuple[Pair, int], Family],
    pair: Pair,
    theta: float,
) -> None:
    for kind, centre, line in layout:
        top = -_LINE * line
        if pd.isna(kind["example"]):
            upper = kind["n_small"] > 0
            colour, y = (SMALLER_SAE, top) if upper else (LARGER_SAE, top - _DROP)
            panel.plot(
                row(1, centre, _SPACING), np.array([y]), linestyle="", marker="o", markersize=5,
                color=colour, markeredgewidth=0, gid="latents",
            )  # fmt: skip
        else:
            draw_family(
                panel, families[pair, int(kind["example"])], centre, top,
                spacing=_SPACING, drop=_DROP, size=5, theta=theta,
            )  # fmt: skip
        panel.text(
            centre, top - _DROP - 0.13, f"{kind['count']:,}", ha="center", va="top",
            fontsize=SMALL, gid="count",
        )  # fmt: skip
