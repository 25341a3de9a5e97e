"""Figure 13: ROC curves of novel latents, predicted from the max decoder cosine."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from sae_stitching.figures.style import (
    COLUMN_WIDTH,
    GUIDE,
    SMALL,
    Pair,
    pair_label,
    sequence_style,
    style,
)
from sae_stitching.stitching.roc import NoveltyROC

_REPEATED = (
    "auc",
    "auc_low",
    "auc_high",
    "theta_best",
    "n_positive",
    "n_negative",
    "n_never_active",
)


def figure13_table(
    rocs: Mapping[Pair, NoveltyROC], thetas: Mapping[Pair, float] | None = None
) -> pd.DataFrame:
    """List the corners of the ROC curves and the points that the figure marks.

    Parameters
    ----------
    rocs
        The ROC of each pair (smaller, larger).
    thetas
        The configured θ of each pair, to mark its point.

    Returns
    -------
    pandas.DataFrame
        ``pair``, ``small``, ``large``, ``point`` (curve, theta, theta_best, or undefined for the
        one row of a pair with one class only), ``fpr``, ``tpr``, ``threshold``, and the pair's
        ``auc``, ``auc_low``, ``auc_high``, ``theta_best``, ``n_positive``, ``n_negative``,
        ``n_never_active`` on each of its rows.
    """
    frames = [pd.DataFrame(columns=pd.Index(_columns()))] if not rocs else []
    for (small, large), roc in rocs.items():
        points = [("curve", *point) for point in zip(*_corners(roc), strict=True)]
        points += [(name, *roc.at(at), at) for name, at in _marked(roc, thetas, (small, large))]
        points = points or [("undefined", np.nan, np.nan, np.nan)]
        frame = pd.DataFrame(points, columns=pd.Index(["point", "fpr", "tpr", "threshold"]))
        repeated = {name: getattr(roc, name) for name in _REPEATED}
        frame = frame.assign(pair=pair_label(small, large), small=small, large=large, **repeated)
        frames.append(frame.reindex(columns=_columns()))
    return pd.concat(frames, ignore_index=True)


@style()
def figure13(rocs: Mapping[Pair, NoveltyROC], thetas: Mapping[Pair, float] | None = None) -> Figure:
    """Draw one ROC curve a pair, with its AUC and the points of two θ.

    Parameters
    ----------
    rocs
        The ROC of each pair (smaller, larger), in the order of the legend.
    thetas
        The configured θ of each pair, marked on its curve; a pair may be missing.
    """
    # Title, axes and labels, then the legend's rows: pairs, heading and the two marks.
    figure = Figure(figsize=(COLUMN_WIDTH, 3.55 + 0.14 * (len(rocs) + 3)), layout="constrained")
    axes = figure.add_subplot()
    axes.set_aspect("equal")
    axes.plot((0, 1), (0, 1), color=GUIDE, linewidth=0.6, linestyle=":", zorder=1, gid="chance")

    width = max((len(pair_label(*pair)) for pair in rocs), default=0)
    handles, labels = [], []
    for position, ((small, large), roc) in enumerate(rocs.items()):
        look = sequence_style(position)
        fpr, tpr, _ = _corners(roc)
        axes.plot(fpr, tpr, linewidth=1.2, zorder=2, clip_on=False, gid="curve", **look)
        for name, theta in _marked(roc, thetas, (small, large)):
            axes.plot(
                *roc.at(theta),
                color=look["color"],
                zorder=3,
                clip_on=False,
                gid=name,
                **_MARKS[name],
            )
        handles.append(Line2D([], [], linewidth=1.2, **look))
        # Padded with spaces as wide as a digit, so that the AUCs stand below each other.
        name = f"{pair_label(small, large):{_DIGIT_SPACE}<{width}}"
        labels.append(f"{name}   {_auc_label(roc)}")

    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("False positive rate")
    axes.set_ylabel("True positive rate")
    figure.suptitle("Novel latents, predicted from the max cosine", fontsize=8)
    shown = {line.get_gid() for line in axes.lines}
    for name, label in _MARK_LABELS.items():
        if name in shown:
            handles.append(Line2D([], [], color=GUIDE, linestyle="", **_MARKS[name]))
            labels.append(label)
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        title="larger → smaller, AUC and its bootstrap interval",
        title_fontsize=SMALL,
        alignment="left",
        borderpad=0.1,
    )
    return figure


_MARKS = {
    "theta": {"marker": "o", "markersize": 5, "markeredgewidth": 0},
    "theta_best": {"marker": "o", "markersize": 6.5, "markerfacecolor": "none"},
}
_MARK_LABELS = {"theta": "θ of the study", "theta_best": "θ of greatest TPR − FPR"}
_DIGIT_SPACE = "\N{FIGURE SPACE}"


def _columns() -> list[str]:
    return ["pair", "small", "large", "point", "fpr", "tpr", "threshold", *_REPEATED]


def _auc_label(roc: NoveltyROC) -> str:
    if not roc.defined:
        return "undefined (one class)"
    if np.isnan(roc.auc_low):
        return f"{roc.auc:.2f}"
    return f"{roc.auc:.2f} [{roc.auc_low:.2f}, {roc.auc_high:.2f}]"


def _marked(
    roc: NoveltyROC, thetas: Mapping[Pair, float] | None, pair: Pair
) -> list[tuple[str, float]]:
    """Name the θ that are marked on the curve of a pair."""
    if not roc.defined:
        return []
    theta = (thetas or {}).get(pair)
    marked = [] if theta is None or np.isnan(theta) else [("theta", float(theta))]
    return [*marked, ("theta_best", roc.theta_best)]


def _corners(roc: NoveltyROC) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return FPR, TPR and θ without the points that lie on the line between their neighbours."""
    if not roc.defined:
        return roc.fpr, roc.tpr, roc.theta
    # In whole latents, where a step equals the next one exactly or not at all.
    false = np.rint(roc.fpr * roc.n_negative).astype(np.int64)
    true = np.rint(roc.tpr * roc.n_positive).astype(np.int64)
    bends = (np.diff(false, 2) != 0) | (np.diff(true, 2) != 0)
    kept = np.concatenate(([True], bends, [True]))
    return roc.fpr[kept], roc.tpr[kept], roc.theta[kept]
