"""Stitched SAEs beside the SAEs that they are stitched from."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, ScalarFormatter

from sae_stitching.figures.style import (
    BLACK,
    PAGE_WIDTH,
    SMALL,
    sae_label,
    sequence_style,
    style,
)

MEASURED = ("architecture", "d_sae", "l0", "mse", "fvu", "ce_recovered_zero", "ce_recovered_mean")

_MARKERS = "sD^vPX*<>"


def stitched_table(properties: pd.DataFrame, bases: Mapping[str, str]) -> pd.DataFrame:
    """Set each stitched SAE beside the trained SAEs next to it.

    Parameters
    ----------
    properties
        The table of SAE properties.
    bases
        For each stitched SAE the trained one that it goes back to. It is compared with the trained
        SAEs of that one's architecture.

    Returns
    -------
    pandas.DataFrame
        One row an SAE, the stitched ones last: ``sae``, ``stitched_from``, those of `MEASURED`
        that were measured; of a stitched SAE further ``next_in_size`` and ``next_in_l0``, the
        trained SAE whose d_sae (by ratio) or L0 is nearest, with its own ``<next>_d_sae``, ``_l0``
        and ``_mse``; and ``mse_at_size`` and ``mse_at_l0``, the MSE of trained SAEs interpolated
        linearly in the logarithm of d_sae, and in L0, missing where the stitched SAE is beyond all
        of them. Of trained SAEs that are equal in size or L0 the one of lowest MSE counts.
    """
    measured = [name for name in MEASURED if name in properties.columns]
    of_sae = properties.set_index("sae")
    rows = []
    for sae in [*(name for name in of_sae.index if name not in bases), *bases]:
        own: dict[str, Any] = {"sae": sae, "stitched_from": None}
        own |= {name: of_sae.loc[sae, name] for name in measured}
        if sae in bases:
            own["stitched_from"] = of_sae.loc[sae, "stitched_from"]
            kind = of_sae["architecture"] == of_sae.loc[bases[sae], "architecture"]
            trained = pd.DataFrame(of_sae[kind & ~of_sae.index.isin(list(bases))])
            own |= _next_to(own, trained, "size", "d_sae", np.log)
            own |= _next_to(own, trained, "l0", "l0", np.asarray)
        rows.append(own)
    return pd.DataFrame(rows)


def _next_to(
    own: Mapping[str, Any],
    trained: pd.DataFrame,
    what: str,
    column: str,
    scale: Callable[[Any], np.ndarray],
) -> dict[str, Any]:
    best = trained.sort_values([column, "mse"], kind="stable").drop_duplicates(column)
    x, at = scale(own[column]), scale(best[column].to_numpy(np.float64))
    nearest = best.iloc[[int(np.argmin(np.abs(at - x)))]]
    found: dict[str, Any] = {f"next_in_{what}": nearest.index[0]}
    for name in ("d_sae", "l0", "mse"):
        found[f"next_in_{what}_{name}"] = nearest[name].to_numpy()[0]
    inside = at[0] <= x <= at[-1]
    mse = np.interp(x, at, best["mse"].to_numpy(np.float64))
    return {**found, f"mse_at_{what}": float(mse) if inside else np.nan}


@style()
def stitched(table: pd.DataFrame) -> Figure:
    """Draw MSE, and where it was measured cross-entropy recovered, against size and L0.

    Parameters
    ----------
    table
        From `stitched_table`.
    """
    shown = [("d_sae", "mse"), ("l0", "mse")]
    if "ce_recovered_zero" in table.columns:
        shown.append(("l0", "ce_recovered_zero"))
    figure = Figure(figsize=(PAGE_WIDTH, 2.6), layout="constrained")
    axes = figure.subplots(1, len(shown), squeeze=False)[0]
    names = {
        "d_sae": "Number of latents",
        "l0": "L0",
        "mse": "MSE",
        "ce_recovered_zero": "Cross-entropy recovered",
    }
    for panel, (x, y) in zip(axes, shown, strict=True):
        _draw(panel, table, x, y)
        panel.set_xlabel(names[x])
        panel.set_ylabel(names[y])
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, borderpad=0.1)
    return figure


def _draw(panel: Axes, table: pd.DataFrame, x: str, y: str) -> None:
    made = table["stitched_from"].notna()
    trained = pd.DataFrame(table[~made]).sort_values(x, kind="stable")
    for number, (_, kind) in enumerate(trained.groupby("architecture", sort=False)):
        panel.plot(
            kind[x], kind[y], color=BLACK, marker="o", markersize=3.5, gid="trained",
            linestyle=":" if x == "d_sae" else "", linewidth=0.7,
            label="_" if number else "not stitched",
        )  # fmt: skip
    for row in trained.to_dict("records"):
        panel.annotate(
            sae_label(str(row["sae"])), (row[x], row[y]), xytext=(3, 3),
            textcoords="offset points", fontsize=SMALL - 0.5,
        )  # fmt: skip
    for i, row in enumerate(pd.DataFrame(table[made]).to_dict("records")):
        panel.plot(
            row[x], row[y], linestyle="", marker=_MARKERS[i % len(_MARKERS)], markersize=4.5,
            color=sequence_style(i)["color"], gid="stitched", label=str(row["sae"]),
        )  # fmt: skip
    if x == "d_sae":
        panel.set_xscale("log", base=2)
        sizes = sorted(set(trained[x]))
        panel.set_xticks(sizes)
        panel.xaxis.set_major_formatter(ScalarFormatter())
        panel.xaxis.set_minor_locator(NullLocator())
