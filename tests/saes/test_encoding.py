"""Stored codes against encoding in memory."""

from dataclasses import replace

import h5py
import pytest
import torch
from helpers.oracle import dense_codes, random_sae
from helpers.shards import HOOK, write_shards
from sae_stitching.activations.shards import ActivationShards
from sae_stitching.base.errors import StudyError
from sae_stitching.saes.architectures import ARCHITECTURES
from sae_stitching.saes.encoding import check_fits, encode_shards, open_codes
from sae_stitching.stitching.pairs import EvalPair

LENGTHS = [37, 16, 80]


@pytest.fixture
def x():
    generator = torch.Generator().manual_seed(0)
    return 2.0 * torch.randn(sum(LENGTHS), 5, generator=generator)


@pytest.fixture
def shards(tmp_path, x):
    return write_shards(tmp_path / "activations", x, LENGTHS)


def make(architecture="relu", seed=1, d_model=5):
    generator = torch.Generator().manual_seed(seed)
    sae = random_sae(generator, d_model, 12, architecture, dtype=torch.float32)
    return replace(sae, hook=HOOK)


def encode(sae, shards, path, **options):
    encode_shards(sae, shards.paths, path, **{"study": "test", "provenance": {}, **options})
    return path


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_stored_codes_equal_the_encoding(tmp_path, shards, x, architecture):
    sae = make(architecture)
    path = encode(sae, shards, tmp_path / "codes" / "12.h5")
    expected = dense_codes(sae, x)
    with open_codes(path, sae, study="test") as codes:
        assert (codes.n_tokens, codes.d_sae) == (len(x), 12)
        assert len(codes) == int((expected > 0).sum())
        whole = codes.tokens(0, len(x))
        torch.testing.assert_close(whole.to_dense(), expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(whole.pattern.counts, (expected > 0).sum(0))
        for start, end in ((0, 1), (5, 5), (30, 60), (132, 133), (133, 133)):
            part = codes.tokens(start, end)
            assert torch.equal(part.to_dense(), whole.to_dense()[start:end])
        for n_tokens in (1, 50, 133, 1000):
            blocks = [block.to_dense() for block in codes.blocks(n_tokens)]
            assert torch.equal(torch.cat(blocks), whole.to_dense())
            assert len(blocks) == -(-133 // n_tokens)


def test_the_file_is_the_csr_matrix(tmp_path, shards, x):
    sae = make()
    with h5py.File(encode(sae, shards, tmp_path / "12.h5")) as file:
        assert {name: str(file[name].dtype) for name in file} == {
            "indptr": "int64",
            "indices": "int32",
            "values": "float32",
        }
        assert file["indptr"].shape == (len(x) + 1,)
        active = dense_codes(sae, x).nonzero()
        assert file["indices"][...].tolist() == active[:, 1].tolist()
        assert file.attrs["d_sae"] == 12


@pytest.mark.parametrize("block", [1, 16, 8192])
def test_blocks_of_any_size_give_the_same_codes(tmp_path, shards, monkeypatch, block):
    sae = make("topk")
    whole = encode(sae, shards, tmp_path / "whole.h5")
    by_blocks = ActivationShards.blocks
    monkeypatch.setattr(ActivationShards, "blocks", lambda self: by_blocks(self, block))
    cut = encode(sae, shards, tmp_path / "cut.h5")
    with open_codes(whole, sae) as one, open_codes(cut, sae) as other:
        a, b = (codes.tokens(0, codes.n_tokens) for codes in (one, other))
    assert torch.equal(a.pattern.indptr, b.pattern.indptr)
    assert torch.equal(a.pattern.indices, b.pattern.indices)
    torch.testing.assert_close(a.values, b.values, rtol=1e-5, atol=1e-6)


def test_the_same_codes_give_the_same_bytes(tmp_path, shards):
    one, other = (encode(make(), shards, tmp_path / name) for name in ("1.h5", "2.h5"))
    assert one.read_bytes() == other.read_bytes()


def test_codes_without_an_active_latent(tmp_path, shards, x):
    sae = make()
    sae.b_enc.fill_(-1e6)
    with open_codes(encode(sae, shards, tmp_path / "12.h5"), sae) as codes:
        assert len(codes) == 0
        assert codes.tokens(0, len(x)).to_dense().shape == (len(x), 12)


def test_shards_without_an_active_latent_between_others(tmp_path, x):
    sae = make()
    x[37:53] = sae.b_dec  # the pre-activations are the biases, which are made negative
    sae.b_enc.copy_(-sae.b_enc.abs())
    shards = write_shards(tmp_path / "activations", x, LENGTHS)
    with open_codes(encode(sae, shards, tmp_path / "12.h5"), sae) as codes:
        assert len(codes.tokens(37, 53)) == 0
        expected = dense_codes(sae, x)
        found = codes.tokens(0, len(x)).to_dense()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("sae", "change"),
    [
        (make(), {"W_dec": make(seed=2).W_dec}),
        (make(), {"b_enc": make().b_enc + 1e-3}),
        (make("topk"), {"k": 5}),
        (make("topk"), {"apply_b_dec_to_input": False}),
        (make("jumprelu"), {"threshold": make("jumprelu").threshold / 2}),
    ],
    ids=["W_dec", "b_enc", "k", "apply_b_dec_to_input", "threshold"],
)
def test_codes_of_another_sae_are_not_opened(tmp_path, shards, sae, change):
    path = encode(sae, shards, tmp_path / "12.h5")
    message = f"{path}: these are the codes of another SAE; delete it and run again"
    with pytest.raises(StudyError, match=message), open_codes(path, replace(sae, **change)):
        pass


def test_an_sae_of_another_d_model_is_an_error(tmp_path, shards):
    path = tmp_path / "12.h5"
    with pytest.raises(StudyError, match=r"activations of d_model 5, but the SAE reads 4"):
        encode(make(d_model=4), shards, path)
    assert not path.exists()


def test_an_sae_of_another_hook_is_an_error(tmp_path, shards):
    sae = replace(make(), hook="blocks.7.hook_mlp_out")
    message = rf"activations of {HOOK}, but the SAE was trained on blocks\.7\.hook_mlp_out"
    with pytest.raises(StudyError, match=message):
        encode(sae, shards, tmp_path / "12.h5")
    # An SAE that does not say where it was trained is taken at its word.
    check_fits(replace(sae, hook=""), shards)


def test_shards_and_codes_of_another_study_are_errors(tmp_path, shards):
    with pytest.raises(StudyError, match="belongs to study 'test', expected 'other'"):
        encode(make(), shards, tmp_path / "12.h5", study="other")
    path = encode(make(), shards, tmp_path / "12.h5")
    with (
        pytest.raises(StudyError, match="belongs to study 'test', expected 'other'"),
        open_codes(path, make(), study="other"),
    ):
        pass


def test_codes_of_other_tokens_are_no_pair(tmp_path, shards, x):
    sae = make()
    fewer = write_shards(tmp_path / "fewer", x[:100], [60, 40])
    with open_codes(encode(sae, fewer, tmp_path / "12.h5"), sae) as codes:
        message = "codes of 100 tokens, but activations of 133"
        with pytest.raises(StudyError, match=message):
            EvalPair.stored(sae, sae, shards, codes, codes)
