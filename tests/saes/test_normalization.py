"""SAEs that normalise each token by itself, against the definition and as files."""

from dataclasses import replace

import pytest
import torch
from helpers.oracle import dense_codes, random_sae, read
from sae_stitching.base.errors import StudyError
from sae_stitching.saes.architectures import ARCHITECTURES
from sae_stitching.saes.normalization import NORMALIZATIONS, shared
from sae_stitching.saes.sae import fingerprint, load_decoder, read_sae, save_sae
from sae_stitching.stitching.pairs import EvalPair
from sae_stitching.stitching.stitched import StitchedSAE

NORMS = pytest.mark.parametrize("normalize", NORMALIZATIONS)


def make(normalize: str | None, architecture: str = "relu", d_sae: int = 9, seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return random_sae(generator, 5, d_sae, architecture, normalize=normalize)


@pytest.fixture
def x() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(40, 5, generator=generator, dtype=torch.float64)
    return 2.0 + x * torch.exp(3.0 * torch.randn(40, 1, generator=generator, dtype=torch.float64))


@NORMS
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_codes_and_reconstruction_are_those_of_the_definition(normalize, architecture, x):
    sae = make(normalize, architecture)
    codes = dense_codes(sae, x)
    torch.testing.assert_close(sae.encode(x).to_dense(), codes)
    _, scale, mean = read(sae, x)
    x_hat = scale * (codes @ sae.W_dec + sae.b_dec) + mean
    torch.testing.assert_close(sae.decode(sae.encode(x), x), x_hat)


@NORMS
def test_the_size_of_a_token_is_nothing_to_its_codes(normalize, x):
    sae = make(normalize)
    codes, larger = (sae.encode(factor * x).to_dense() for factor in (1e5, 1e6))
    torch.testing.assert_close(codes, larger, rtol=1e-6, atol=1e-6)


@NORMS
def test_a_token_of_zeros_is_one_still(normalize):
    sae, x = make(normalize), torch.zeros(1, 5, dtype=torch.float64)
    assert torch.equal(sae.decode(sae.encode(x), x), x)


@NORMS
def test_decoding_asks_for_the_activations(normalize, x):
    sae = make(normalize)
    with pytest.raises(StudyError, match=f"normalises each token by {normalize}; give the act"):
        sae.decode(sae.encode(x))


@NORMS
def test_it_is_part_of_the_file_and_of_the_fingerprint(normalize, tmp_path):
    sae, plain = make(normalize), make(None)
    save_sae(sae, tmp_path / "sae.h5", study="test", provenance={})
    assert read_sae(tmp_path / "sae.h5").normalize == normalize
    assert load_decoder(tmp_path / "sae.h5").normalize == normalize
    assert fingerprint(sae) != fingerprint(plain)
    with pytest.raises(StudyError, match="unknown norm of tokens 'sphere'"):
        save_sae(replace(sae, normalize="sphere"), tmp_path / "x.h5", study="test", provenance={})


def test_saes_of_two_norms_are_not_stitched(x):
    small, large = make("layer_norm"), make(None, d_sae=12)
    complaint = "large: normalises each token by nothing, but small by layer_norm; compare SAEs of"
    with pytest.raises(StudyError, match=complaint):
        EvalPair.in_memory(small, large, x, torch.zeros(len(x), dtype=torch.int64))
    with pytest.raises(StudyError, match="compare SAEs of one norm"):
        StitchedSAE.of(small, "small").insert(large, [0, 1], "large")
    assert shared({"a": None, "b": None}) is None


@NORMS
def test_a_stitched_one_normalises_too(normalize, x):
    small, large = make(normalize), make(normalize, d_sae=12, seed=3)
    stitched = StitchedSAE.of(small, "small").insert(large, [2, 5], "large").sae
    assert stitched.normalize == normalize
    codes = torch.cat([dense_codes(small, x), dense_codes(large, x)[:, [2, 5]]], 1)
    torch.testing.assert_close(stitched.encode(x).to_dense(), codes)
