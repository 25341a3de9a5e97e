"""Caching activations in shards."""

import h5py
import numpy as np
import pytest
import torch
from helpers.corpus import write_corpus
from hypothesis import given
from hypothesis import strategies as st
from sae_stitching.activations.cache import cache_shard, shard_bounds
from sae_stitching.activations.language_model import LanguageModel
from sae_stitching.base.errors import StudyError
from sae_stitching.text.sources import make_random_model
from sae_stitching.text.tokens import write_tokens

D_MODEL, CONTEXT, N_SEQUENCES = 4, 6, 10


class FakeModel:
    """Activations that tell which token they belong to."""

    hook, d_model = "blocks.0.hook_resid_pre", D_MODEL

    def __init__(self, spoil=None):
        self.spoil = spoil or {}
        self.batches = []

    def __call__(self, tokens):
        self.batches.append(len(tokens))
        activations = tokens[..., None] + torch.arange(D_MODEL) / 8
        for token, value in self.spoil.items():
            activations[tokens == token] = value
        return activations.to(torch.float32)


@pytest.fixture
def corpus(tmp_path):
    """Write a corpus whose tokens count up: token = sequence * CONTEXT + position."""
    tokens = np.arange(N_SEQUENCES * CONTEXT).reshape(N_SEQUENCES, CONTEXT)
    return write_corpus(tmp_path / "tokens.h5", train=tokens)


def cache(corpus, path, shard=0, n_shards=1, model=None, **changes):
    options = {
        "model_name": "fake",
        "batch_size": 3,
        "dtype": "float16",
        "skip_first_position": True,
    }
    cache_shard(
        corpus,
        "train",
        shard,
        n_shards,
        model or FakeModel(),
        path,
        **{**options, "study": "test", "provenance": {}, **changes},
    )
    with h5py.File(path) as file:
        return {name: file[name][:] for name in ("activations", "sequence", "position")}


@given(n_sequences=st.integers(1, 500), n_shards=st.integers(1, 50))
def test_shard_bounds(n_sequences, n_shards):
    parts = np.array_split(np.arange(n_sequences), n_shards)
    for shard, part in enumerate(parts):
        start, stop = shard_bounds(n_sequences, shard, n_shards)
        np.testing.assert_array_equal(np.arange(start, stop), part)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize("n_shards", [1, 3, N_SEQUENCES])
def test_rows(corpus, tmp_path, n_shards, skip, dtype):
    shards = [
        cache(corpus, tmp_path / "a.h5", shard, n_shards, skip_first_position=skip, dtype=dtype)
        for shard in range(n_shards)
    ]
    rows = {name: np.concatenate([shard[name] for shard in shards]) for name in shards[0]}
    sequence, position = np.divmod(np.arange(N_SEQUENCES * CONTEXT), CONTEXT)
    kept = position >= skip
    np.testing.assert_array_equal(rows["sequence"], sequence[kept])
    np.testing.assert_array_equal(rows["position"], position[kept])
    token = rows["sequence"] * CONTEXT + rows["position"]
    np.testing.assert_array_equal(rows["activations"], token[:, None] + np.arange(D_MODEL) / 8)
    assert rows["activations"].dtype == dtype
    assert rows["sequence"].dtype == rows["position"].dtype == np.int32


def test_attributes(corpus, tmp_path):
    cache(corpus, tmp_path / "a.h5", 1, 4)
    with h5py.File(tmp_path / "a.h5") as file:
        found = {name: file.attrs[name] for name in file.attrs}
    expected = {
        "format": "activations",
        "hook": "blocks.0.hook_resid_pre",
        "model": "fake",
        "d_model": D_MODEL,
        "split": "train",
        "shard": 1,
        "n_shards": 4,
        "context": CONTEXT,
    }
    assert expected.items() <= found.items()


def test_batches(corpus, tmp_path):
    model = FakeModel()
    cache(corpus, tmp_path / "a.h5", model=model, batch_size=4)
    assert model.batches == [4, 4, 2]


def test_more_shards_than_sequences(corpus, tmp_path):
    with pytest.raises(StudyError, match=r"activations\.train_shards: 11, .* only 10 sequences"):
        cache(corpus, tmp_path / "a.h5", 10, 11)


def test_corpus_of_another_study(corpus, tmp_path):
    with pytest.raises(StudyError, match="belongs to study 'test'"):
        cache(corpus, tmp_path / "a.h5", study="other")


# Token 44 is sequence 7, position 2.
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7e4, r"cache train 2/2: .* sequence 7, position 2 is 7e\+04.*activations\.dtype: float32"),
        (float("nan"), r"sequence 7, position 2 is nan; .*model\.dtype: float32"),
        (float("-inf"), r"sequence 7, position 2 is -inf; .*model\.dtype: float32"),
    ],
)
def test_not_finite(corpus, tmp_path, value, message):
    with pytest.raises(StudyError, match=message):
        cache(corpus, tmp_path / "a.h5", 1, 2, model=FakeModel({44: value, 50: value}))
    assert not (tmp_path / "a.h5").exists()


def test_large_value_fits_float32(corpus, tmp_path):
    rows = cache(corpus, tmp_path / "a.h5", model=FakeModel({44: 7e4}), dtype="float32")
    assert rows["activations"].max() == 7e4


def test_skipped_position_may_be_large(corpus, tmp_path):
    # The first token of many models has activations of its own order of magnitude.
    cache(corpus, tmp_path / "a.h5", model=FakeModel({42: 1e9}))


def test_real_model(tmp_path):
    source = {"architecture": "llama", "n_layers": 2, "d_model": 16, "n_heads": 2}
    make_random_model({**source, "context": 16, "seed": 0}, tmp_path / "model")
    model = LanguageModel(str(tmp_path / "model"), "blocks.1.hook_resid_mid", dtype="float32")
    write_tokens(
        [f"Document number {i}. " * 8 for i in range(6)],
        str(tmp_path / "model"),
        tmp_path / "tokens.h5",
        name="bytes",
        context=16,
        eval_fraction=0.2,
        study="test",
        provenance={},
    )
    for name in ("a.h5", "b.h5"):
        rows = cache(tmp_path / "tokens.h5", tmp_path / name, model=model, dtype="float32")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    with h5py.File(tmp_path / "tokens.h5") as file:
        tokens = torch.from_numpy(file["train/tokens"][:].astype(np.int64))
    expected = model(tokens)[:, 1:].reshape(-1, 16).numpy()
    np.testing.assert_allclose(rows["activations"], expected, rtol=1e-4, atol=1e-5)
