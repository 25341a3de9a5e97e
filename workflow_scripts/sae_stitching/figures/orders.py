"""How far the transition depends on the order of its operations."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from sae_stitching.figures.style import (
    BLACK,
    BLUE,
    GUIDE,
    SMALL,
    VERMILLION,
    Pair,
    by_pair,
    panels,
    sae_label,
    style,
)
from sae_stitching.stitching.transition_orders import TransitionOrders
from sae_stitching.stitching.transitions import KINDS

POINTS = 800
"""Points of a curve that are kept."""

PHASES = KINDS[1:]
_CURVES = ["given", "gain", "random_mean", "random_sd", "random_low", "random_high"]


def orders_curves(orders: Mapping[Pair, TransitionOrders]) -> pd.DataFrame:
    """List the MSE after every operation, in every order.

    Returns
    -------
    pandas.DataFrame
        ``small``, ``large``, ``operation``, ``kind``; ``given``, ``gain`` (the MSE in the given
        order and with the largest measured gain first), and of the random orders
        ``random_mean``, ``random_sd``, ``random_low``, ``random_high`` and ``n_random``. At most
        about `POINTS` operations a step, the ends of the phases among them.
    """
    columns = ["small", "large", "operation", "kind", *_CURVES, "n_random"]
    frames = [pd.DataFrame(columns=pd.Index(columns))] if not orders else []
    for (small, large), found in orders.items():
        n = len(found.kind)
        ends = np.flatnonzero(np.diff(found.kind, append=-1))
        at = np.unique(np.append(np.linspace(0, n - 1, POINTS).round().astype(int), ends))
        random = found.random[:, at]
        many = len(random) > 1
        frames.append(
            pd.DataFrame(
                {
                    "small": small,
                    "large": large,
                    "operation": at,
                    "kind": np.array(KINDS)[found.kind[at]],
                    "given": found.given[at],
                    "gain": found.gain[at],
                    "random_mean": random.mean(0),
                    "random_sd": random.std(0, ddof=1) if many else np.nan,
                    "random_low": random.min(0),
                    "random_high": random.max(0),
                    "n_random": len(random),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def orders_table(orders: Mapping[Pair, TransitionOrders]) -> pd.DataFrame:
    """Sum up each phase of each step, in each order.

    Returns
    -------
    pandas.DataFrame
        One row a step, phase and order (given, gain, random): ``n_operations``, ``mse_start``,
        ``mse_end`` (the same in every order), ``mse_mean`` (mean over the phase's operations),
        ``mse_lowest`` and ``n_at_lowest``, how many operations it takes to get there, and
        ``share_lowering``, the share of operations that lower the MSE. For random orders these
        are means over the orders, and ``<name>_sd`` is their standard deviation.
    """
    rows = []
    for (small, large), found in orders.items():
        for number, phase in enumerate(PHASES, start=1):
            where = np.flatnonzero(found.kind == number)
            if where.size == 0:
                continue
            span = slice(where[0] - 1, where[-1] + 1)
            walks = {
                "given": found.given[None, span],
                "gain": found.gain[None, span],
                "random": found.random[:, span],
            }
            for order, mse in walks.items():
                row: dict[str, Any] = {
                    "small": small, "large": large, "phase": phase, "order": order,
                    "n_orders": len(mse), "n_operations": where.size,
                    "mse_start": mse[0, 0], "mse_end": mse[0, -1],
                }  # fmt: skip
                measured = {
                    "mse_mean": mse[:, 1:].mean(1),
                    "mse_lowest": mse.min(1),
                    "n_at_lowest": mse.argmin(1),
                    "share_lowering": (np.diff(mse, axis=1) < 0).mean(1),
                }
                for name, values in measured.items():
                    row[name] = float(values.mean())
                    row[f"{name}_sd"] = float(values.std(ddof=1)) if len(values) > 1 else np.nan
                rows.append(row)
    return pd.DataFrame(rows)


@style()
def orders(curves: pd.DataFrame) -> Figure:
    """Draw one panel a step: MSE against the number of operations.

    Parameters
    ----------
    curves
        From `orders_curves`.
    """
    groups = by_pair(curves)
    figure, axes = panels(len(groups), 2.2, extra=0.45, columns=2)
    for panel, ((small, large), rows) in zip(axes, groups, strict=True):
        x = rows["operation"].to_numpy()
        panel.fill_between(
            x, rows["random_low"], rows["random_high"], color=BLUE, alpha=0.25, linewidth=0,
            gid="random range",
        )  # fmt: skip
        panel.plot(x, rows["random_mean"], color=BLUE, linestyle="--", gid="random_mean")
        panel.plot(x, rows["given"], color=BLACK, gid="given")
        panel.plot(x, rows["gain"], color=VERMILLION, linewidth=1.3, gid="gain")
        panel.set_title(f"{sae_label(small)} to {sae_label(large)}", fontsize=8)
        panel.set_xlim(0, x[-1])
        start = 0
        for phase in PHASES:
            done = x[rows["kind"].to_numpy() == phase]
            if done.size == 0:
                continue
            end = int(done[-1])
            panel.axvline(end, color=GUIDE, linewidth=0.5, linestyle=":", zorder=0)
            if (end - start) > 0.08 * x[-1]:
                panel.annotate(
                    {"insert": "insertions", "swap": "swaps", "drop": "drops"}[phase],
                    ((start + end) / 2, 1),
                    xycoords=("data", "axes fraction"),
                    xytext=(0, -1),
                    textcoords="offset points",
                    ha="center",
                    va="top",
                    fontsize=SMALL - 0.5,
                    color=GUIDE,
                )
            start = end
        low, high = panel.get_ylim()
        panel.set_ylim(low, high + 0.07 * (high - low))
    n_random = int(curves["n_random"].to_numpy().max(initial=0))
    figure.supxlabel("Operations", fontsize=8)
    figure.supylabel("MSE", fontsize=8)
    band = (Patch(color=BLUE, alpha=0.25, linewidth=0), Line2D([], [], color=BLUE, linestyle="--"))
    handles = [
        Line2D([], [], color=BLACK),
        band,
        Line2D([], [], color=VERMILLION, linewidth=1.3),
    ]
    labels = [
        "given order",
        f"{n_random} random orders, mean and range",
        "largest measured gain first",
    ]
    columns = 3 if len(groups) > 1 else 2
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, borderpad=0.1)
    return figure
