"""Which products of a training step are dense: what the share of entries decides, all, or none."""

from contextlib import contextmanager

import pytest
from sae_stitching.sparse import codes as sparse

PATHS = {"either": None, "dense": -1.0, "sparse": 1.0}


@contextmanager
def products(path):
    """Have the differentiable products take one path."""
    with pytest.MonkeyPatch.context() as patch:
        if PATHS[path] is not None:
            shares = (PATHS[path], PATHS[path])
            patch.setattr(sparse, "_DENSE_ABOVE", {"cpu": shares, "cuda": shares})
        yield
