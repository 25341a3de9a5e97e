"""corpus/text.h5: documents come back as they were, and no more of them than are read."""

import h5py
import numpy as np
import pytest
from helpers.token_files import texts, write
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_stitching.base.errors import StudyError
from sae_stitching.text import text_file
from sae_stitching.text.text_file import read_text, write_text
from sae_stitching.text.tokens import documents_read

ORIGIN = {"study": "test", "provenance": {}}


@settings(deadline=None, max_examples=50)
@given(documents=st.lists(st.text(max_size=40), max_size=30), block=st.integers(1, 60))
def test_documents_come_back(tmp_path_factory, documents, block):
    path = tmp_path_factory.mktemp("text") / "text.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_file, "_BLOCK_BYTES", block)
        assert write_text(iter(documents), path, **ORIGIN) == len(documents)
        assert list(read_text(path, study="test")) == documents


def test_half_a_surrogate_pair_is_kept(tmp_path):
    write_text(["a\ud800b", "c"], tmp_path / "text.h5", **ORIGIN)
    assert list(read_text(tmp_path / "text.h5")) == ["a\ud800b", "c"]


def test_nothing_is_written_of_a_text_that_breaks_off(tmp_path):
    def broken():
        yield "first"
        raise StudyError("somebody/text at 0123: the hub does not give it")

    with pytest.raises(StudyError, match="does not give it"):
        write_text(broken(), tmp_path / "text.h5", **ORIGIN)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_text_is_named(tmp_path):
    path = tmp_path / "text.h5"
    rng = np.random.default_rng(0)
    write_text(["".join(map(chr, rng.integers(65, 90, 5000))) for _ in range(4)], path, **ORIGIN)
    with h5py.File(path) as file:
        at = file["text"].id.get_chunk_info(0).byte_offset
    with open(path, "r+b") as file:
        file.seek(at + 100)
        byte = file.read(1)[0]
        file.seek(at + 100)
        file.write(bytes([byte ^ 0x40]))
    with pytest.raises(StudyError) as caught:
        list(read_text(path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("limits", [(5, 2), (1, 1), (40, 9), (3, 30), (10_000, 2), (None, 2)])
@pytest.mark.parametrize("window", [4, 256])
def test_what_is_read_is_what_the_tokens_are_made_of(
    model, tmp_path, monkeypatch, limits, window
):  # fmt: skip
    monkeypatch.setattr("sae_stitching.text.tokens._WINDOW_DOCUMENTS", window)
    monkeypatch.setattr("sae_stitching.text.tokens._BATCH_DOCUMENTS", 3)
    documents = texts(np.random.default_rng(5).integers(0, 60, 120))
    options = dict(zip(("max_train_sequences", "max_eval_sequences"), limits, strict=True))
    settings = {"context": 8, "eval_fraction": 0.25, "seed": 0, **options}
    read = list(documents_read(iter(documents), model, **settings))
    assert read == documents[: len(read)]
    whole = write(documents, model, tmp_path / "whole.h5", **options)
    again = write(read, model, tmp_path / "again.h5", **options)
    for split in ("train", "eval"):
        for found, expected in zip(again[split], whole[split], strict=True):
            np.testing.assert_array_equal(found, expected)
    # No more than a window beyond what is needed.
    if None not in limits and max(limits) < 50:
        assert len(read) < len(documents) or window == 256
