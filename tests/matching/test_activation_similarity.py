"""Cosines of activations and exchanges of decoder biases, against dense codes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.oracle import dense_codes, random_sae, read
from helpers.shards import write_shards
from sae_stitching.base.record import write_record
from sae_stitching.matching.activation_similarity import (
    activation_similarity,
    load_activation_similarity,
)
from sae_stitching.matching.decoder_similarity import similarity
from sae_stitching.saes.encoding import StoredCodes, encode_shards, open_codes
from sae_stitching.saes.evaluation import evaluate, mean_activation
from sae_stitching.saes.normalization import NORMALIZATIONS
from sae_stitching.stitching.bias_exchange import (
    bias_exchange,
    mean_codes,
    mean_residual,
    means,
)


@pytest.fixture
def eval_tokens(tmp_path):
    generator = torch.Generator().manual_seed(0)
    small = random_sae(generator, 6, 9, "relu", dtype=torch.float32)
    large = random_sae(generator, 6, 15, "topk", dtype=torch.float32)
    small.b_enc[2] = large.b_enc[4] = -1e6  # never fire
    x = 2.0 * torch.randn(90, 6, generator=generator)
    return {"9": small, "15": large}, x, write_shards(tmp_path / "x", x, [40, 50])


def stored(name, sae, shards, tmp_path):
    path = tmp_path / f"{name}.h5"
    encode_shards(sae, shards.paths, path, study="test", provenance={})
    return open_codes(path, sae)


def test_activation_cosines_equal_dense_ones(eval_tokens, tmp_path, monkeypatch):
    saes, x, shards = eval_tokens
    f0, f1 = (dense_codes(saes[name], x).double().numpy() for name in ("9", "15"))
    cosines = similarity(saes["9"].W_dec, saes["15"].W_dec, floor=-1.0)
    by_blocks = StoredCodes.blocks
    monkeypatch.setattr(StoredCodes, "blocks", lambda self: by_blocks(self, 32))
    with (
        stored("9", saes["9"], shards, tmp_path) as small,
        stored("15", saes["15"], shards, tmp_path) as large,
    ):
        found = activation_similarity(small, large, cosines)
    assert len(found.large) == 9 * 15
    with np.errstate(invalid="ignore"):
        norms = np.linalg.norm(f1, axis=0)[:, None] * np.linalg.norm(f0, axis=0)
        expected = f1.T @ f0 / norms
    np.testing.assert_allclose(
        found.activation_cosine, expected[found.large, found.small], atol=1e-6
    )
    silent = (found.large == 4) | (found.small == 2)
    np.testing.assert_array_equal(np.isnan(found.activation_cosine), silent)
    np.testing.assert_array_equal(found.decoder_cosine, cosines.edge_cosine)
    write_record(found, tmp_path / "a.h5", study="test", provenance={})
    again = load_activation_similarity(tmp_path / "a.h5", study="test")
    np.testing.assert_array_equal(again.activation_cosine, found.activation_cosine)


@pytest.mark.parametrize("normalize", [None, *NORMALIZATIONS])
def test_exchanged_biases_equal_decoding(eval_tokens, tmp_path, normalize, monkeypatch):
    saes, x, shards = eval_tokens
    saes = {name: replace(sae, normalize=normalize) for name, sae in saes.items()}
    torch.testing.assert_close(mean_activation(shards), x.double().mean(0))
    by_blocks = StoredCodes.blocks
    monkeypatch.setattr(StoredCodes, "blocks", lambda self: by_blocks(self, 32))
    of = means(shards, normalize)
    residuals, mses = {}, {}
    for name, sae in saes.items():
        with stored(name, sae, shards, tmp_path) as codes:
            residuals[name] = mean_residual(sae, of, mean_codes(codes, of))
            mses[name] = evaluate(sae, shards, codes)["mse"]
    biases = {name: sae.b_dec for name, sae in saes.items()}
    rows = bias_exchange(biases, residuals, mses, of.weight)
    assert len(rows) == 4
    for row in rows:
        # The encoder keeps its own bias.
        own = saes[row["sae"]].double()
        codes = dense_codes(saes[row["sae"]], x).double()
        b = replace(own, b_dec=saes[row["bias_of"]].b_dec.double()).b_dec
        _, scale, mean = read(own, x.double())
        mse = (x.double() - scale * (codes @ own.W_dec + b) - mean).square().mean().item()
        assert row["mse"] == pytest.approx(mse, rel=1e-6)
        assert row["change_percent"] == pytest.approx(100 * (mse / mses[row["sae"]] - 1), abs=1e-4)
        cosine = torch.cosine_similarity(own.b_dec, b, dim=0).item()
        assert row["cosine"] == pytest.approx(cosine)
        assert row["norm_ratio"] == pytest.approx((b.norm() / own.b_dec.norm()).item())
