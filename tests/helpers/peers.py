"""Inputs and tolerances of the comparisons with other libraries."""

from collections.abc import Callable

import torch
from sae_stitching.saes.sae import SAE
from torch import Tensor

D_MODEL, D_SAE, K = 24, 64, 5
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}


def inputs() -> Tensor:
    return 2.0 * torch.randn(200, D_MODEL, generator=torch.Generator().manual_seed(7))


def check(sae: SAE, encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor]) -> None:
    """Compare codes and reconstructions of random activations."""
    x = inputs()
    theirs, ours = encode(x), sae.encode(x)
    assert 0.01 < (theirs > 0).float().mean() < 0.9
    torch.testing.assert_close(ours.to_dense(), theirs, **TOLERANCE)
    torch.testing.assert_close(sae.decode(ours, x), decode(theirs), **TOLERANCE)
