"""Which latents to insert first: by max cosine, by own effect, or greedily."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sae_stitching.figures.style import (
    BLACK,
    BLUE,
    GUIDE,
    VERMILLION,
    Pair,
    by_pair,
    pair_label,
    panels,
    style,
)
from sae_stitching.stitching.selection_orders import ORDERS, InsertionOrder, Selection

POINTS = 800
"""Points of a curve that are kept."""

COMPARED_AT = ("count", "l0", "lowest")
"""Where the orders are compared: θ's number of latents, θ's L0, each order's lowest MSE."""

_CURVES = ["small", "large", "order", "n_inserted", "mse", "l0", "mark"]
_LOOKS = {
    "cosine": {"color": BLACK, "linestyle": "-"},
    "effect": {"color": BLUE, "linestyle": "--"},
    "greedy": {"color": VERMILLION, "linestyle": "-", "linewidth": 1.3},
}
_LABELS = {
    "cosine": "lowest max cosine first",
    "effect": "largest effect alone first",
    "greedy": "greedy: largest effect given those before",
}
_MARKS = {"theta": ("o", "novel latents at θ"), "stop": ("D", "greedy choice ends")}


def selection_curves(found: Mapping[Pair, Selection]) -> pd.DataFrame:
    """List MSE and L0 after every insertion, in every order.

    Returns
    -------
    pandas.DataFrame
        ``small``, ``large``, ``order`` (one of `ORDERS`), ``n_inserted``, ``mse``, ``l0`` on the
        eval tokens, and ``mark``: theta where the cosine order has inserted all novel latents, stop
        where the greedy choice finds no latent that lowers the MSE on the training tokens. At most
        about `POINTS` rows a curve, its ends and marks among them.
    """
    frames = [pd.DataFrame(columns=pd.Index(_CURVES))] if not found else []
    for (small, large), selection in found.items():
        marks = {"cosine": (selection.n_novel, "theta"), "greedy": (selection.n_greedy, "stop")}
        for order in ORDERS:
            path = selection.orders[order]
            at = np.linspace(0, len(path.latents), POINTS).round().astype(int)
            marked, mark = marks.get(order, (0, ""))
            at = np.unique(np.append(at, marked))
            frames.append(
                pd.DataFrame(
                    {
                        "small": small,
                        "large": large,
                        "order": order,
                        "n_inserted": at,
                        "mse": path.mse[at],
                        "l0": path.l0[at],
                        "mark": np.where(at == marked, mark, ""),
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def selection_table(found: Mapping[Pair, Selection]) -> pd.DataFrame:
    """Compare the orders where the cosine order has inserted all latents below θ.

    Returns
    -------
    pandas.DataFrame
        One row a pair, place and order. ``compared_at`` is count (as many latents as are novel at
        ``theta``), l0 (the most latents whose L0 is at most that of the cosine order at θ) or
        lowest (the lowest MSE of each order); there ``n_inserted``, ``l0`` and ``mse``.
        ``change_percent`` is against the smaller SAE, ``gain_percent`` how much lower the MSE is
        than that of the cosine order at the same place. ``n_greedy`` latents are chosen before none
        lowers the MSE on the ``n_train_tokens``.
    """
    rows: list[dict[str, Any]] = []
    for (small, large), selection in found.items():
        theta = selection.n_novel
        most = selection.orders["cosine"].l0[theta]
        for place in COMPARED_AT:
            reference = None
            for order in ORDERS:
                path = selection.orders[order]
                n = _place(path, place, theta, most, exact=order == "cosine")
                mse = float(path.mse[n])
                reference = mse if reference is None else reference
                rows.append(
                    {
                        "small": small, "large": large, "theta": selection.theta,
                        "compared_at": place, "order": order, "n_inserted": n,
                        "l0": float(path.l0[n]), "mse": mse, "mse_small": float(path.mse[0]),
                        "change_percent": 100 * (mse / path.mse[0] - 1) if path.mse[0] else np.nan,
                        "gain_percent": 100 * (1 - mse / reference) if reference else np.nan,
                        "n_greedy": selection.n_greedy,
                        "n_train_tokens": selection.n_train_tokens,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def _place(path: InsertionOrder, place: str, theta: int, most: float, *, exact: bool) -> int:
    if place == "lowest":
        return int(np.argmin(path.mse))
    if place == "count" or exact:
        return theta
    # L0 never falls as latents are inserted; the margin is for its rounding.
    return int(np.searchsorted(path.l0, most * (1 + 1e-12), side="right")) - 1


@style()
def selection(curves: pd.DataFrame) -> Figure:
    """Draw a row a pair: MSE against the number of latents inserted, and against L0.

    Parameters
    ----------
    curves
        From `selection_curves`.
    """
    groups = by_pair(curves)
    figure, axes = panels(2 * len(groups), 1.9, extra=0.45, columns=2)
    for row, ((small, large), rows) in enumerate(groups):
        left, right = axes[2 * row : 2 * row + 2]
        for panel, x in ((left, "n_inserted"), (right, "l0")):
            _draw(panel, rows, x)
            panel.set_title(pair_label(small, large), fontsize=8)
        left.set_ylabel("MSE")
    if groups:
        axes[-2].set_xlabel("Latents of the larger SAE inserted")
        axes[-1].set_xlabel("L0")
    handles = [Line2D([], [], **_LOOKS[order]) for order in ORDERS]
    handles += [
        Line2D([], [], linestyle="", marker=marker, markersize=4, color=GUIDE)
        for marker, _ in _MARKS.values()
    ]
    labels = [*(_LABELS[order] for order in ORDERS), *(label for _, label in _MARKS.values())]
    figure.legend(handles, labels, loc="outside upper center", ncols=3, borderpad=0.1)
    return figure


def _draw(panel: Axes, rows: pd.DataFrame, x: str) -> None:
    for order in ORDERS:
        curve = pd.DataFrame(rows[rows["order"] == order])
        panel.plot(curve[x], curve["mse"], gid=order, **_LOOKS[order])
        for mark, (marker, _) in _MARKS.items():
            there = curve[curve["mark"] == mark]
            panel.plot(
                there[x], there["mse"], linestyle="", marker=marker, markersize=4, zorder=4,
                color=_LOOKS[order]["color"], gid=mark,
            )  # fmt: skip
    mse = rows["mse"].to_numpy()
    start, low = float(mse[0]), float(mse.min())
    panel.axhline(start, color=GUIDE, linewidth=0.6, linestyle=":", zorder=0)
    # What raises the MSE without end leaves the frame, or what lowers it could not be seen.
    marked = rows.loc[rows["mark"] != "", "mse"].to_numpy()
    top = max(start, float(marked.max(initial=start))) + 0.3 * (start - low or start or 1.0)
    top = min(top, float(mse.max()))
    margin = 0.05 * (top - low or 1.0)
    panel.set_ylim(low - margin, top + margin)
    # The L0 of all latents together would leave nothing of the rest either.
    shown = rows.loc[rows["mse"] <= top, x].to_numpy()
    if shown.min() < shown.max():
        panel.set_xlim(float(shown.min()), float(shown.max()))
