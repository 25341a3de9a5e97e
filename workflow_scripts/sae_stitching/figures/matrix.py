"""A matrix of numbers by SAE, as Figures 16 and 17 show them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from sae_stitching.figures.style import SMALL, sae_label


def draw_matrix(
    panel: Axes,
    values: np.ndarray,
    texts: list[list[str]],
    rows: Sequence[str],
    columns: Sequence[str],
    cmap: str,
    norm: Normalize,
    *,
    fontsize: float = SMALL,
) -> None:
    """Draw coloured cells with a text each.

    Parameters
    ----------
    panel
    values : (row, column)
        What the colours stand for; NaN leaves a cell blank.
    texts
        What is written in each cell.
    rows, columns
        Names of SAEs.
    cmap, norm
        Map values to colours.
    fontsize
        Of the texts.
    """
    colours = ScalarMappable(norm, cmap)
    panel.imshow(values, cmap=cmap, norm=norm, aspect="auto")
    for i, j in np.argwhere(~np.isnan(values)):
        red, green, blue, _ = np.ravel(colours.to_rgba(values[i, j]))
        light = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
        panel.text(
            j, i, texts[i][j], ha="center", va="center", fontsize=fontsize,
            color="black" if light else "white", gid="cell",
        )  # fmt: skip
    panel.set_xticks(range(len(columns)), [sae_label(name) for name in columns], fontsize=SMALL)
    panel.set_yticks(range(len(rows)), [sae_label(name) for name in rows], fontsize=SMALL)
    if max(map(len, columns), default=0) * len(columns) > 24:
        panel.tick_params(axis="x", rotation=40)
        for label in panel.get_xticklabels():
            label.set_horizontalalignment("right")
            label.set_rotation_mode("anchor")
    panel.tick_params(length=0)
    for spine in panel.spines.values():
        spine.set_visible(False)


def colour_bar(figure: Figure, panels: list[Axes], cmap: str, norm: Normalize, label: str) -> None:
    """Explain the colours of the matrices in `panels`."""
    colours = ScalarMappable(norm, cmap)
    bar = figure.colorbar(colours, ax=panels, shrink=0.95, pad=0.02, aspect=15)
    bar.set_label(label)


def cell_size(n_columns: int, width: float) -> float:
    """Width of a cell in inches: 0.6, or what `width` inches leave."""
    return min(0.6, width / max(n_columns, 1))
