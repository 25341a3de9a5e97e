"""Sparse codes and their products against dense matrices and autograd."""

import pytest
import torch
from helpers.products import products
from helpers.random_codes import dense_codes, normal
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sae_stitching.saes.sae import concatenate
from sae_stitching.sparse.codes import SparseCodes, SparsePattern, decode, encode_active

exact = {"rtol": 1e-12, "atol": 1e-12}


shapes = {
    "seed": st.integers(0, 2**32 - 1),
    "n_tokens": st.integers(0, 9),
    "d_sae": st.integers(1, 12),
    "share": st.sampled_from([0.0, 0.15, 0.5, 1.0]),
}
examples = [
    {"seed": 0, "n_tokens": 1, "d_sae": 1, "share": 0.0},
    {"seed": 0, "n_tokens": 1, "d_sae": 1, "share": 1.0},
    {"seed": 0, "n_tokens": 0, "d_sae": 3, "share": 1.0},
    {"seed": 0, "n_tokens": 6, "d_sae": 5, "share": 0.0},
    {"seed": 0, "n_tokens": 6, "d_sae": 5, "share": 1.0},
]


def on_all_shapes(**more):
    """Run a test on random shapes, and on the extreme ones each time."""

    def decorate(test):
        test = given(**shapes, **more)(test)
        for case in examples:
            test = example(**case, **dict.fromkeys(more, 3))(test)
        return settings(max_examples=60, deadline=None)(test)

    return decorate


@on_all_shapes()
def test_codes_keep_what_is_positive_in_csr_form(seed, n_tokens, d_sae, share):
    dense = dense_codes(seed, n_tokens, d_sae, share)
    signed = torch.where(dense > 0, dense, -normal(seed, n_tokens, d_sae).abs())
    for codes in (SparseCodes.from_dense(signed), SparseCodes.from_mask(signed, dense > 0)):
        assert torch.equal(codes.to_dense(), dense)
        assert len(codes) == int((dense > 0).sum())
        assert (codes.n_tokens, codes.d_sae) == (n_tokens, d_sae)
        assert codes.values.dtype == torch.float64
        # CSR with the latents of each token in order.
        assert torch.equal(codes.pattern.indptr.diff(), (dense > 0).sum(1))
        assert torch.equal(codes.pattern.indices, dense.nonzero()[:, 1])
        assert codes.pattern.indptr.dtype == codes.pattern.indices.dtype == torch.int64


@on_all_shapes()
def test_rows_counts_and_sums_equal_dense(seed, n_tokens, d_sae, share):
    dense = dense_codes(seed, n_tokens, d_sae, share)
    codes = SparseCodes.from_dense(dense)
    rows, latents = dense.nonzero(as_tuple=True)
    assert torch.equal(codes.pattern.rows, rows)
    assert torch.equal(codes.pattern.indices, latents)
    assert torch.equal(codes.pattern.counts, (dense > 0).sum(0))
    sums = codes.pattern.sum_by_latent(codes.values)
    assert sums.dtype == codes.values.dtype
    torch.testing.assert_close(sums, dense.sum(0), **exact)


@on_all_shapes(d=st.integers(1, 6))
def test_products_equal_dense(seed, n_tokens, d_sae, share, d):
    dense = dense_codes(seed, n_tokens, d_sae, share)
    codes = SparseCodes.from_dense(dense)
    weights, left = normal(seed, d_sae, d), normal(seed + 1, n_tokens, d)
    torch.testing.assert_close(codes.matmul(weights), dense @ weights, **exact)
    torch.testing.assert_close(codes.pattern.outer(codes.values, left), dense.T @ left, **exact)
    torch.testing.assert_close(
        codes.pattern.dot(left, weights), (left @ weights.T)[dense > 0], **exact
    )


@on_all_shapes()
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_values_go_to_a_matrix_and_come_from_it(dtype, seed, n_tokens, d_sae, share):
    pattern = SparseCodes.from_dense(dense_codes(seed, n_tokens, d_sae, share)).pattern
    values = normal(seed, len(pattern.indices)).to(torch.promote_types(dtype, torch.float32))
    dense = torch.zeros(n_tokens, d_sae, dtype=values.dtype)
    dense[pattern.rows, pattern.indices] = values
    assert torch.equal(pattern.to_dense(values), dense)
    matrix = normal(seed, n_tokens, d_sae).to(dtype)
    assert torch.equal(pattern.of_dense(matrix), matrix[pattern.rows, pattern.indices])
    # One that is not contiguous.
    matrix = normal(seed, d_sae, n_tokens).to(dtype).T
    assert torch.equal(pattern.of_dense(matrix), matrix[pattern.rows, pattern.indices])


@on_all_shapes(modulus=st.integers(1, 4))
def test_select_keeps_the_chosen_entries(seed, n_tokens, d_sae, share, modulus):
    dense = dense_codes(seed, n_tokens, d_sae, share)
    codes = SparseCodes.from_dense(dense)
    keep = torch.arange(len(codes)) % modulus == 0
    rows, latents = dense.nonzero(as_tuple=True)
    dense[rows[~keep], latents[~keep]] = 0.0
    chosen = codes.select(keep)
    assert torch.equal(chosen.to_dense(), dense)
    assert len(chosen) == int(keep.sum())


@on_all_shapes(modulus=st.integers(1, 4))
def test_zeros_are_left_out_where_they_are_most(seed, n_tokens, d_sae, share, modulus):
    codes = SparseCodes.from_dense(dense_codes(seed, n_tokens, d_sae, share))
    codes.values[torch.arange(len(codes)) % modulus != 0] = 0.0
    found = codes.without_zeros()
    assert torch.equal(found.to_dense(), codes.to_dense())
    n_nonzero = int((codes.values != 0).sum())
    assert len(found) == (n_nonzero if 2 * n_nonzero < len(codes) else len(codes))


@on_all_shapes(pieces=st.integers(1, 4))
def test_concatenated_blocks_are_the_whole(seed, n_tokens, d_sae, share, pieces):
    dense = dense_codes(seed, n_tokens, d_sae, share)
    whole = SparseCodes.from_dense(dense)
    joined = concatenate([SparseCodes.from_dense(part) for part in dense.tensor_split(pieces)])
    assert torch.equal(joined.to_dense(), dense)
    assert torch.equal(joined.pattern.indptr, whole.pattern.indptr)
    assert torch.equal(joined.pattern.indices, whole.pattern.indices)


def test_codes_of_a_transposed_matrix():
    dense = dense_codes(1, 4, 6, 0.5)
    assert torch.equal(SparseCodes.from_dense(dense.T).to_dense(), dense.T)


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32)],
)
def test_bfloat16_values_are_kept_in_float32(dtype, kept):
    dense = dense_codes(0, 5, 7, 0.4).to(dtype)
    codes = SparseCodes.from_dense(dense)
    assert codes.values.dtype == kept
    assert torch.equal(codes.to_dense(), dense.to(kept))
    assert codes.double().values.dtype == torch.float64


@on_all_shapes(d=st.integers(1, 4))
@pytest.mark.parametrize("path", ["dense", "sparse"])
def test_gradients_of_decode(path, seed, n_tokens, d_sae, share, d):
    # Of most entries, of one in two and of none the value is zero.
    for modulus in (3, 2, 1):
        with products(path):
            gradients_of_decode(path, seed, n_tokens, d_sae, share, d, modulus)


def gradients_of_decode(path, seed, n_tokens, d_sae, share, d, modulus):
    codes = SparseCodes.from_dense(dense_codes(seed, n_tokens, d_sae, share))
    codes.values[torch.arange(len(codes)) % modulus != 0] = 0.0
    values = codes.values.clone().requires_grad_()
    W_dec = normal(seed, d_sae, d).requires_grad_()

    def function(values, W_dec):
        return decode(values, W_dec, codes.pattern)

    found, wanted = function(values, W_dec).detach(), codes.matmul(W_dec.detach())
    torch.testing.assert_close(found, wanted, **exact)
    # The sparse product of the same entries is the very same.
    assert modulus > 1 or path == "dense" or torch.equal(found, wanted)
    assert torch.autograd.gradcheck(function, (values, W_dec))


@settings(max_examples=40, deadline=None)
@given(**shapes, d=st.integers(1, 4), biased=st.booleans())
@example(seed=0, n_tokens=1, d_sae=1, share=1.0, d=1, biased=True)
@example(seed=0, n_tokens=1, d_sae=1, share=0.0, d=1, biased=False)
@example(seed=0, n_tokens=5, d_sae=4, share=0.0, d=3, biased=True)
@example(seed=0, n_tokens=5, d_sae=4, share=1.0, d=3, biased=True)
@pytest.mark.parametrize("path", ["dense", "sparse"])
def test_gradients_of_encode_active(path, seed, n_tokens, d_sae, share, d, biased):
    # Which latents are active is fixed; the values follow the parameters.
    mask = dense_codes(seed, n_tokens, d_sae, share) > 0
    x = normal(seed + 1, n_tokens, d)
    parameters = [normal(seed + 2, d_sae, d), normal(seed + 3, d_sae)]
    if biased:
        parameters.append(normal(seed + 4, d))
    for tensor in parameters:
        tensor.requires_grad_()

    def function(W_enc_t, b_enc, b_dec=None):
        centred = x if b_dec is None else x - b_dec
        pre = (centred @ W_enc_t.T + b_enc).detach()
        return encode_active(x, W_enc_t, b_enc, b_dec, SparseCodes.from_mask(pre, mask))

    with products(path):
        assert torch.autograd.gradcheck(function, parameters)


@pytest.mark.parametrize(("share", "dense"), [(0.1, False), (0.5, True)])
def test_the_share_of_entries_decides_which_products_are_dense(monkeypatch, share, dense):
    sparse_products = []
    for name in ("matmul", "outer", "dot"):
        plain = getattr(SparsePattern, name)

        def watched(*arguments, name=name, plain=plain):
            sparse_products.append(name)
            return plain(*arguments)

        monkeypatch.setattr(SparsePattern, name, watched)
    codes = SparseCodes.from_dense(dense_codes(0, 40, 50, share))
    values, W_dec = codes.values.clone().requires_grad_(), normal(0, 50, 3).requires_grad_()
    decode(values, W_dec, codes.pattern).sum().backward()
    assert sorted(sparse_products) == ([] if dense else ["dot", "matmul", "outer"])


@pytest.mark.parametrize("values", [torch.float32, torch.float64])
def test_values_of_another_type_are_decoded_in_that_of_the_decoder(values):
    dense = dense_codes(3, 4, 5, 0.5)
    codes = SparseCodes.from_dense(dense.to(values))
    W_dec = normal(0, 5, 3)
    torch.testing.assert_close(codes.matmul(W_dec), dense.to(values).double() @ W_dec, **exact)


def test_pattern_of_hand_written_arrays():
    pattern = SparsePattern(torch.tensor([0, 0, 2, 2, 3]), torch.tensor([1, 3, 0]), 4)
    assert pattern.n_tokens == 4
    assert pattern.rows.tolist() == [1, 1, 3]
    assert pattern.counts.tolist() == [1, 1, 0, 1]
