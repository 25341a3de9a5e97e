"""Which pre-activations are found active, against lists that Python sorted and compared."""

import pytest
import torch
from helpers.pre_activations import DTYPES, many_values
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sae_stitching.sparse import active as selection
from sae_stitching.sparse.active import (
    above,
    largest_of_batch,
    largest_of_batch_reference,
    largest_of_token,
    largest_of_token_reference,
)

CASE = {
    "seed": st.integers(0, 2**32 - 1),
    "n_tokens": st.integers(1, 70),
    "d_sae": st.integers(1, 12),
    "shift": st.integers(-8, 8),
    "dtype": st.sampled_from(DTYPES),
}


def few_values(seed, n_tokens, d_sae, shift, dtype):
    """Pre-activations of few distinct values, so that many are tied, zeros of both signs too."""
    generator = torch.Generator().manual_seed(seed)
    z = (torch.randint(-4, 5, (n_tokens, d_sae), generator=generator) + shift).to(dtype)
    return torch.where(torch.rand(z.shape, generator=generator) < 0.1, -torch.zeros_like(z), z)


def check(codes, z, kept):
    """The codes are those entries (token, latent) of z, in order, at the accumulator's type."""
    expected = torch.zeros_like(z)
    for token, latent in kept:
        expected[token, latent] = z[token, latent]
    accumulator = torch.float32 if z.dtype == torch.bfloat16 else z.dtype
    assert codes.values.dtype == accumulator
    assert codes.d_sae == z.shape[1] and codes.n_tokens == len(z)
    assert torch.equal(codes.to_dense(), expected.to(accumulator))
    places = list(zip(codes.pattern.rows.tolist(), codes.pattern.indices.tolist(), strict=True))
    assert places == sorted(kept)


def greatest(values, n):
    """Places of the n greatest positive values; of equals the first."""
    order = sorted(range(len(values)), key=lambda place: (-values[place], place))[:n]
    return [place for place in order if values[place] > 0]


@settings(max_examples=150, deadline=None)
@given(**CASE, data=st.data())
def test_the_greatest_of_each_token(seed, n_tokens, d_sae, shift, dtype, data):
    z = few_values(seed, n_tokens, d_sae, shift, dtype)
    k = data.draw(st.integers(1, d_sae))
    kept = [(t, i) for t, row in enumerate(z.tolist()) for i in greatest(row, k)]
    check(largest_of_token(z, k), z, kept)


@settings(max_examples=150, deadline=None)
@given(**CASE, data=st.data())
@example(0, 3, 1, -8, torch.float32, None)
@example(0, 3, 4, 8, torch.bfloat16, None)
def test_the_greatest_of_the_batch(seed, n_tokens, d_sae, shift, dtype, data):
    z = few_values(seed, n_tokens, d_sae, shift, dtype)
    k = d_sae if data is None else data.draw(st.integers(1, d_sae))
    kept = [divmod(place, d_sae) for place in greatest(z.flatten().tolist(), k * n_tokens)]
    check(largest_of_batch(z, k), z, kept)


@settings(max_examples=150, deadline=None)
@given(**CASE, limit=st.integers(-9, 9), same=st.booleans())
def test_all_above_a_threshold(seed, n_tokens, d_sae, shift, dtype, limit, same):
    z = few_values(seed, n_tokens, d_sae, shift, dtype)
    generator = torch.Generator().manual_seed(seed + 1)
    limits = torch.full((d_sae,), limit * 1.0)
    if not same:
        limits += torch.randint(-3, 4, (d_sae,), generator=generator)
        limits *= torch.randint(0, 2, (d_sae,), generator=generator) * 2 - 1  # −0 too
    above_limit = (z > limits.to(dtype)).nonzero().tolist()
    check(above(z, limit if same else limits), z, [tuple(place) for place in above_limit])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_tokens", [1, 17, 400])
@pytest.mark.parametrize("one_pass_from", [0, 1 << 25])
def test_selections_of_many_tokens_are_those_of_pytorch(
    monkeypatch, dtype, n_tokens, one_pass_from
):
    monkeypatch.setattr(selection, "_ONE_PASS_FROM", one_pass_from)
    z = many_values(n_tokens, n_tokens, 300).to(dtype)
    for k in (1, 20, 300):
        best = z.sort(dim=1, descending=True).values[:, :k]
        for codes in (largest_of_token(z, k), largest_of_token_reference(z, k)):
            check_values(codes, z, best[best > 0])
            assert torch.equal(codes.pattern.indptr.diff(), (best > 0).sum(1))
        best = z.flatten().sort(descending=True).values[: k * n_tokens]
        for codes in (largest_of_batch(z, k), largest_of_batch_reference(z, k)):
            check_values(codes, z, best[best > 0])


@settings(max_examples=150, deadline=None)
@given(**{**CASE, "d_sae": st.integers(1, 60)}, data=st.data())
def test_the_references_find_the_greatest_of_few_values(seed, n_tokens, d_sae, shift, dtype, data):
    # Of equal values each way may keep others.
    z = few_values(seed, n_tokens, d_sae, shift, dtype)
    k = data.draw(st.integers(1, d_sae))
    for way, reference in (
        (largest_of_token, largest_of_token_reference),
        (largest_of_batch, largest_of_batch_reference),
    ):
        for one_pass_from in (0, len(z) * d_sae + 1):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(selection, "_ONE_PASS_FROM", one_pass_from)
                check_values(reference(z, k), z, way(z, k).values)


def check_values(codes, z, values):
    """The codes have these values in any order, each from its place in z, and no place twice."""
    assert torch.equal(codes.values.sort().values.to(z), values.sort().values.to(z))
    rows, indices = codes.pattern.rows, codes.pattern.indices
    assert torch.equal(z[rows, indices].to(codes.values), codes.values)
    assert bool(((rows * z.shape[1] + indices).diff() > 0).all())


def test_nothing_positive_is_no_latent():
    z = -torch.ones(5, 7)
    for codes in (above(z), largest_of_token(z, 3), largest_of_batch(z, 3)):
        assert len(codes) == 0 and codes.n_tokens == 5 and codes.d_sae == 7


def test_columns_of_a_larger_matrix_are_read_right():
    z = torch.randn(6, 9, generator=torch.Generator().manual_seed(0))
    every_other = z[:, ::2]
    assert torch.equal(above(every_other).to_dense(), every_other.relu())
    assert torch.equal(above(z.T).to_dense(), z.T.relu())
    assert torch.equal(
        largest_of_token(z.T, 2).to_dense(), largest_of_token(z.T.clone(), 2).to_dense()
    )
