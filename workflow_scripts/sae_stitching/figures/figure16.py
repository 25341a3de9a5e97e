"""Figure 16: share of reconstruction latents, for every two SAEs that are compared."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from sae_stitching.figures.matrix import cell_size, colour_bar, draw_matrix
from sae_stitching.figures.style import COLUMN_WIDTH, PAGE_WIDTH, SMALL, Pair, style
from sae_stitching.subgraphs import Subgraphs

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
        panel = "sizes" if group is None else f"seeds of {group[0]}"
        for sae, other, component in sides:
            matched = int(np.count_nonzero(component >= 0))
            row = (panel, sae, other, graph.threshold, len(component), matched)
            cells.append((*row, matched / len(component)))
    return pd.DataFrame(cells, columns=pd.Index(_COLUMNS))


@style()
def figure16(table: pd.DataFrame, saes: Sequence[str]) -> Figure:
    """Draw the shares as matrices: one across seeds for each group of them, one across sizes.

    Parameters
    ----------
    table
        From `figure16_table`.
    saes
        All SAEs, by size.
    """
    shown = [str(panel) for panel in dict.fromkeys(table["panel"])]
    shown.sort(key=lambda panel: panel == "sizes")
    cells = [pd.DataFrame(table[table["panel"] == panel]) for panel in shown]
    rows = [[sae for sae in saes if sae in set(part["sae"])] for part in cells]
    columns = [[sae for sae in saes if sae in set(part["compared_with"])] for part in cells]
    widths = [max(len(names), 2) for names in columns] or [1]
    tallest = max((len(names) for names in rows), default=1)
    cell = cell_size(sum(widths), PAGE_WIDTH - 1.2 * len(widths) - 0.6)
    width = max(COLUMN_WIDTH, min(PAGE_WIDTH, sum(widths) * cell + 1.2 * len(widths) + 0.6))
    figure = Figure(figsize=(width, max(1.9, 0.75 * cell * tallest + 1.0)), layout="constrained")
    if not shown:
        return figure
    shares = Normalize(0, 1)
    axes = figure.subplots(1, len(shown), squeeze=False, width_ratios=widths)[0]
    for panel, name, part, down, across in zip(axes, shown, cells, rows, columns, strict=True):
        matrix = np.full((len(down), len(across)), np.nan)
        for row in part.to_dict("records"):
            matrix[down.index(row["sae"]), across.index(row["compared_with"])] = row["share"]
        texts = [[f"{share:.3f}" for share in line] for line in matrix]
        font = min(SMALL, 22 * cell)
        draw_matrix(panel, matrix, texts, down, across, "cividis", shares, fontsize=font)
        panel.set_title("across sizes" if name == "sizes" else f"across {name}", fontsize=8)
    axes[0].set_ylabel("SAE whose latents\nare counted")
    figure.supxlabel("SAE that they are compared with", fontsize=8)
    colour_bar(figure, list(axes), "cividis", shares, "Share of\nreconstruction latents")
    return figure
