"""Figure 4: change in MSE when each latent of the larger SAE is added to the smaller SAE."""

from __future__ import annotations

import textwrap

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.scale import SymmetricalLogTransform
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from sae_stitching.figures.style import (
    COLUMN_WIDTH,
    DECREASES_MSE,
    GUIDE,
    INCREASES_MSE,
    RASTERISE_ABOVE,
    SMALL,
    sae_label,
    style,
)
from sae_stitching.matching.decoder_similarity import at_least
from sae_stitching.stitching.insertions import Insertions

EFFECTS = {"decreases": DECREASES_MSE, "increases": INCREASES_MSE}
BINS = 40


def figure4_table(insertions: Insertions, theta: float) -> pd.DataFrame:
    """List the latents of the larger SAE that are active at least once on the eval tokens.

    Parameters
    ----------
    insertions
        Effect and max cosine of every latent.
    theta
        Latents with max cosine < θ are novel (Eq. 6).

    Returns
    -------
    pandas.DataFrame
        ``latent``, ``max_cosine``, ``delta_mse``, ``standard_error``, ``n_active``, ``effect``
        (decreases if the change is below zero, else increases), ``group`` (novel or
        reconstruction).
    """
    latent = np.flatnonzero(insertions.n_active > 0)
    delta_mse, max_cosine = insertions.delta_mse[latent], insertions.max_cosine[latent]
    return pd.DataFrame(
        {
            "latent": latent,
            "max_cosine": max_cosine,
            "delta_mse": delta_mse,
            "standard_error": insertions.standard_error[latent],
            "n_active": insertions.n_active[latent],
            "effect": np.where(delta_mse < 0, "decreases", "increases"),
            "group": np.where(at_least(max_cosine, theta), "reconstruction", "novel"),
        }
    )


@style()
def figure4(
    insertions: Insertions, theta: float, *, small: str, large: str, symlog: bool = False
) -> Figure:
    """Draw the insertion effects against the max cosine, with both marginal histograms.

    Figure 18 is the same for JumpReLU SAEs, whose effects span powers of ten, with `symlog`.

    Parameters
    ----------
    insertions
        Effect and max cosine of every latent. Those that are never active are left out, and
        counted in the note below the figure.
    theta
        θ, which is marked.
    small, large
        Names of the two SAEs.
    symlog
        Show all effects on a logarithmic axis, linear about zero, rather than the bulk on a
        linear one.
    """
    table = figure4_table(insertions, theta)
    n_never_active = len(insertions.n_active) - len(table)
    layout = ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
    figure = Figure(figsize=(COLUMN_WIDTH, 3.8), layout=layout)
    grid = figure.add_gridspec(3, 2, width_ratios=(4.5, 1), height_ratios=(0.25, 1, 4.5))
    key = figure.add_subplot(grid[0, :])
    axes = figure.add_subplot(grid[2, 0])
    top = figure.add_subplot(grid[1, 0], sharex=axes)
    right = figure.add_subplot(grid[2, 1], sharey=axes)

    x = table["max_cosine"].to_numpy(np.float64)
    y = table["delta_mse"].to_numpy(np.float64)
    # Cosines are at most 1; the axis goes below 0 where it must.
    left = float(np.floor(min(x.min(initial=0.0), theta) * 10) / 10)
    linear = _linear_below(y)
    scale = SymmetricalLogTransform(10, linear, 1)
    to, back = (scale.transform, scale.inverted().transform) if symlog else (np.asarray,) * 2
    low, high = to(np.array(_wide_limits(y, linear) if symlog else _y_limits(y)))
    # Zero is an edge of the bins, so that the two colours do not share one.
    width = (high - low) / BINS
    y_bins = back(width * np.arange(np.floor(low / width), np.ceil(high / width) + 1))
    low, high = float(y_bins[0]), float(y_bins[-1])
    above, below = y > high, y < low
    inside = ~(above | below)
    colours = np.array([EFFECTS[effect] for effect in table["effect"]], dtype=str)

    if symlog:
        axes.set_yscale("symlog", linthresh=linear)
    axes.axhline(0, color=GUIDE, linewidth=0.6, zorder=1)
    rasterised = len(table) > RASTERISE_ABOVE
    # In the order of the latents, which favours neither colour.
    axes.scatter(
        x[inside],
        y[inside],
        s=5 if len(table) <= 5000 else 2,
        c=colours[inside],
        alpha=0.55,
        linewidths=0,
        zorder=2,
        rasterized=rasterised,
        gid="latents",
    )
    margin = 0.015 * (high - low)
    for beyond, at, marker in ((above, high - margin, "^"), (below, low + margin, "v")):
        if beyond.any():
            axes.scatter(
                x[beyond],
                np.full(np.count_nonzero(beyond), at),
                s=11,
                marker=marker,
                c=colours[beyond],
                linewidths=0,
                zorder=3,
                rasterized=rasterised,
                clip_on=False,
                gid="beyond",
            )

    x_bins = np.linspace(left, 1, BINS + 1)
    groups = [(table["effect"] == effect).to_numpy() for effect in EFFECTS]
    kinds = {"stacked": True, "color": list(EFFECTS.values()), "alpha": 0.8}
    # What lies beyond an axis is counted in its last bin, so that no histogram lacks a latent.
    top.hist([np.clip(x[group], left, 1) for group in groups], bins=list(x_bins), **kinds)
    right.hist(
        [np.clip(y[group], low, high) for group in groups],
        bins=list(y_bins),
        orientation="horizontal",
        **kinds,
    )

    for panel in (axes, top):
        panel.axvline(theta, color=GUIDE, linestyle="--", linewidth=0.8, zorder=4, gid="theta")
    top.annotate(
        f"θ = {theta:.3g}",
        (theta, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 1),
        textcoords="offset points",
        ha="center",
        fontsize=SMALL,
        annotation_clip=False,
    )

    axes.set_xlim(left, 1.01)  # room for whole dots at 1
    axes.set_ylim(low, high)
    label = f"Max cosine with a decoder direction of {sae_label(small)}"
    axes.set_xlabel(textwrap.fill(label, 48, break_on_hyphens=False))
    exponent = 0 if symlog else _exponent(max(abs(low), abs(high)))
    if not symlog:
        axes.yaxis.set_major_formatter(lambda value, _: _number(value, exponent, 3))
    axes.set_ylabel("Change in MSE when added" + (f" ({_power(exponent)})" if exponent else ""))
    for panel, axis in ((top, top.xaxis), (right, right.yaxis)):
        axis.set_tick_params(labelleft=False, labelbottom=False)
        panel.tick_params(labelsize=SMALL - 1)
    top.yaxis.set_major_locator(MaxNLocator(nbins=2, integer=True))
    right.xaxis.set_major_locator(MaxNLocator(nbins=1, integer=True))
    for axis in (top.yaxis, right.xaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))

    title = f"Adding each latent of {sae_label(large)} to {sae_label(small)}"
    figure.suptitle(textwrap.fill(title, 52, break_on_hyphens=False), fontsize=8)
    handles = [
        Line2D([], [], linestyle="", marker="o", markersize=3.5, color=colour)
        for colour in EFFECTS.values()
    ]
    labels = [
        f"{effect} MSE ({np.count_nonzero(group):,})"
        for effect, group in zip(EFFECTS, groups, strict=True)
    ]
    key.set_axis_off()
    key.legend(handles, labels, loc="center", ncols=2, handletextpad=0.1, borderpad=0)
    figure.supxlabel(
        "\n".join(_notes(table, y, above, below, n_never_active, exponent)),
        fontsize=SMALL - 0.5,
        color="#333333",
        linespacing=1.25,
    )
    return figure


def _y_limits(y: np.ndarray) -> tuple[float, float]:
    """Fit the axis to the bulk: the central 99 % and a margin, or all if little lies beyond."""
    if y.size == 0:
        return -1.0, 1.0
    low, high = (float(value) for value in np.quantile(y, [0.005, 0.995]))
    low, high = min(low, 0.0), max(high, 0.0)
    span = high - low or float(np.ptp(y)) or 1.0
    # Neither side so thin that its latents cannot be seen.
    low, high = min(low, -0.1 * span), max(high, 0.1 * span)
    reach = 0.25 * (high - low)
    margin = 0.05 * (high - low)
    lowest, highest = float(y.min()), float(y.max())
    return (
        low - margin if lowest < low - reach else min(low, lowest) - margin,
        high + margin if highest > high + reach else max(high, highest) + margin,
    )


def _linear_below(y: np.ndarray) -> float:
    """Effect below which a symlog axis is linear: the tenth part in size, a power of ten."""
    size = np.abs(y[y != 0])
    return float(10.0 ** np.floor(np.log10(np.quantile(size, 0.1)))) if size.size else 1.0


def _wide_limits(y: np.ndarray, linear: float) -> tuple[float, float]:
    """Fit a symlog axis to all effects."""
    return min(1.5 * float(y.min(initial=0)), -linear), max(1.5 * float(y.max(initial=0)), linear)


def _exponent(largest: float) -> int:
    """Return the power of ten that the axis counts in; 0 where plain numbers read well."""
    exponent = int(np.floor(np.log10(largest)))
    return 0 if -2 <= exponent <= 3 else exponent


def _power(exponent: int) -> str:
    return rf"$\times 10^{{{exponent}}}$"


def _number(value: float, exponent: int, digits: int) -> str:
    return f"{value / 10.0**exponent:.{digits}g}".replace("-", "\N{MINUS SIGN}")


def _notes(
    table: pd.DataFrame,
    y: np.ndarray,
    above: np.ndarray,
    below: np.ndarray,
    n_never_active: int,
    exponent: int,
) -> list[str]:
    def extreme(value: float) -> str:
        return _number(value, exponent, 3) + (_power(exponent) if exponent else "")

    novel = np.count_nonzero(table["group"] == "novel")
    notes = [f"{novel:,} novel (left of θ), {len(table) - novel:,} reconstruction"]
    if above.any():
        notes.append(f"▲ {_latents(above)} beyond the axis, up to {extreme(y.max())}")
    if below.any():
        notes.append(f"▼ {_latents(below)} beyond the axis, down to {extreme(y.min())}")
    if n_never_active:
        notes.append(f"not shown: {n_never_active:,} never active on the evaluation tokens")
    return notes


def _latents(mask: np.ndarray) -> str:
    n = int(np.count_nonzero(mask))
    return f"{n:,} latent{'' if n == 1 else 's'}"
