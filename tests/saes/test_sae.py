"""Encoding, decoding and the file of an SAE."""

import re
import tempfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from helpers.oracle import dense_codes, random_sae
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sae_stitching.base.errors import StudyError
from sae_stitching.saes import sae as sae_module
from sae_stitching.saes.architectures import ARCHITECTURES
from sae_stitching.saes.normalization import NORMALIZATIONS
from sae_stitching.saes.sae import SAE, fingerprint, load_decoder, read_sae, save_sae

TENSORS = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")

architectures = st.sampled_from(sorted(ARCHITECTURES))


def make(seed, architecture, *, d_model=5, d_sae=9, applies=True, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return random_sae(
        generator, d_model, d_sae, architecture, apply_b_dec_to_input=applies, dtype=dtype
    )


def save(sae, path, **options):
    save_sae(sae, path, **{"study": "test", "provenance": {}, **options})
    return path


def check_encoding(sae, x, tolerance):
    codes, expected = sae.encode(x), dense_codes(sae, x)
    torch.testing.assert_close(codes.to_dense(), expected, rtol=tolerance, atol=tolerance)
    assert torch.equal(codes.pattern.counts, (expected > 0).sum(0))
    assert codes.values.dtype == x.dtype
    assert bool((codes.values > 0).all())
    decoded = expected @ sae.W_dec + sae.b_dec
    torch.testing.assert_close(sae.decode(codes), decoded, rtol=10 * tolerance, atol=tolerance)


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    architecture=architectures,
    n_tokens=st.integers(1, 12),
    d_model=st.integers(1, 6),
    d_sae=st.integers(1, 12),
    applies=st.booleans(),
    block=st.integers(0, 40),
)
@example(0, "topk", 1, 1, 1, True, 1)
@example(1, "relu", 12, 3, 5, False, 0)
def test_encoding_equals_the_definition(
    seed, architecture, n_tokens, d_model, d_sae, applies, block
):
    options = {"d_model": d_model, "d_sae": d_sae, "applies": applies, "dtype": torch.float64}
    sae = make(seed, architecture, **options)
    generator = torch.Generator().manual_seed(seed + 1)
    x = 2.0 * torch.randn(n_tokens, d_model, generator=generator, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as monkeypatch:
        # Of `block` values at most, and one token at the least, in a block.
        monkeypatch.setattr(sae_module, "_ENCODE_ELEMENTS", block)
        check_encoding(sae, x, 1e-12)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_encoding_in_float32(architecture):
    sae = make(3, architecture, d_model=16, d_sae=40)
    check_encoding(sae, torch.randn(50, 16, generator=torch.Generator().manual_seed(4)), 1e-5)


@pytest.mark.parametrize("architecture", ["batchtopk", "jumprelu", "gated"])
def test_a_threshold_below_zero_makes_nothing_negative_active(architecture):
    sae = make(3, architecture)
    sae.threshold.sub_(0.5)
    assert (sae.threshold < 0).any()
    assert (sae.threshold > -0.5).any()
    check_encoding(sae, torch.randn(50, 5, generator=torch.Generator().manual_seed(4)), 1e-5)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_tokens_without_an_active_latent(architecture):
    sae = make(2, architecture)
    sae.b_enc.fill_(-1e6)
    x = torch.randn(4, sae.d_model, generator=torch.Generator().manual_seed(0))
    codes = sae.encode(x)
    assert len(codes) == 0
    assert codes.to_dense().shape == (4, sae.d_sae)
    assert torch.equal(sae.decode(codes), sae.b_dec.expand(4, -1))


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_no_token_at_all(architecture):
    sae = make(2, architecture)
    codes = sae.encode(torch.zeros(0, sae.d_model))
    assert (codes.n_tokens, len(codes), codes.d_sae) == (0, 0, sae.d_sae)


def test_double():
    sae = make(0, "jumprelu").double()
    assert {getattr(sae, name).dtype for name in TENSORS} == {torch.float64}
    plain = make(0, "topk").double()
    assert plain.threshold is None
    assert (plain.architecture, plain.k) == ("topk", 2)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@pytest.mark.parametrize("applies", [True, False])
@pytest.mark.parametrize("normalize", [None, *NORMALIZATIONS])
def test_a_file_gives_back_the_sae(tmp_path, architecture, applies, normalize):
    sae = make(5, architecture, applies=applies)
    sae = replace(sae, hook="blocks.3.hook_mlp_out", model="tiny", normalize=normalize)
    loaded = read_sae(save(sae, tmp_path / "saes" / "9.h5"), study="test")
    for name in TENSORS:
        ours, theirs = getattr(sae, name), getattr(loaded, name)
        assert (ours is None) == (theirs is None)
        assert ours is None or torch.equal(ours, theirs)
    for name in ("architecture", "k", "apply_b_dec_to_input", "hook", "model", "d_sae", "d_model"):
        assert getattr(loaded, name) == getattr(sae, name)
    assert loaded.normalize == normalize
    decoder = load_decoder(tmp_path / "saes" / "9.h5", study="test")
    assert (decoder.normalize, decoder.fingerprint) == (normalize, fingerprint(sae))
    assert fingerprint(loaded) == fingerprint(sae)
    x = torch.randn(6, sae.d_model, generator=torch.Generator().manual_seed(0))
    assert torch.equal(sae.encode(x).to_dense(), loaded.encode(x).to_dense())


def test_weights_with_strides_and_gradients_are_saved_as_they_read(tmp_path):
    sae = make(5, "relu")
    strided = replace(sae, W_enc=sae.W_enc.T.contiguous().T.requires_grad_())
    assert fingerprint(strided) == fingerprint(sae)
    assert torch.equal(read_sae(save(strided, tmp_path / "9.h5")).W_enc, sae.W_enc)


def test_the_same_sae_gives_the_same_bytes(tmp_path):
    first = save(make(5, "jumprelu"), tmp_path / "1.h5", provenance={"seed": 0})
    second = save(make(5, "jumprelu"), tmp_path / "2.h5", provenance={"seed": 0})
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        *(lambda sae, name=name: {name: getattr(sae, name) + 1.0} for name in TENSORS),
        lambda _: {"architecture": "batchtopk", "k": 2},
    ],
    ids=[*TENSORS, "architecture"],
)
def test_any_change_of_the_weights_shows_in_the_fingerprint(change):
    sae = make(5, "jumprelu")
    assert fingerprint(replace(sae, **change(sae))) != fingerprint(sae)


@pytest.mark.parametrize(
    "change",
    [{"k": 3}, {"apply_b_dec_to_input": False}, *({"normalize": n} for n in NORMALIZATIONS)],
)
def test_whatever_else_changes_the_codes_shows_in_the_fingerprint(change):
    sae = make(5, "topk")
    changed = replace(sae, **change)
    x = torch.randn(6, sae.d_model, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(sae.encode(x).to_dense(), changed.encode(x).to_dense())
    assert fingerprint(changed) != fingerprint(sae)


def spoil(sae, name, position=(2, 1), value=float("nan")):
    tensor = getattr(sae, name).clone()
    tensor[position[: tensor.ndim]] = value
    return replace(sae, **{name: tensor})


WRONG = {
    "architecture": (
        lambda sae: replace(sae, architecture="gelu"),
        "unknown architecture 'gelu'",
    ),
    "no threshold": (
        lambda sae: replace(sae, threshold=None),
        "architecture jumprelu needs a threshold",
    ),
    "threshold": (
        lambda sae: replace(sae, architecture="topk", k=2),
        "architecture topk has no use for a threshold",
    ),
    "no k": (
        lambda sae: replace(sae, architecture="topk", threshold=None),
        "architecture topk needs k",
    ),
    "W_enc shape": (
        lambda sae: replace(sae, W_enc=sae.W_enc.T.contiguous()),
        "W_enc has shape (9, 5), expected (5, 9)",
    ),
    "b_enc shape": (
        lambda sae: replace(sae, b_enc=sae.b_enc[:-1]),
        "b_enc has shape (8,), expected (9,)",
    ),
    "b_dec shape": (
        lambda sae: replace(sae, b_dec=sae.b_dec[None]),
        "b_dec has shape (1, 5), expected (5,)",
    ),
    "threshold shape": (
        lambda sae: replace(sae, threshold=sae.threshold[:1]),
        "threshold has shape (1,), expected (9,)",
    ),
    "W_dec dimensions": (
        lambda sae: replace(sae, W_dec=sae.W_dec[0]),
        "W_dec has shape (5,), expected (",
    ),
    "W_enc nan": (lambda sae: spoil(sae, "W_enc"), "W_enc is not finite at [2, 1]"),
    "W_dec inf": (
        lambda sae: spoil(sae, "W_dec", value=float("inf")),
        "W_dec is not finite at [2, 1]",
    ),
    "b_enc nan": (lambda sae: spoil(sae, "b_enc"), "b_enc is not finite at [2]"),
    "b_dec nan": (lambda sae: spoil(sae, "b_dec"), "b_dec is not finite at [2]"),
    "threshold nan": (lambda sae: spoil(sae, "threshold"), "threshold is not finite at [2]"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_sae_is_not_saved(tmp_path, case):
    change, message = WRONG[case]
    path = tmp_path / "9.h5"
    with pytest.raises(StudyError, match=re.escape(f"{path}: {message}")):
        save(change(make(0, "jumprelu")), path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("elements", [1, 1 << 20])
@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_file_is_not_loaded(tmp_path, monkeypatch, case, elements):
    monkeypatch.setattr(sae_module, "_CHECK_ELEMENTS", elements)
    change, message = WRONG[case]
    sae = make(0, "jumprelu")
    path = save(sae, tmp_path / "9.h5")
    wrong: SAE = change(sae)
    with h5py.File(path, "r+") as file:
        for name in TENSORS:
            del file[name]
            if (tensor := getattr(wrong, name)) is not None:
                file[name] = tensor.numpy()
        del file.attrs["attributes_sha256"]
        file.attrs["architecture"] = wrong.architecture
        if wrong.k:
            file.attrs["k"] = wrong.k
    with pytest.raises(StudyError, match=re.escape(f"{path}: {message}")):
        read_sae(path)


readers = pytest.mark.parametrize("load", [read_sae, load_decoder])


@pytest.mark.parametrize("name", TENSORS[:4])
@readers
def test_a_missing_tensor_is_named(tmp_path, load, name):
    path = save(make(0, "relu"), tmp_path / "9.h5")
    with h5py.File(path, "r+") as file:
        del file[name]
    with pytest.raises(StudyError, match=f"{path}: {name} is missing"):
        load(path)


@readers
def test_a_missing_attribute_is_named(tmp_path, load):
    path = save(make(0, "relu"), tmp_path / "9.h5")
    with h5py.File(path, "r+") as file:
        del file.attrs["apply_b_dec_to_input"], file.attrs["attributes_sha256"]
    with pytest.raises(StudyError, match=f"{path}: .*apply_b_dec_to_input"):
        load(path)


@pytest.mark.parametrize("name", TENSORS)
@readers
def test_other_weights_under_the_same_name_are_found(tmp_path, load, name):
    path = save(make(0, "jumprelu"), tmp_path / "9.h5")
    with h5py.File(path, "r+") as file:
        file[name][...] = np.nextafter(file[name][...], np.float32(2.0))
    with pytest.raises(StudyError, match="the weights are not those that were written; delete it"):
        load(path)


@readers
def test_an_sae_of_another_study_is_not_loaded(tmp_path, load):
    path = save(make(0, "relu"), tmp_path / "9.h5")
    with pytest.raises(StudyError, match="belongs to study 'test', expected 'other'"):
        load(path, study="other")


@settings(max_examples=30, deadline=None)
@given(architecture=architectures, double=st.booleans(), elements=st.integers(1, 50))
def test_a_decoder_is_that_of_the_sae(architecture, double, elements):
    sae = make(4, architecture)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(sae_module, "_CHECK_ELEMENTS", elements)
        decoder = load_decoder(save(sae, Path(folder) / "9.h5"), double=double)
    dtype = torch.float64 if double else torch.float32
    assert torch.equal(decoder.W_dec, sae.W_dec.to(dtype))
    assert torch.equal(decoder.b_dec, sae.b_dec.to(dtype))
    assert decoder.W_dec.dtype == decoder.b_dec.dtype == dtype
    assert (decoder.d_sae, decoder.d_model) == (sae.d_sae, sae.d_model)
    assert decoder.architecture == architecture
    assert fingerprint(decoder) == fingerprint(sae)
