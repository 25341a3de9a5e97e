"""Compare figures with stored pictures of a few kilobytes each.

UPDATE_PICTURES=1 in the environment stores what is drawn instead; look at it before it is kept.
"""

import os
from io import BytesIO
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageFilter
from sae_stitching.figures.style import style

FOLDER = Path(__file__).parents[1] / "pictures"
DPI = 40
# Of 255 levels of grey, after a blur that forgives shifts by a fraction of a pixel.
MEAN, GREATEST = 1.5, 70


def drawn(figure: Figure) -> Image.Image:
    """A small grey picture of the figure."""
    buffer = BytesIO()
    with style():
        figure.savefig(buffer, dpi=DPI, format="png")
    return Image.open(buffer).convert("L")


def differences(one: Image.Image, other: Image.Image) -> tuple[float, float]:
    """Mean and greatest difference of two pictures of one size."""
    blurred = [
        np.asarray(image.filter(ImageFilter.GaussianBlur(1.0)), dtype=float)
        for image in (one, other)
    ]
    difference = np.abs(blurred[0] - blurred[1])
    return float(difference.mean()), float(difference.max())


def check_titles_fit(figure: Figure) -> None:
    """Fail if the title of a panel or an entry of a legend leaves the figure."""
    written = [axes.title for axes in figure.axes]
    written += [text for legend in figure.legends for text in legend.get_texts()]
    canvas = figure.bbox.padded(1)
    with style():
        for text in written:
            box = text.get_window_extent()
            assert not text.get_text() or (canvas.x0 <= box.x0 and box.x1 <= canvas.x1), (
                f"{text.get_text()!r} leaves the figure: {box} of {canvas}"
            )


def check_picture(figure: Figure, name: str) -> None:
    """Fail unless the figure looks as the stored picture of this name, and titles fit."""
    found, path = drawn(figure), FOLDER / f"{name}.png"
    check_titles_fit(figure)
    if os.environ.get("UPDATE_PICTURES"):
        path.parent.mkdir(exist_ok=True)
        found.quantize(16).save(path, optimize=True)
        return
    stored = Image.open(path).convert("L")
    assert found.size == stored.size, f"{name}: {found.size} pixels, stored {stored.size}"
    mean, greatest = differences(found, stored)
    assert mean <= MEAN and greatest <= GREATEST, (
        f"{name}: looks otherwise than tests/pictures/{name}.png (mean difference {mean:.2f}, "
        f"greatest {greatest:.0f} of 255)"
    )
