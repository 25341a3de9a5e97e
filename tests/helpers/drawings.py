"""Numbers to draw figures from, and what a figure shows."""

from dataclasses import replace

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from sae_stitching.stitching.insertions import Insertions
from sae_stitching.stitching.roc import novelty_roc
from sae_stitching.stitching.transitions import Transition


def latents(n=400, seed=0):
    generator = np.random.default_rng(seed)
    cosine = generator.uniform(0.1, 1, n).astype(np.float32)
    delta = generator.standard_t(2, n) * 1e-5 + (cosine - 0.7) * 3e-5
    delta[:3] = 0.004, -0.003, 0.002  # far out
    n_active = generator.integers(0, 6, n)
    n_active[:3] = 1
    return insertions(delta, n_active, cosine)


def insertions(delta, n_active, cosine):
    delta, cosine = np.asarray(delta), np.asarray(cosine)
    return Insertions(delta, np.abs(delta) / 5, np.asarray(n_active), cosine, 4.0, 3.5, 1000)


def roc_of(seed=0, sign=None, samples=50):
    found = latents(seed=seed)
    if sign is not None:
        found = replace(found, delta_mse=sign * np.abs(found.delta_mse))
    return novelty_roc(found, bootstrap_samples=samples)


def artists(figure, gid):
    return figure.findobj(lambda artist: artist.get_gid() == gid)


def texts(figure):
    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


def render(figure):
    """Draw, so that layout and texts are known; warnings (a layout that fails) are errors."""
    FigureCanvasAgg(figure).draw()
    return figure


def step(small=4, large=8, novel=3, swaps=((1, 2), (2, 1), (1, 2)), seed=0):
    n_latents, kind = [small], [0]
    for _ in range(novel):
        n_latents.append(n_latents[-1] + 1)
        kind.append(1)
    for removed, inserted in swaps:
        n_latents.append(n_latents[-1] - removed + inserted)
        kind.append(2)
    while n_latents[-1] > large:
        n_latents.append(n_latents[-1] - 1)
        kind.append(3)
    generator = np.random.default_rng(seed)
    found = Transition(
        n_latents=np.array(n_latents),
        mse=np.linspace(2, 1, len(kind)),
        l0=generator.uniform(30, 40, len(kind)),
        kind=np.array(kind, dtype=np.int8),
        mse_large=1.0,
        l0_large=35.0,
        n_tokens=1000,
    )
    return {(str(small), str(large)): found}
