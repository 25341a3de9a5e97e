"""HDF5's checksum against the one that HDF5 itself writes."""

import h5py
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sae_stitching.base.fletcher32 import first_damaged


@settings(deadline=None)  # compiled at the first
@given(words=arrays(np.uint16, st.integers(1, 1500)))
@example(words=np.zeros(5, np.uint16))
# Sums that are multiples of 65535, of many words, and of one.
@example(words=np.full(1, 65535, np.uint16))
@example(words=np.full(100_000, 65535, np.uint16))
@example(words=np.full(65535, 257, np.uint16))
def test_the_checksum_is_that_of_hdf5(words):
    with h5py.File("memory.h5", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("words", data=words, chunks=words.shape, fletcher32=True)
        _, stored = dataset.id.read_direct_chunk((0,))
    checksum = np.frombuffer(stored[-4:], "<u4")
    assert first_damaged(words[None], np.zeros(1, int), checksum) == -1
    assert first_damaged(words[None], np.zeros(1, int), checksum + np.uint32(1)) == 0


@pytest.mark.parametrize("word", [0, 1, 777, 1499])
def test_the_first_chunk_that_changed_is_found(word):
    words = np.arange(3 * 1500, dtype=np.uint16).reshape(3, 1500)
    with h5py.File("memory.h5", "w", driver="core", backing_store=False) as file:
        dataset = file.create_dataset("words", data=words, chunks=(1, 1500), fletcher32=True)
        stored = [dataset.id.read_direct_chunk((n, 0))[1][-4:] for n in (2, 0, 1)]
    checksums = np.frombuffer(b"".join(stored), "<u4")
    places = np.array([2, 0, 1])
    assert first_damaged(words, places, checksums) == -1
    words[0, word] ^= 1 << 7
    assert first_damaged(words, places, checksums) == 1
    words[2, word] ^= 1 << 7
    assert first_damaged(words, places, checksums) == 0
