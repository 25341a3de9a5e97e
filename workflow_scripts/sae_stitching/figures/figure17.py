"""Figure 17: MSE of each SAE with the decoder bias of every other."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from sae_stitching.figures.matrix import cell_size, colour_bar, draw_matrix
from sae_stitching.figures.style import COLUMN_WIDTH, PAGE_WIDTH, SMALL, style

_COLUMNS = ["sae", "bias_of", "mse", "change_percent", "cosine", "norm_ratio"]


def figure17_table(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Lay out what `bias_exchange` found, one row a cell."""
    return pd.DataFrame([dict(row) for row in rows], columns=pd.Index(_COLUMNS))


@style()
def figure17(table: pd.DataFrame) -> Figure:
    """Draw the MSEs as a matrix, coloured by the change against each SAE's own bias.

    Parameters
    ----------
    table
        From `figure17_table`.
    """
    names = [str(name) for name in dict.fromkeys(table["sae"])]
    mse, change = (
        table.pivot(index="sae", columns="bias_of", values=value)
        .reindex(index=names, columns=names)
        .to_numpy(np.float64)
        for value in ("mse", "change_percent")
    )
    cell = cell_size(len(names), PAGE_WIDTH - 1.8)
    width = max(COLUMN_WIDTH, cell * len(names) + 1.8)
    figure = Figure(figsize=(width, max(1.9, 0.75 * cell * len(names) + 1.0)), layout="constrained")
    panel = figure.add_subplot()
    highest = float(np.nanmax(change, initial=0.0))
    lowest = min(0.0, float(np.nanmin(change, initial=0.0)))
    percent = Normalize(lowest, highest if highest > lowest else lowest + 1)
    texts = [[f"{value:#.4g}" for value in row] for row in mse]
    font = min(SMALL, 22 * cell)
    draw_matrix(panel, change, texts, names, names, "cividis", percent, fontsize=font)
    panel.set_ylabel("SAE, with its own latents")
    panel.set_xlabel("decoder bias from")
    panel.set_title("MSE with another SAE's decoder bias", fontsize=8)
    colour_bar(figure, [panel], "cividis", percent, "Change in MSE (%)")
    return figure
