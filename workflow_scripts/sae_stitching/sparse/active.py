"""Find the active latents in dense pre-activations: the first thing that happens to them.

    above              z_ti > threshold_i
    largest_of_token   the k greatest of each token (TopK)
    largest_of_batch   the (tokens × k) greatest of all (BatchTopK)

PyTorch's topk and nonzero cost as much as the encoder's product that makes the pre-activations. For
1,024 tokens and 2,304 latents (one core, float32) the product takes 33 ms; TopK at k = 32 takes
14.5 ms by PyTorch and 4.0 here, BatchTopK 54 and 7.7, a threshold 6.8 and 2.7.
On a CPU they are found here by a few passes over memory, compiled by Numba; elsewhere, and as the
reference of the tests, by PyTorch. Ties are kept in the order of tokens and latents.

Floating-point numbers are compared by their bits. Those of positive numbers are in order as
integers, and with the others' bits flipped but for the sign those of all numbers are; so bfloat16,
which NumPy does not know, needs no code of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sae_stitching.sparse.codes import SparseCodes, SparsePattern, starts_of

if TYPE_CHECKING:
    from jaxtyping import Float

_Map = Callable[[np.ndarray], np.ndarray] | None
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}

# Share of the tokens by which the histogram of a batch is estimated first.
_SAMPLE_EVERY = 32

# Pre-activations from which one pass over them, to leave out most, saves time on a GPU (H100).
_ONE_PASS_FROM = 1 << 25


def above(
    z: Float[Tensor, "token d_sae"], threshold: Float[Tensor, " d_sae"] | float = 0.0
) -> SparseCodes:
    """Keep the pre-activations above a threshold.

    Parameters
    ----------
    z : (token, d_sae) float
    threshold : (d_sae) or number
        Of each latent, rounded to the precision of `z`.
    """
    limits = torch.as_tensor(threshold, device=z.device).to(z.dtype).expand(z.shape[1])
    if z.device.type != "cpu":
        return SparseCodes.from_mask(z, z > limits)
    # Adding zero makes −0 a +0, which have other bits.
    bits, lowest = _bits(z), _bits(limits + 0.0)
    if (lowest >= 0).all():
        return _above(bits, lowest, z)
    return _above(_in_order(bits), _in_order(lowest), z, _in_order)


def largest_of_token(z: Float[Tensor, "token d_sae"], k: int) -> SparseCodes:
    """Keep the k greatest pre-activations of each token, where they are positive.

    Parameters
    ----------
    z : (token, d_sae) float
    k
        At most d_sae.
    """
    if z.device.type != "cpu":
        return largest_of_token_reference(z, k)
    from sae_stitching.sparse import kernels

    n_tokens = len(z)
    indices = np.empty((n_tokens, k), np.int64)
    kept = np.empty((n_tokens, k), _bits(z).dtype)
    counts = np.empty(n_tokens, np.int64)
    kernels.match_threads()
    kernels.largest_of_token(_bits(z), k, indices, kept, counts)
    if (counts < k).any():
        filled = np.arange(k) < counts[:, None]
        indices, kept = indices[filled], kept[filled]
    return _codes(indices.reshape(-1), kept.reshape(-1), counts, z)


def largest_of_batch(z: Float[Tensor, "token d_sae"], k: int) -> SparseCodes:
    """Keep the (tokens × k) greatest pre-activations of the batch, where they are positive.

    Parameters
    ----------
    z : (token, d_sae) float
    k
        At most d_sae.
    """
    n_keep = k * len(z)
    if z.device.type != "cpu":
        return largest_of_batch_reference(z, k)
    bits = _bits(z)
    least = _nth_greatest(bits, n_keep)
    codes = _above(bits, np.full(z.shape[1], max(least - 1, 0), bits.dtype), z)
    if len(codes) <= n_keep:
        return codes
    lowest = _floats(np.array([least], bits.dtype), z)[0]
    tied = (codes.values == lowest.to(codes.values.dtype)).nonzero().squeeze(1)
    keep = torch.ones(len(codes), dtype=torch.bool)
    keep[tied[len(tied) - (len(codes) - n_keep) :]] = False
    return codes.select(keep)


def largest_of_token_reference(z: Float[Tensor, "token d_sae"], k: int) -> SparseCodes:
    """`largest_of_token` by PyTorch, for any device; which of equal values it keeps is open."""
    n_tokens, d_sae = z.shape
    tokens = torch.arange(n_tokens, device=z.device)[:, None]
    return SparseCodes.from_positions(z, (_greatest(z, k) + tokens * d_sae).reshape(-1))


def largest_of_batch_reference(z: Float[Tensor, "token d_sae"], k: int) -> SparseCodes:
    """`largest_of_batch` by PyTorch, for any device; which of equal values it keeps is open."""
    return SparseCodes.from_positions(z, _greatest(z.reshape(1, -1), k * len(z))[0])


def _greatest(z: Tensor, k: int) -> Tensor:
    """Where the k greatest of each row are, in any order: (row, k).

    PyTorch's topk goes through its input several times. With the columns in groups, the k greatest
    are in the k groups whose maxima are greatest: one pass finds these, and topk has only their
    members to go through. It has the fewest where both are as many.
    """
    n_columns = z.shape[1]
    size = math.isqrt(n_columns // k)
    if size < 2 or z.numel() < _ONE_PASS_FROM:
        return z.topk(k, dim=1, sorted=False).indices
    # A group is every n_groups-th column, so that neighbours are read together.
    n_groups = n_columns // size
    groups = z[:, : n_groups * size].unflatten(1, (size, n_groups))
    chosen = groups.amax(1).topk(k, dim=1, sorted=False).indices
    members = chosen[:, None] + n_groups * torch.arange(size, device=z.device)[:, None]
    rest = torch.arange(n_groups * size, n_columns, device=z.device).expand(len(z), -1)
    columns = torch.cat([members.flatten(1), rest], 1)
    return columns.gather(1, z.gather(1, columns).topk(k, dim=1, sorted=False).indices)


def _bits(z: Tensor) -> np.ndarray:
    return z.detach().contiguous().view(_INTEGERS[z.element_size()]).numpy()


def _in_order(bits: np.ndarray) -> np.ndarray:
    # Integers in the order of the numbers: of negative ones all bits but the sign are flipped.
    # Applied to its result it gives the bits again.
    return bits ^ ((bits >> (8 * bits.itemsize - 1)) & np.iinfo(bits.dtype).max)


def _floats(bits: np.ndarray, like: Tensor) -> Tensor:
    values = torch.from_numpy(bits).view(like.dtype)
    return values.float() if values.dtype == torch.bfloat16 else values


def _codes(indices: np.ndarray, kept: np.ndarray, counts: np.ndarray, z: Tensor) -> SparseCodes:
    pattern = SparsePattern(
        starts_of(torch.from_numpy(counts)), torch.from_numpy(indices), z.shape[1]
    )
    return SparseCodes(pattern, _floats(kept, z))


def _above(bits: np.ndarray, limits: np.ndarray, z: Tensor, back: _Map = None) -> SparseCodes:
    from sae_stitching.sparse import kernels

    counts = np.empty(len(bits), np.int64)
    kernels.match_threads()
    kernels.count_above(bits, limits, counts)
    starts = starts_of(torch.from_numpy(counts))
    indices = np.empty(int(starts[-1]), np.int64)
    kept = np.empty(len(indices), bits.dtype)
    kernels.collect_above(bits, limits, starts.numpy(), indices, kept)
    return _codes(indices, back(kept) if back else kept, counts, z)


def _nth_greatest(bits: np.ndarray, n: int) -> int:
    # Bits of the n-th greatest number, or 0 if it is not positive.
    from sae_stitching.sparse import kernels

    shift = max(8 * bits.itemsize - 1 - kernels.HISTOGRAM_BITS, 0)
    kernels.match_threads()
    # Only numbers above a floor are counted. A sample says where it may be; where that turns out
    # to be too high it is zero.
    sampled = bits[::_SAMPLE_EVERY]
    in_order = kernels.histogram(sampled, shift, 0)[::-1].cumsum()
    floor_from_top = int(np.searchsorted(in_order, 1.2 * n / _SAMPLE_EVERY))
    floor = max(kernels.N_BINS - 1 - floor_from_top, 0) << shift
    from_top = kernels.histogram(bits, shift, floor)[::-1].cumsum()
    if from_top[-1] < n and floor > 0:
        from_top = kernels.histogram(bits, shift, 0)[::-1].cumsum()
    if from_top[-1] < n:
        return 0
    bin_from_top = int(np.searchsorted(from_top, n))
    if not shift:
        return kernels.N_BINS - 1 - bin_from_top
    # Of wider numbers several lie in a bin.
    n_above = int(from_top[bin_from_top - 1]) if bin_from_top else 0
    inside = np.sort(bits[(bits >> shift) == kernels.N_BINS - 1 - bin_from_top])
    return int(inside[len(inside) - (n - n_above)])
