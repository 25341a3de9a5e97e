"""Figure 14: effect of each single swap on MSE and L0."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sae_stitching.figures.style import (
    GUIDE,
    PAGE_WIDTH,
    RECONSTRUCTION,
    SMALL,
    Pair,
    pair_label,
    style,
)
from sae_stitching.stitching.swaps import Swaps

_QUANTITIES = {"mse_percent": "Change in MSE (%)", "l0_percent": "Change in L0 (%)"}
_COLUMNS = [
    "small", "large", "component", "n_small", "n_large", "delta_mse", "standard_error", "delta_l0",
    *_QUANTITIES,
]  # fmt: skip


def figure14_table(swaps: Mapping[Pair, Swaps]) -> pd.DataFrame:
    """List the swaps of every pair.

    Returns
    -------
    pandas.DataFrame
        One row a connected subgraph: ``small``, ``large``, ``component``, ``n_small``,
        ``n_large`` (latents that go and come), ``delta_mse`` and its ``standard_error``,
        ``delta_l0``, and both changes in percent of the smaller SAE's own, ``mse_percent`` and
        ``l0_percent``.
    """
    frames = [pd.DataFrame(columns=pd.Index(_COLUMNS))] if not swaps else []
    for (small, large), found in swaps.items():
        frames.append(
            pd.DataFrame(
                {
                    "small": small,
                    "large": large,
                    "component": np.arange(len(found.delta_mse)),
                    "n_small": found.n_small,
                    "n_large": found.n_large,
                    "delta_mse": found.delta_mse,
                    "standard_error": found.standard_error,
                    "delta_l0": found.delta_l0,
                    "mse_percent": 100 * found.delta_mse / found.mse_small,
                    "l0_percent": 100 * found.delta_l0 / found.l0_small,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


@style()
def figure14(table: pd.DataFrame, pairs: list[Pair]) -> Figure:
    """Draw a box of the swaps' effects for each pair: on the MSE left, on L0 right.

    Boxes span the quartiles, whiskers reach at most 1.5 times as far again, and what lies beyond
    is not drawn, as in the paper.

    Parameters
    ----------
    table
        From `figure14_table`.
    pairs
        Pairs from top to bottom, those without a swap among them.
    """
    figure = Figure(figsize=(PAGE_WIDTH, 0.75 + 0.3 * max(len(pairs), 1)), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    names = list(zip(table["small"], table["large"], strict=True))
    position = {pair: len(pairs) - i for i, pair in enumerate(pairs)}
    where = np.array([position[name] for name in names], dtype=np.int64)
    for panel, (quantity, label) in zip(panels, _QUANTITIES.items(), strict=True):
        panel.axvline(0, color=GUIDE, linewidth=0.6, zorder=1)
        values = table[quantity].to_numpy(np.float64)
        for pair, at in position.items():
            if not (where == at).any():
                continue
            box = panel.boxplot(
                [values[where == at]],
                positions=[at],
                orientation="horizontal",
                widths=0.55,
                showfliers=False,
                patch_artist=True,
                boxprops={"facecolor": RECONSTRUCTION, "linewidth": 0.6},
                medianprops={"color": "black", "linewidth": 1.2},
                whiskerprops={"linewidth": 0.6},
                capprops={"linewidth": 0.6},
                manage_ticks=False,
            )
            box["medians"][0].set_gid(f"median {pair_label(*pair)}")
        panel.set_xlabel(f"{label}, single swaps")
        panel.set_ylim(0.4, len(pairs) + 0.6)
        panel.locator_params(axis="x", nbins=7)
    counts = {pair: int((where == at).sum()) for pair, at in position.items()}
    panels[0].set_yticks(
        list(position.values()),
        [f"{pair_label(*pair)}\n{_swaps(counts[pair])}" for pair in position],
        fontsize=SMALL,
    )
    return figure


def _swaps(n: int) -> str:
    return f"{n:,} swap{'' if n == 1 else 's'}"
