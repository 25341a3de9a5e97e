"""The loops of this package that Numba compiles, see `active` and `codes`.

They are imported where one runs: Numba takes a third of a processor second to import, and as much
again to load a function, which a job that only decodes codes need not wait for.
"""

import numba
import numpy as np
import torch
from numba import prange

from sae_stitching.base.compiled import compiled

# Blocks of tokens that threads take in turn.
_BLOCKS = 16

# Bits of a number that the histogram of a batch distinguishes, the sign left out.
HISTOGRAM_BITS = 15
N_BINS = 1 << HISTOGRAM_BITS


def match_threads() -> None:
    """Let Numba's parallel loops run on as many threads as PyTorch's."""
    most: int = numba.config.NUMBA_NUM_THREADS  # pyright: ignore
    numba.set_num_threads(min(torch.get_num_threads(), most))


@compiled(parallel=True)
def count_above(bits, limits, counts):
    """Count what is above the limits in each row."""
    for t in prange(len(bits)):
        n = 0
        for i in range(bits.shape[1]):
            n += bits[t, i] > limits[i]
        counts[t] = n


@compiled(parallel=True)
def collect_above(bits, limits, starts, indices, kept):
    """Write down what is above the limits, each row from its start on."""
    n_tokens, d_sae = bits.shape
    for block in prange(_BLOCKS):
        position = np.empty(d_sae + 1, np.int32)
        for t in range(block * n_tokens // _BLOCKS, (block + 1) * n_tokens // _BLOCKS):
            n = 0
            for i in range(d_sae):
                position[n] = i
                n += bits[t, i] > limits[i]
            for j in range(n):
                indices[starts[t] + j] = position[j]
                kept[starts[t] + j] = bits[t, position[j]]


@compiled(parallel=True)
def largest_of_token(bits, k, indices, kept, counts):
    """Write down the `k` greatest of each row, where they are positive, and how many they are."""
    n_tokens, d_sae = bits.shape
    for block in prange(_BLOCKS):
        position = np.empty(d_sae + 1, np.int32)
        candidates = np.empty(d_sae, bits.dtype)
        # Only what exceeds a floor can be among the k greatest, if as many do. That of a token
        # is guessed from the tokens before it; where the guess is too high it is zero instead.
        floor = 0
        for t in range(block * n_tokens // _BLOCKS, (block + 1) * n_tokens // _BLOCKS):
            n = _collect(bits[t], floor, position)
            if n < k and floor > 0:
                n = _collect(bits[t], 0, position)
            least, n_tied = 0, 0
            if n >= k:
                for j in range(n):
                    candidates[j] = bits[t, position[j]]
                least = _kth_greatest(candidates, n, k)
                n_tied = k
                for j in range(n):
                    n_tied -= bits[t, position[j]] > least
            m = 0
            for j in range(n):
                value = bits[t, position[j]]
                if value > least or (value == least and n_tied > 0):
                    n_tied -= value == least
                    indices[t, m] = position[j]
                    kept[t, m] = value
                    m += 1
            counts[t] = m
            # Fall at once, rise slowly.
            floor = min(least, floor + ((least - floor) >> 4)) if floor else least


@compiled()
def _collect(row, floor, position):
    n = 0
    for i in range(len(row)):
        position[n] = i
        n += row[i] > floor
    return n


@compiled()
def _kth_greatest(values, n, k):
    # Hoare's quickselect; reorders the first n values.
    low, high, wanted = 0, n - 1, k - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if wanted <= j:
            high = j
        elif wanted >= i:
            low = i
        else:
            break
    return values[wanted]


@compiled(parallel=True)
def histogram(bits, shift, floor):
    """Count the numbers above a floor by their leading bits."""
    n_tokens, d_sae = bits.shape
    counts = np.zeros((_BLOCKS, N_BINS), np.int64)
    for block in prange(_BLOCKS):
        for t in range(block * n_tokens // _BLOCKS, (block + 1) * n_tokens // _BLOCKS):
            for i in range(d_sae):
                if bits[t, i] > floor:
                    counts[block, bits[t, i] >> shift] += 1
    return counts.sum(0)


@compiled(parallel=True)
def scatter(indptr, indices, values, dense):
    """Put the values of codes into a matrix."""
    for t in prange(len(dense)):
        for entry in range(indptr[t], indptr[t + 1]):
            dense[t, indices[entry]] = values[entry]


@compiled(parallel=True)
def gather(indptr, indices, dense, values):
    """Take the values of codes out of a matrix."""
    for t in prange(len(dense)):
        for entry in range(indptr[t], indptr[t + 1]):
            values[entry] = dense[t, indices[entry]]


@compiled()
def by_latent(indptr, indices, position, rows, order):
    """Order entries by latent, those of each by token."""
    # A counting sort; `position` is where the next entry of each latent goes.
    for t in range(len(indptr) - 1):
        for entry in range(indptr[t], indptr[t + 1]):
            place = position[indices[entry]]
            position[indices[entry]] += 1
            rows[place] = t
            order[place] = entry


@compiled(parallel=True)
def count_kept(indptr, keep, counts):
    """Count the entries of each token that are kept."""
    for t in prange(len(counts)):
        counts[t] = keep[indptr[t] : indptr[t + 1]].sum()


@compiled(parallel=True)
def collect_kept(indptr, keep, indices, values, starts, kept, kept_values):
    """Write down the entries that are kept."""
    for t in prange(len(indptr) - 1):
        place = starts[t]
        for entry in range(indptr[t], indptr[t + 1]):
            if keep[entry]:
                kept[place] = indices[entry]
                kept_values[place] = values[entry]
                place += 1
