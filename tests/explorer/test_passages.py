"""Top activating passages against a search through the dense codes."""

import numpy as np
import pytest
import torch
from helpers.shards import write_shards
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_stitching.base.record import write_record
from sae_stitching.explorer import passages as module
from sae_stitching.explorer.passages import load_passages, token_places, top_passages
from sae_stitching.saes.encoding import Codes, StoredCodes
from sae_stitching.sparse.codes import SparseCodes


def stored(dense):
    """Dense codes (token, d_sae) as if they had been read from a file."""
    codes = SparseCodes.from_dense(torch.as_tensor(dense, dtype=torch.float32))

    pattern, indices = codes.pattern, codes.pattern.indices.numpy().astype(np.int32)
    record = Codes(dense.shape[1], "", pattern.indptr.numpy(), indices, codes.values.numpy())
    return StoredCodes("codes.h5", record)


def places(lengths):
    """Sequences of these lengths, position 0 left out."""
    sequence = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
    position = np.concatenate([np.arange(n) + 1 for n in lengths] or [[]]).astype(np.int32)
    return sequence, position


def brute_force(dense, sequence, position, latent, n, before, after):
    """(sequence, position, activation, window) of the passages of one latent."""
    best = []
    for s in np.unique(sequence):
        rows = np.flatnonzero(sequence == s)
        row = rows[np.argmax(dense[rows, latent])]
        if dense[row, latent] > 0:
            best.append((-dense[row, latent], row))
    found = []
    for value, row in sorted(best)[:n]:
        window = [
            dense[r, latent] if 0 <= r < len(dense) and sequence[r] == sequence[row] else 0
            for r in range(row - before, row + after + 1)
        ]
        found.append((sequence[row], position[row], -value, window))
    return found


def check(dense, lengths, n, before, after):
    sequence, position = places(lengths)
    result = top_passages(
        stored(dense), sequence, position, n_passages=n, before=before, after=after
    )
    np.testing.assert_array_equal(result.n_active, (dense > 0).sum(0))
    assert result.n_tokens == len(dense)
    for latent in range(dense.shape[1]):
        expected = brute_force(dense, sequence, position, latent, n, before, after)
        assert (result.sequence[latent] >= 0).sum() == len(expected)
        for i, (s, p, value, window) in enumerate(expected):
            assert (result.sequence[latent, i], result.position[latent, i]) == (s, p)
            assert result.activation[latent, i] == np.float32(value)
            np.testing.assert_array_equal(result.window[latent, i], np.float32(window))
        beyond = slice(len(expected), None)
        assert (result.position[latent, beyond] == -1).all()
        assert not result.activation[latent, beyond].any()
        assert not result.window[latent, beyond].any()


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    d_sae=st.integers(1, 4),
    n=st.integers(1, 4),
    before=st.integers(0, 4),
    after=st.integers(0, 4),
    block=st.integers(1, 20),
    seed=st.integers(0, 1000),
)
def test_passages_are_those_of_brute_force(lengths, d_sae, n, before, after, block, seed):
    rng = np.random.default_rng(seed)
    # Few different values, so that there are ties; many zeros.
    dense = rng.integers(-3, 4, (sum(lengths), d_sae)).clip(0).astype(np.float32)
    size, module._BLOCK_TOKENS = module._BLOCK_TOKENS, block
    try:
        check(dense, lengths, n, before, after)
    finally:
        module._BLOCK_TOKENS = size


def test_latents_that_are_never_active():
    check(np.zeros((6, 3), dtype=np.float32), [2, 4], 2, 1, 1)


def test_files_read_back(tmp_path):
    dense = np.random.default_rng(0).normal(size=(12, 5)).clip(0).astype(np.float32)
    result = top_passages(stored(dense), *places([4, 8]), n_passages=3, before=2, after=1)
    write_record(result, tmp_path / "a.h5", study="test", provenance={})
    again = load_passages(tmp_path / "a.h5", study="test")
    for name, value in vars(result).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    write_record(again, tmp_path / "b.h5", study="test", provenance={})
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@pytest.mark.parametrize("lengths", [[40], [16, 24]])
def test_places_of_the_tokens_come_from_the_shards(tmp_path, lengths):
    shards = write_shards(tmp_path, torch.zeros(40, 3), lengths, context=8)
    sequence, position = token_places(shards.paths)
    np.testing.assert_array_equal(sequence, np.arange(40) // 8)
    np.testing.assert_array_equal(position, np.arange(40) % 8 + 1)
