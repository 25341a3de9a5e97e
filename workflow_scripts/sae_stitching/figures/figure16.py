"""Figure 16: share of reconstruction latents, for every two SAEs that are compared."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from sae_stitching.figures.matrix import cell_size, colour_bar, draw_matrix
from sae_stitching.figures.style import (
    COLUMN_WIDTH,
    PAGE_WIDTH,
    RECONSTRUCTION,
    SMALL,
    Pair,
    sae_label,
    style,
)
from sae_stitching.matching.subgraphs import Subgraphs

SEEDS = "seeds of "
"""Begins the name of a group of SAEs that differ in their seed alone."""

_COLOURS, _SHARES = "cividis", Normalize(0, 1)
_COLUMNS = [
    "panel", "sae", "compared_with", "theta", "n_latents", "n_reconstruction", "share"
]  # fmt: skip


def figure16_table(
    subgraphs: Mapping[Pair, Subgraphs], sizes: Mapping[str, int], seeds: Sequence[Sequence[str]]
) -> pd.DataFrame:
    """Count the reconstruction latents of each SAE against each that is not larger.

    Parameters
    ----------
    subgraphs
        Of each pair.
    sizes
        d_sae of every SAE.
    seeds
        Groups of SAEs that differ in their seed alone.

    Returns
    -------
    pandas.DataFrame
        One row a cell: ``panel`` (sizes, or seeds of an SAE's group), ``sae`` whose latents are
        counted, ``compared_with``, ``theta``, ``n_latents``, ``n_reconstruction``, ``share``.
        Two SAEs of one size give two rows, one for the latents of each.
    """
    cells = []
    for (small, large), graph in subgraphs.items():
        sides = [(large, small, graph.component_large)]
        if sizes[small] == sizes[large]:
            sides.append((small, large, graph.component_small))
        group = next((list(g) for g in seeds if small in g and large in g), None)
        panel = "sizes" if group is None else f"{SEEDS}{group[0]}"
        for sae, other, component in sides:
            matched = int(np.count_nonzero(component >= 0))
            row = (panel, sae, other, graph.theta, len(component), matched)
            cells.append((*row, matched / len(component)))
    return pd.DataFrame(cells, columns=pd.Index(_COLUMNS))


@style()
def figure16(table: pd.DataFrame, saes: Sequence[str]) -> Figure:
    """Draw the shares across sizes as a matrix, and across seeds as a dot a comparison.

    Parameters
    ----------
    table
        From `figure16_table`.
    saes
        All SAEs, by size.
    """
    sizes = pd.DataFrame(table[table["panel"] == "sizes"])
    seeds = pd.DataFrame(table[table["panel"] != "sizes"])
    down = [sae for sae in saes if sae in set(sizes["sae"])]
    across = [sae for sae in saes if sae in set(sizes["compared_with"])]
    groups = list(dict.fromkeys(seeds["panel"]))
    side = 2.4 if groups else 0.0  # inches of the dots beside the matrix
    cell = cell_size(len(across), PAGE_WIDTH - side - 1.8)
    matrix_width = max(cell * len(across), 0.6) if across else 0.0
    width = max(COLUMN_WIDTH, side + matrix_width + (1.8 if across else 0.6))
    height = max(1.9, 0.75 * cell * len(down) + 1.0, 0.2 * len(groups) + 0.9)
    figure = Figure(figsize=(width, height), layout="constrained")
    drawn = [name for name, there in (("seeds", groups), ("sizes", across)) if there]
    if not drawn:
        return figure
    ratios = [{"seeds": side - 1.0, "sizes": matrix_width}[name] for name in drawn]
    panels = figure.subplots(1, len(drawn), squeeze=False, width_ratios=ratios)[0]
    for panel, name in zip(panels, drawn, strict=True):
        if name == "seeds":
            _dots(panel, seeds, groups)
        else:
            _matrix(panel, sizes, down, across, min(SMALL, 22 * cell))
            colour_bar(figure, [panel], _COLOURS, _SHARES, "Share of\nreconstruction latents")
    return figure


def _matrix(
    panel: Axes, cells: pd.DataFrame, down: list[str], across: list[str], font: float
) -> None:
    matrix = np.full((len(down), len(across)), np.nan)
    for row in cells.to_dict("records"):
        matrix[down.index(row["sae"]), across.index(row["compared_with"])] = row["share"]
    texts = [[f"{share:.3f}" for share in line] for line in matrix]
    draw_matrix(panel, matrix, texts, down, across, _COLOURS, _SHARES, fontsize=font)
    panel.set_title("across sizes", fontsize=8)
    panel.set_ylabel("SAE whose latents\nare counted")
    panel.set_xlabel("SAE that they are compared with")


def _dots(panel: Axes, seeds: pd.DataFrame, groups: list[str]) -> None:
    for i, group in enumerate(groups):
        shares = seeds.loc[seeds["panel"] == group, "share"]
        panel.plot(
            shares, np.full(len(shares), -i), linestyle="", marker="o", markersize=3.5,
            color=RECONSTRUCTION, markeredgecolor="black", markeredgewidth=0.4, gid="seeds",
        )  # fmt: skip
    panel.set_yticks(
        [-i for i in range(len(groups))],
        [sae_label(group.removeprefix(SEEDS)) for group in groups],
        fontsize=SMALL,
    )
    panel.set_ylim(0.6 - len(groups), 0.4)
    panel.set_xlim(0, 1.02)
    panel.set_xlabel("Share of\nreconstruction latents")
    panel.set_title("across seeds", fontsize=8)
