"""Properties of an SAE against the same in one piece, in float64."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.oracle import dense_codes, random_sae, read
from helpers.shards import write_shards
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_stitching.activations.shards import ActivationShards
from sae_stitching.saes.architectures import ARCHITECTURES
from sae_stitching.saes.encoding import encode_shards, open_codes
from sae_stitching.saes.evaluation import evaluate, read_rows, write_json
from sae_stitching.saes.normalization import NORMALIZATIONS


def measure(folder, sae, x, lengths, context=16, block=8192):
    """Properties of the SAE, and the stored codes that they were found from, dense."""
    shards = write_shards(folder / "activations", x, lengths, context=context)
    path = folder / "codes.h5"
    encode_shards(sae, shards.paths, path, study="test", provenance={})
    by_blocks = ActivationShards.blocks
    with pytest.MonkeyPatch.context() as monkeypatch, open_codes(path, sae) as codes:
        monkeypatch.setattr(ActivationShards, "blocks", lambda self: by_blocks(self, block))
        return evaluate(sae, shards, codes), codes.tokens(0, len(x)).to_dense().double()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    architecture=st.sampled_from(sorted(ARCHITECTURES)),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=4),
    d_model=st.integers(1, 5),
    block=st.integers(1, 64),
    offset=st.sampled_from([0.0, 3.0, 1e3]),
    normalize=st.sampled_from([None, *NORMALIZATIONS]),
)
def test_evaluation_equals_direct_computation(
    seed, architecture, lengths, d_model, block, offset, normalize
):
    generator = torch.Generator().manual_seed(seed)
    # One number alone has no deviation.
    d_model += normalize is not None
    sae = random_sae(generator, d_model, 11, architecture, normalize=normalize, dtype=torch.float32)
    sae = replace(sae, b_dec=sae.b_dec + offset)
    # Two tokens at the least, or there is no variance to explain.
    lengths[0] += 1
    x = offset + 2.0 * torch.randn(sum(lengths), d_model, generator=generator)
    with tempfile.TemporaryDirectory() as folder:
        row, codes = measure(Path(folder), sae, x, lengths, context=7, block=block)
    x, sae = x.double(), sae.double()
    _, scale, mean = read(sae, x)
    error = x - scale * (codes @ sae.W_dec + sae.b_dec) - mean
    sst = (x - x.mean(0)).square().sum().item()
    n_live = int((codes > 0).any(0).sum())
    assert row["l0"] == pytest.approx((codes > 0).sum().item() / len(x), rel=1e-12)
    assert row["mse"] == pytest.approx(error.square().mean().item(), rel=1e-9)
    assert row["fvu"] == pytest.approx(error.square().sum().item() / sst, rel=1e-9)
    assert (row["n_live"], row["n_dead"]) == (n_live, 11 - n_live)
    assert (row["d_sae"], row["architecture"], row["n_tokens"]) == (11, architecture, len(x))


def test_a_perfect_and_an_empty_reconstruction(tmp_path):
    x = torch.rand(60, 4, generator=torch.Generator().manual_seed(0)) + 5.0
    generator = torch.Generator().manual_seed(0)
    eye = torch.eye(4)
    zeros = torch.zeros(4)
    perfect = replace(
        random_sae(generator, 4, 4, "relu"), W_enc=eye, W_dec=eye, b_enc=zeros, b_dec=zeros
    )
    row, _ = measure(tmp_path / "perfect", perfect, x, [30, 30])
    assert (row["mse"], row["fvu"], row["l0"]) == (0.0, 0.0, 4.0)
    # The mean alone leaves all of the variance.
    mean = x.double().mean(0).float()
    empty = replace(perfect, b_enc=zeros - 1e6, b_dec=mean)
    row, _ = measure(tmp_path / "empty", empty, x, [30, 30])
    assert row["fvu"] == pytest.approx(1.0, rel=1e-6)
    assert (row["l0"], row["n_live"], row["n_dead"]) == (0.0, 0, 4)


def test_the_mean_of_fvu_is_that_of_all_shards(tmp_path):
    # Two shards around different means: with each shard's own the FVU would be far greater.
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(64, 3, generator=generator)
    x[32:] += 100.0
    sae = random_sae(generator, 3, 6, "relu", dtype=torch.float32)
    row, _ = measure(tmp_path, sae, x, [32, 32])
    error = x - dense_codes(sae, x) @ sae.W_dec - sae.b_dec
    expected = error.double().square().sum() / (64 * x.double().var(0, correction=0).sum())
    assert row["fvu"] == pytest.approx(expected.item(), rel=1e-4)


def test_rows_go_through_json(tmp_path):
    rows = [{"l0": 1.5, "architecture": "relu"}, {"l0": float(np.float64(0.1))}]
    paths = [tmp_path / "rows" / f"{i}.json" for i in range(2)]
    for row, path in zip(rows, paths, strict=True):
        write_json(row, path)
    assert read_rows(paths) == rows
    assert sorted(p.name for p in (tmp_path / "rows").iterdir()) == ["0.json", "1.json"]
