"""Cosine similarity between dictionaries against the dense matrix in float64."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from helpers.oracle import random_sae
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sae_stitching.base.errors import StudyError
from sae_stitching.matching import decoder_similarity as similarity_module
from sae_stitching.matching.decoder_similarity import (
    load_similarity,
    novel_latents,
    similarity,
    unit_rows,
    write_similarity,
)
from sae_stitching.saes.sae import fingerprint


def in_blocks(block, *arguments, **options):
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(similarity_module, "_BLOCK", block)
        return similarity(*arguments, **options)


def cosines(W_large, W_small):
    """All cosines in float64, by the definition; 0 where a direction is zero."""
    result = np.zeros((len(W_large), len(W_small)))
    for i, a in enumerate(W_large.double().numpy()):
        for j, b in enumerate(W_small.double().numpy()):
            norms = np.sqrt(a @ a) * np.sqrt(b @ b)
            result[i, j] = a @ b / norms if norms else 0.0
    return result


def random_rows(seed, n, d_model, zero=False):
    rows = torch.randn(n, d_model, generator=torch.Generator().manual_seed(seed))
    if zero:
        rows[::3] = 0.0
    return rows


def exact_rows(seed, n):
    """Rows of 0, ±1 or ±2 with a norm of 2^n, whose cosines are exact and often equal."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((n, 6), dtype=np.float32)
    for row in rows:
        n_entries = rng.choice([0, 1, 4])
        row[rng.choice(6, n_entries, replace=False)] = rng.choice([-1, 1], n_entries)
        row *= rng.choice([1, 2])
    return torch.from_numpy(rows)


sizes = {
    "seed": st.integers(0, 2**32 - 1),
    "d_large": st.integers(1, 15),
    "d_small": st.integers(1, 11),
    "block": st.integers(1, 16),
}


@settings(max_examples=60, deadline=None)
@given(
    **sizes,
    d_model=st.integers(1, 6),
    floor=st.floats(-1.0, 1.0),
    zero=st.booleans(),
    keep=st.booleans(),
)
def test_cosines_equal_dense(seed, d_large, d_small, block, d_model, floor, zero, keep):
    W_large = random_rows(seed, d_large, d_model, zero)
    W_small = 3.0 * random_rows(seed + 1, d_small, d_model)
    result = in_blocks(block, W_small, W_large, floor=floor, keep=keep)
    expected = cosines(W_large, W_small)
    close = {"rtol": 0, "atol": 1e-6}
    np.testing.assert_allclose(result.max_cosine_large, expected.max(1), **close)
    np.testing.assert_allclose(result.max_cosine_small, expected.max(0), **close)
    # The argmax has the greatest cosine, up to the rounding of float32.
    best_large = expected[np.arange(d_large), result.argmax_large]
    best_small = expected[result.argmax_small, np.arange(d_small)]
    np.testing.assert_allclose(best_large, expected.max(1), **close)
    np.testing.assert_allclose(best_small, expected.max(0), **close)
    # All edges that are clearly at or above the floor are there, and none that is clearly below.
    edges = np.zeros((d_large, d_small), dtype=bool)
    edges[result.edge_large, result.edge_small] = True
    assert edges.sum() == len(result.edge_cosine) == len(result.edge_large)
    assert edges[expected > floor + 1e-6].all()
    assert not edges[expected < floor - 1e-6].any()
    np.testing.assert_allclose(result.edge_cosine, expected[edges], **close)
    order = result.edge_large.astype(np.int64) * d_small + result.edge_small
    assert (np.diff(order) > 0).all()
    assert result.floor == floor
    if keep:
        np.testing.assert_allclose(result.cosine, expected, **close)
    else:
        assert result.cosine is None


@settings(max_examples=80, deadline=None)
@given(**sizes, floor=st.sampled_from([-1.0, -0.25, 0.0, 0.25, 0.5, 1.0]))
@example(seed=0, d_large=1, d_small=1, block=1, floor=0.0)
def test_ties_go_to_the_lowest_number_and_edges_include_the_floor(
    seed, d_large, d_small, block, floor
):
    W_large, W_small = exact_rows(seed, d_large), exact_rows(seed + 1, d_small)
    expected = cosines(W_large, W_small).astype(np.float32)
    result = in_blocks(block, W_small, W_large, floor=floor, keep=True)
    np.testing.assert_array_equal(result.cosine, expected)
    np.testing.assert_array_equal(result.max_cosine_large, expected.max(1))
    np.testing.assert_array_equal(result.max_cosine_small, expected.max(0))
    np.testing.assert_array_equal(result.argmax_large, expected.argmax(1))
    np.testing.assert_array_equal(result.argmax_small, expected.argmax(0))
    i, j = np.nonzero(expected >= floor)
    np.testing.assert_array_equal(result.edge_large, i)
    np.testing.assert_array_equal(result.edge_small, j)
    np.testing.assert_array_equal(result.edge_cosine, expected[i, j])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("block", [1, 3, 100])
def test_ties_of_cosines_that_are_no_round_numbers(dtype, block):
    # cos = 1/√2 and the like, rounded to float32; the same latent three times on either side.
    W_large = torch.tensor([[1, 1], [1, 0], [1, 1], [1, 1]], dtype=dtype)
    W_small = torch.tensor([[1, 0], [-1, 1], [1, 0], [1, 0]], dtype=dtype)
    result = in_blocks(block, W_small, W_large, floor=0.5)
    assert result.argmax_large.tolist() == [0, 0, 0, 0]
    assert result.argmax_small.tolist() == [1, 0, 1, 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_all_arrays_have_the_types_of_the_file(dtype):
    rows = random_rows(0, 7, 3).to(dtype)
    result = similarity(rows[:4], rows, floor=0.1, keep=True)
    arrays = {name: array for name, array in vars(result).items() if np.ndim(array)}
    assert len(arrays) == 8
    for name, array in arrays.items():
        expected = np.float32 if "cosine" in name else np.int32
        assert array.dtype == expected, name


def test_a_zero_direction_has_cosine_zero_to_all():
    W_large = torch.tensor([[0.0, 0.0], [-1.0, 0.0]])
    result = similarity(torch.tensor([[3.0, 0.0], [0.0, 2.0]]), W_large, floor=-1.0, keep=True)
    assert result.cosine is not None
    assert result.cosine.tolist() == [[0.0, 0.0], [-1.0, 0.0]]
    assert result.max_cosine_large.tolist() == [0.0, 0.0]
    assert result.argmax_large.tolist() == [0, 1]
    assert result.argmax_small.tolist() == [0, 0]
    zeros = unit_rows(torch.zeros(3, 2))
    assert torch.equal(zeros, torch.zeros(3, 2))


def test_no_pair_at_or_above_the_floor():
    result = similarity(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), floor=0.5)
    assert len(result.edge_large) == len(result.edge_small) == len(result.edge_cosine) == 0


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), data=st.data())
def test_novel_is_below_the_threshold_at_the_precision_of_the_cosines(seed, data):
    rng = np.random.default_rng(seed)
    cosine = np.round(rng.uniform(-1, 1, 20), 2).astype(np.float32)
    hundredth = st.integers(-100, 100).map(lambda n: n / 100)
    threshold = data.draw(hundredth | st.sampled_from(cosine.tolist()) | st.floats(-1, 1))
    expected = [float(c) < float(np.float32(threshold)) for c in cosine]
    assert novel_latents(cosine, threshold).tolist() == expected
    assert novel_latents(cosine, np.float64(threshold)).tolist() == expected


@pytest.fixture
def saes():
    generator = torch.Generator().manual_seed(0)
    return [random_sae(generator, 6, d_sae, "relu", dtype=torch.float32) for d_sae in (25, 40)]


@pytest.mark.parametrize("full_matrix_mb", [0, 0.0039, 0.004, 64])
def test_a_file_gives_back_the_similarity(tmp_path, saes, full_matrix_mb):
    small, large = saes
    path = tmp_path / "similarity" / "25--40.h5"
    options = {"floor": 0.3, "full_matrix_mb": full_matrix_mb, "study": "test", "provenance": {}}
    write_similarity(small, large, path, **options)
    # The matrix takes 40 × 25 × 4 bytes = 4 kB.
    keep = full_matrix_mb >= 0.004
    prints = {"small_fingerprint": fingerprint(small), "large_fingerprint": fingerprint(large)}
    expected = replace(similarity(small.W_dec, large.W_dec, floor=0.3, keep=keep), **prints)
    loaded = load_similarity(path, study="test")
    for field in fields(expected):
        ours, theirs = getattr(expected, field.name), getattr(loaded, field.name)
        assert (ours is None) == (theirs is None) == (field.name == "cosine" and not keep)
        np.testing.assert_array_equal(ours, theirs)
        assert ours is None or np.asarray(ours).dtype == np.asarray(theirs).dtype
    with pytest.raises(StudyError, match="belongs to study 'test'"):
        load_similarity(path, study="other")


def test_the_same_similarity_gives_the_same_bytes(tmp_path, saes):
    paths = tmp_path / "1.h5", tmp_path / "2.h5"
    for path in paths:
        options = {"floor": 0.0, "full_matrix_mb": 1, "study": "test", "provenance": {}}
        write_similarity(*saes, path, **options)
    assert paths[0].read_bytes() == paths[1].read_bytes()
