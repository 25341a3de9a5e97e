"""Tokenising documents, cutting them into sequences and splitting them."""

import json

import h5py
import numpy as np
import pytest
from helpers.token_files import texts, write
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_stitching.base.errors import StudyError
from sae_stitching.text import tokens as tokens_module
from sae_stitching.text.tokens import load_tokenizer

BOS = 256


@settings(deadline=None, max_examples=30)
@given(
    lengths=st.lists(st.integers(0, 60), min_size=2, max_size=30),
    context=st.integers(2, 12),
    eval_fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**31),
)
def test_every_full_sequence_is_in_one_split(
    model, tmp_path_factory, lengths, context, eval_fraction, seed
):
    documents = texts(lengths)
    encoded = load_tokenizer(model)(documents, add_special_tokens=False)["input_ids"]
    n_sequences = np.array([len(ids) // (context - 1) for ids in encoded])
    path = tmp_path_factory.mktemp("tokens") / "tokens.h5"
    options = {"context": context, "eval_fraction": eval_fraction, "seed": seed}
    if (n_sequences > 0).sum() < 2:
        with pytest.raises(StudyError, match="fills a sequence"):
            write(documents, model, path, **options)
        assert not path.exists()
        return
    splits = write(documents, model, path, **options)
    in_split = {name: set(document.tolist()) for name, (_, document) in splits.items()}
    assert not in_split["train"] & in_split["eval"]
    assert in_split["train"]
    assert in_split["eval"]
    found = np.concatenate([document for _, document in splits.values()])
    np.testing.assert_array_equal(np.bincount(found, minlength=len(documents)), n_sequences)
    for sequences, document in splits.values():
        assert sequences.dtype == document.dtype == np.int32
        assert (np.diff(document) >= 0).all()
        assert (sequences[:, 0] == BOS).all()
        for index in np.unique(document):
            text = sequences[document == index][:, 1:].ravel()
            assert text.tolist() == encoded[index][: len(text)]


def test_attributes(model, tmp_path):
    write(texts([50] * 4), model, tmp_path / "tokens.h5", provenance={"seed": 0})
    with h5py.File(tmp_path / "tokens.h5") as file:
        assert file.attrs["format"] == "tokens"
        assert file.attrs["tokenizer"] == "bytes"
        assert (file.attrs["context"], file.attrs["bos"]) == (8, BOS)
        assert json.loads(file.attrs["provenance"]) == {"seed": 0}


def test_share_of_the_eval_split(model, tmp_path):
    # A long tail of lengths, as in an encyclopedia.
    lengths = np.random.default_rng(0).lognormal(5, 1.2, 100).astype(int)
    splits = [
        write(texts(lengths), model, tmp_path / "tokens.h5", eval_fraction=0.1, seed=seed)
        for seed in range(5)
    ]
    for split in splits:
        share = len(split["eval"][0]) / sum(len(tokens) for tokens, _ in split.values())
        assert 0.08 < share < 0.12
    assert len({tuple(np.unique(split["eval"][1])) for split in splits}) == 5


def test_same_bytes(model, tmp_path):
    for name in ("a", "b"):
        write(iter(texts([100] * 20)), model, tmp_path / name)
    write(texts([100] * 20), model, tmp_path / "c", seed=1)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != (tmp_path / "c").read_bytes()


def test_size_of_batches_and_blocks_does_not_matter(model, tmp_path, monkeypatch):
    documents = texts(range(0, 100, 3))
    whole = write(documents, model, tmp_path / "a")
    monkeypatch.setattr(tokens_module, "_BATCH_CHARACTERS", 70)
    monkeypatch.setattr(tokens_module, "_BLOCK_TOKENS", 17)
    pieces = write(documents, model, tmp_path / "b")
    for name in whole:
        for expected, found in zip(whole[name], pieces[name], strict=True):
            np.testing.assert_array_equal(found, expected)


def test_many_windows(model, tmp_path, monkeypatch):
    monkeypatch.setattr(tokens_module, "_WINDOW_DOCUMENTS", 4)
    splits = write(texts([30] * 101), model, tmp_path / "tokens.h5", eval_fraction=0.1)
    assert len(np.unique(splits["eval"][1])) == 10


def test_limits_stop_reading(model, tmp_path, monkeypatch):
    monkeypatch.setattr(tokens_module, "_WINDOW_DOCUMENTS", 16)
    monkeypatch.setattr(tokens_module, "_BATCH_DOCUMENTS", 16)
    read = []

    def documents():
        for index, text in enumerate(texts([50] * 200)):
            read.append(index)
            yield text

    limits = {"max_train_sequences": 20, "max_eval_sequences": 5}
    splits = write(documents(), model, tmp_path / "tokens.h5", **limits)
    assert len(splits["train"][0]) == 20
    assert len(splits["eval"][0]) == 5
    assert len(read) < 100


def test_one_limit(model, tmp_path):
    documents = texts([50] * 40)
    whole = write(documents, model, tmp_path / "a")
    limited = write(documents, model, tmp_path / "b", max_train_sequences=3)
    np.testing.assert_array_equal(limited["train"][0], whole["train"][0][:3])
    np.testing.assert_array_equal(limited["eval"][0], whole["eval"][0])


def test_spelled_out_special_token_is_text(model, tmp_path):
    splits = write(["<|endoftext|>" * 3] * 4, model, tmp_path / "tokens.h5")
    assert (splits["train"][0][:, 1:] != BOS).all()


def test_dropped_is_logged(model, tmp_path, caplog):
    caplog.set_level("INFO")
    write([*["a" * 10] * 4, "a"], model, tmp_path / "tokens.h5")
    assert "dropped: 1 of 5 documents, too short for a sequence; 13 of 41 tokens" in caplog.text


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        (["a" * 100], "has 1 document, of which only one fills"),
        (["a" * 100, "a"], "has 2 documents, of which only one fills a sequence of 8 tokens"),
        (["a", "b"], "has 2 documents, of which none fills"),
        ([], "has 0 documents"),
    ],
)
def test_too_short(model, tmp_path, documents, message):
    with pytest.raises(StudyError, match=message):
        write(documents, model, tmp_path / "tokens.h5")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": 1}, r"tokens\.context: 1"),
        ({"eval_fraction": 0.0}, r"tokens\.eval_fraction: 0\.0"),
        ({"eval_fraction": 1.0}, r"tokens\.eval_fraction: 1\.0"),
    ],
)
def test_wrong_keys(model, tmp_path, changes, message):
    with pytest.raises(StudyError, match=message):
        write(texts([50] * 4), model, tmp_path / "tokens.h5", **changes)


def special_tokens(model, **tokens):
    tokenizer = load_tokenizer(model)
    for name, token in tokens.items():
        setattr(tokenizer, name, token)
    return tokenizer


def test_eos_where_there_is_no_bos(model, tmp_path):
    special_tokens(model, bos_token=None, eos_token="a").save_pretrained(tmp_path / "tokenizer")
    splits = write(texts([50] * 4), str(tmp_path / "tokenizer"), tmp_path / "tokens.h5")
    a = load_tokenizer(model).convert_tokens_to_ids("a")
    assert (splits["train"][0][:, 0] == a).all()


def test_neither_bos_nor_eos(model, tmp_path):
    special_tokens(model, bos_token=None, eos_token=None).save_pretrained(tmp_path / "tokenizer")
    with pytest.raises(StudyError, match="neither a BOS nor an EOS"):
        write(texts([50] * 4), str(tmp_path / "tokenizer"), tmp_path / "tokens.h5")


class TestLoadTokenizer:
    def test_missing_folder(self, tmp_path):
        with pytest.raises(StudyError, match=r"nothing: no such folder"):
            load_tokenizer(str(tmp_path / "nothing"))

    def test_folder_without_tokenizer(self, tmp_path):
        with pytest.raises(StudyError, match="no tokenizer found in that folder") as error:
            load_tokenizer(str(tmp_path))
        assert "\n" not in str(error.value)

    def test_damaged(self, tmp_path):
        (tmp_path / "tokenizer.json").write_text("{")
        with pytest.raises(StudyError, match="no tokenizer found in that folder"):
            load_tokenizer(str(tmp_path))
