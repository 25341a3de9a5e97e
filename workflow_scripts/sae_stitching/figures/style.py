"""One look for all figures, and how they are saved."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sae_stitching.base.errors import StudyError
from sae_stitching.base.store import replacing
from sae_stitching.tables.summary import write_csv

COLUMN_WIDTH = 3.5
"""Width of a figure that fills one of two columns, in inches."""
PAGE_WIDTH = 7.0
"""Width of a figure that fills the page, in inches."""

SMALL = 6.5
"""Size of notes, tick labels and legends, in points; the rest is 8."""

Pair = tuple[str, str]
"""Names of the smaller and the larger SAE."""

# Okabe and Ito's colours, told apart with any of the common kinds of colour vision.
BLUE, VERMILLION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
PURPLE, SKY, BLACK, GREY = "#CC79A7", "#56B4E9", "#000000", "#808080"

# One meaning a colour in every figure; the two of a pair are far apart with any colour vision.
DECREASES_MSE, INCREASES_MSE = BLUE, VERMILLION
NOVEL, RECONSTRUCTION = SKY, ORANGE
SMALLER_SAE, LARGER_SAE = "#222222", GREEN
GUIDE = "#666666"
"""Colour of lines that help reading: zero, θ, diagonals, random directions."""

SEQUENCE = (BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION, BLACK, GREY)
"""Colours of steps and pairs, by position."""

RASTERISE_ABOVE = 20_000
"""Points above which a scatter is drawn as an image inside the PDF."""


@contextmanager
def style() -> Iterator[None]:
    """Draw and save in the project's look, whatever the user's own Matplotlib settings are."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "font.family": "sans-serif",
                "font.sans-serif": ["DejaVu Sans"],
                "font.size": 8,
                "axes.titlesize": 8,
                "axes.labelsize": 8,
                "xtick.labelsize": SMALL,
                "ytick.labelsize": SMALL,
                "legend.fontsize": SMALL,
                "legend.frameon": False,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.linewidth": 0.6,
                "xtick.major.width": 0.6,
                "ytick.major.width": 0.6,
                "xtick.minor.width": 0.4,
                "ytick.minor.width": 0.4,
                "xtick.major.size": 2.5,
                "ytick.major.size": 2.5,
                "lines.linewidth": 1.0,
                "patch.linewidth": 0.6,
                "pdf.fonttype": 42,  # TrueType, embedded: text stays text
                "svg.hashsalt": "sae_stitching",
            }
        )
        yield


def sequence_style(position: int) -> dict[str, Any]:
    """Return colour and line style of the step or pair at `position`, distinct up to 24."""
    lap, colour = divmod(position, len(SEQUENCE))
    return {"color": SEQUENCE[colour], "linestyle": ("-", "--", ":")[lap % 3]}


def pair_label(small: str, large: str) -> str:
    """Name a pair of SAEs, the larger first: its latents go into the smaller."""
    return f"{large} → {small}"


def of_pair(table: pd.DataFrame, pair: Pair) -> pd.DataFrame:
    """Rows of a pair, from a table with the columns ``small`` and ``large``."""
    chosen = (table["small"] == pair[0]) & (table["large"] == pair[1])
    return pd.DataFrame(table[chosen])


def by_pair(table: pd.DataFrame) -> list[tuple[Pair, pd.DataFrame]]:
    """Rows of every pair, in the table's order."""
    pairs = dict.fromkeys(zip(table["small"].map(str), table["large"].map(str), strict=True))
    return [(pair, of_pair(table, pair)) for pair in pairs]


def panels(
    n: int, height: float, *, extra: float = 0.0, columns: int = 3, **options: Any
) -> tuple[Figure, list[Axes]]:
    """Make a figure of `n` panels in rows: one fills a column of the page, more its width.

    Parameters
    ----------
    n
        Number of panels; zero gives a figure without axes.
    height
        Height of a row, in inches.
    extra
        Height for what stands above and below the panels, in inches.
    columns
        Panels in a row at most.
    options
        For `Figure.subplots`.
    """
    columns = max(1, min(n, columns))
    rows = max(1, -(-n // columns))
    width = COLUMN_WIDTH if n <= 1 else PAGE_WIDTH
    figure = Figure(figsize=(width, rows * height + extra), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **options).ravel().tolist()
    for unused in axes[n:]:
        unused.set_axis_off()
    return figure, axes[:n]


def sae_label(name: str) -> str:
    """Name an SAE in a figure: ``"SAE-1152"`` where its name is its size, else its name."""
    return f"SAE-{name}" if name.isdigit() else name


def save_figure(
    figure: Figure,
    table: pd.DataFrame,
    paths: str | Path | Iterable[str | Path],
    *,
    dpi: int = 200,
) -> None:
    """Write a figure as PDF and PNG with the numbers it shows as CSV beside it.

    Each file is written whole or not at all, and the same figure gives the same bytes.

    Parameters
    ----------
    figure
        The figure.
    table
        The numbers that it shows.
    paths
        Path without its suffix, for all three files; or the paths of the files, whose suffixes
        (``.pdf``, ``.png``, ``.csv``) tell which is which.
    dpi
        Resolution of the PNG, and of what is an image inside the PDF.
    """
    if isinstance(paths, str | Path):
        # Not with_suffix: the name of an SAE may hold a dot.
        paths = [f"{paths}{suffix}" for suffix in (".pdf", ".png", ".csv")]
    for path in map(Path, paths):
        if path.suffix == ".csv":
            write_csv(table, path)
        elif path.suffix in (".pdf", ".png"):
            # Neither the time nor, in the PNG, the library's version goes into the file.
            metadata = {"CreationDate": None} if path.suffix == ".pdf" else {"Software": None}
            with style(), replacing(path) as temporary:
                figure.savefig(temporary, dpi=dpi, metadata=metadata)
        else:
            raise StudyError(f"{path}: a figure is written as .pdf, .png or .csv")
