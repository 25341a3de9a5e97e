"""corpus/text.h5: the documents that a study reads of a dataset of the hub, kept as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_stitching.base.record import create_record, open_record, record

if TYPE_CHECKING:
    from jaxtyping import Int64, UInt8

_BLOCK_BYTES = 1 << 22  # bytes of text written at a time


@record("text", "corpus/text.h5")
class Text:
    """Documents of a dataset of the hub, as they are there."""

    text: UInt8[np.ndarray, " byte"]
    """All documents one after the other, in UTF-8."""
    end: Int64[np.ndarray, " document"]
    """Position after a document's last byte."""


def write_text(
    documents: Iterable[str], path: str | Path, *, study: str, provenance: Mapping[str, Any]
) -> int:
    """Write documents one after the other, see `Text`.

    Returns
    -------
    int
        Number of documents.
    """
    n_bytes, ends, waiting = 0, [], bytearray()
    with create_record(Text, path, study=study, provenance=provenance) as file:
        # Twice as small, and as fast to read as the disk.
        options = {"chunks": (1 << 20,), "compression": "gzip", "compression_opts": 1}
        text = file.create_dataset("text", (0,), maxshape=(None,), dtype=np.uint8, **options)

        def flush() -> None:
            text.resize(n_bytes, axis=0)
            text[n_bytes - len(waiting) :] = np.frombuffer(waiting, np.uint8)

        for document in documents:
            # A dataset may hold half a surrogate pair, which is no UTF-8.
            packed = document.encode("utf-8", "surrogatepass")
            waiting += packed
            n_bytes += len(packed)
            ends.append(n_bytes)
            if len(waiting) >= _BLOCK_BYTES:
                flush()
                waiting = bytearray()
        flush()
        file["end"] = np.asarray(ends, np.int64)
    return len(ends)


def read_text(path: str | Path, *, study: str | None = None) -> Iterator[str]:
    """Read the documents that `write_text` wrote, in their order.

    Raises
    ------
    StudyError
        If the file is missing, damaged, or of another study.
    """
    with open_record(Text, path, study=study) as stored:
        ends, text, start = stored.end[...].tolist(), stored.text, 0
        held, first = b"", 0
        for end in ends:
            if end - first > len(held):
                held, first = text[start : max(end, start + _BLOCK_BYTES)].tobytes(), start
            yield held[start - first : end - first].decode("utf-8", "surrogatepass")
            start = end
