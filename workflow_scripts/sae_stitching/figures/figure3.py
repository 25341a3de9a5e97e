"""Figure 3: the stitching operation, on a connected subgraph of the study."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sae_stitching.figures.bipartite import draw_family
from sae_stitching.figures.style import (
    GUIDE,
    LARGER_SAE,
    PAGE_WIDTH,
    SMALL,
    SMALLER_SAE,
    Pair,
    sae_label,
    style,
)
from sae_stitching.matching.latent_families import Family, component_sizes
from sae_stitching.matching.subgraphs import Subgraphs
from sae_stitching.stitching.swaps import Swaps

LATENTS = 3, 4
"""Latents of the smaller and of the larger SAE in the subgraph that is drawn, at most."""


def example_component(graph: Subgraphs) -> int | None:
    """Choose a subgraph to show: one that grows in the larger SAE, and has the most latents.

    None with more than `LATENTS`, and of equals the first. Where all have more, the one of the
    fewest; where there is no subgraph, None.
    """
    if graph.n_components == 0:
        return None
    n_small, n_large = component_sizes(graph)
    total = n_small + n_large
    fits = (n_small <= LATENTS[0]) & (n_large <= LATENTS[1])
    if not fits.any():
        return int(np.argmin(total))
    return int(np.argmax(np.where(fits, total + sum(LATENTS) * (n_large > n_small), -1)))


def figure3_table(family: Family | None, swaps: Swaps) -> pd.DataFrame:
    """List the edges of the subgraph, and what swapping it does.

    Returns
    -------
    pandas.DataFrame
        One row an edge: ``component``, ``latent_small``, ``latent_large``, ``cosine``; and
        ``delta_mse``, ``standard_error``, ``delta_l0`` of the swap on each.
    """
    columns = ["component", "latent_small", "latent_large", "cosine", "delta_mse",
               "standard_error", "delta_l0"]  # fmt: skip
    if family is None:
        return pd.DataFrame(columns=pd.Index(columns))
    c = family.component
    return pd.DataFrame(
        {
            "component": c,
            "latent_small": family.small[family.edges[:, 0]],
            "latent_large": family.large[family.edges[:, 1]],
            "cosine": family.cosine,
            "delta_mse": swaps.delta_mse[c],
            "standard_error": swaps.standard_error[c],
            "delta_l0": swaps.delta_l0[c],
        }
    )


@style()
def figure3(
    family: Family | None, swaps: Swaps, pair: Pair, sizes: tuple[int, int], theta: float
) -> Figure:
    """Draw the subgraph with its cosines, left, and the SAE before and after the swap, right.

    Parameters
    ----------
    family
        The subgraph, or None where the study has none.
    swaps
        Of the pair.
    pair
        Names of the smaller and the larger SAE.
    sizes
        Their d_sae.
    theta
        θ of the pair.
    """
    figure = Figure(figsize=(PAGE_WIDTH, 2.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.25))
    for panel in (left, right):
        panel.set_axis_off()
    left.set_title(f"Connected subgraph, cosine ≥ {theta:.3g}", fontsize=8)
    right.set_title("Swap in the stitched SAE", fontsize=8)
    if family is None:
        left.text(0.5, 0.5, "no two latents are this similar", ha="center", va="center")
        return figure
    _subgraph(left, family, pair, theta)
    _swap(right, family, swaps, pair, sizes)
    return figure


def _subgraph(panel: Axes, family: Family, pair: Pair, theta: float) -> None:
    above, below = draw_family(panel, family, 0.0, 1.0, spacing=1.0, drop=1.0, size=9, theta=theta)
    for x, y, latents, offset in ((above, 1.0, family.small, 9), (below, 0.0, family.large, -9)):
        for at, latent in zip(x, latents, strict=True):
            panel.annotate(
                f"{latent}", (at, y), xytext=(0, offset), textcoords="offset points",
                ha="center", va="center", fontsize=SMALL, gid="latent",
            )  # fmt: skip
    for number, ((i, j), cosine) in enumerate(zip(family.edges, family.cosine, strict=True)):
        # At different heights, so that labels of crossing edges do not meet.
        part = (0.5, 0.32, 0.68)[number % 3]
        panel.text(
            float(below[j] + part * (above[i] - below[j])), part, f"{cosine:.2f}", ha="center",
            va="center", fontsize=SMALL - 0.5, gid="cosine",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
        )  # fmt: skip
    widest = max(len(family.small), len(family.large))
    edge = -(widest - 1) / 2 - 0.55
    for y, name, colour in ((1.0, pair[0], SMALLER_SAE), (0.0, pair[1], LARGER_SAE)):
        panel.text(edge, y, sae_label(name), ha="right", va="center", color=colour, fontsize=8)
    panel.set_xlim(edge - 1.3, (widest - 1) / 2 + 0.5)
    panel.set_ylim(-0.4, 1.4)


def _swap(panel: Axes, family: Family, swaps: Swaps, pair: Pair, sizes: tuple[int, int]) -> None:
    n_out, n_in = len(family.small), len(family.large)
    others = sizes[0] - n_out
    start = 4.2
    for y, latents, colour, name in (
        (1.0, family.small, SMALLER_SAE, pair[0]),
        (0.0, family.large, LARGER_SAE, pair[1]),
    ):
        panel.text(0, y, "before" if y else "after", ha="left", va="center", fontsize=8)
        panel.text(
            start - 0.45, y, f"{others:,} others of\n{sae_label(pair[0])}  +", ha="right",
            va="center", fontsize=SMALL, color=SMALLER_SAE,
        )  # fmt: skip
        x = start + np.arange(len(latents), dtype=np.float64)
        panel.plot(
            x, np.full(len(x), y), linestyle="", marker="o", markersize=9, color=colour,
            markeredgewidth=0, gid="after" if y == 0 else "before",
        )  # fmt: skip
        for at, latent in zip(x, latents, strict=True):
            panel.annotate(
                f"{latent}", (at, y), xytext=(0, 9 if y else -9), textcoords="offset points",
                ha="center", va="center", fontsize=SMALL,
            )  # fmt: skip
        panel.text(x[-1] + 0.4, y, f"of {sae_label(name)}", va="center", fontsize=SMALL,
                   color=colour)  # fmt: skip
    panel.annotate(
        "", (start, 0.22), (start, 0.78),
        arrowprops={"arrowstyle": "-|>", "color": GUIDE, "linewidth": 0.9},
    )  # fmt: skip
    c = family.component
    effects = (
        f"MSE {_signed(100 * swaps.delta_mse[c] / swaps.mse_small, 2)} %, "
        f"L0 {_signed(100 * swaps.delta_l0[c] / swaps.l0_small, 2)} %"
    )
    panel.text(start + 0.3, 0.5, effects, va="center", fontsize=SMALL, gid="effect")
    panel.set_xlim(0, start + max(n_out, n_in, 3) + 1.6)
    panel.set_ylim(-0.4, 1.4)


def _signed(value: float, digits: int) -> str:
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")
