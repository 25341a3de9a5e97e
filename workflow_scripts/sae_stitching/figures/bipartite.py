"""Latents of two SAEs as two rows of dots, with an edge for each similar pair."""

import numpy as np
from matplotlib.axes import Axes

from sae_stitching.figures.style import LARGER_SAE, SMALLER_SAE
from sae_stitching.matching.latent_families import Family


def row(n: int, centre: float, spacing: float) -> np.ndarray:
    """Places of `n` dots about `centre`."""
    return centre + spacing * (np.arange(n) - (n - 1) / 2)


def draw_family(
    panel: Axes,
    family: Family,
    centre: float,
    top: float,
    *,
    spacing: float,
    drop: float,
    size: float,
    theta: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a connected subgraph, the smaller SAE's latents above.

    Parameters
    ----------
    panel
    family
    centre, top
        Where its middle and its upper row are.
    spacing
        Between two dots of a row.
    drop
        Between the rows.
    size
        Of a dot, in points.
    theta
        Least cosine of an edge: the thinnest line; 1 is the thickest.

    Returns
    -------
    tuple of ndarray
        Places of the upper and of the lower dots along x.
    """
    above, below = row(len(family.small), centre, spacing), row(len(family.large), centre, spacing)
    for (i, j), cosine in zip(family.edges, family.cosine, strict=True):
        strength = float(np.clip((cosine - theta) / max(1 - theta, 1e-6), 0, 1))
        panel.plot(
            (above[i], below[j]),
            (top, top - drop),
            color=str(0.65 - 0.5 * strength),
            linewidth=0.5 + 1.3 * strength,
            zorder=1,
            gid="edge",
        )
    for x, y, colour in ((above, top, SMALLER_SAE), (below, top - drop, LARGER_SAE)):
        panel.plot(
            x, np.full(len(x), y), linestyle="", marker="o", markersize=size, color=colour,
            markeredgewidth=0, zorder=2, gid="latents",
        )  # fmt: skip
    return above, below
