"""corpus/text.h5: the documents that a study reads of a dataset of the hub, kept as they are."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sae_stitching.base.store import read_hdf5, write_hdf5

_BLOCK_BYTES = 1 << 22  # bytes of text written at a time


def write_text(
    documents: Iterable[str], path: str | Path, *, study: str, provenance: Mapping[str, Any]
) -> int:
    """Write documents as ``text`` (byte) uint8, UTF-8, and ``end`` (document) int64.

    ``end`` is the position after a document's last byte.

    Returns
    -------
    int
        Number of documents.
    """
    n_bytes, ends, waiting = 0, [], bytearray()
    with write_hdf5(path, format="text", study=study, provenance=provenance) as file:
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
    with read_hdf5(path, format="text", study=study) as file:
        ends, text, start = file["end"][...].tolist(), file["text"], 0
        held, first = b"", 0
        for end in ends:
            if end - first > len(held):
                held, first = text[start : max(end, start + _BLOCK_BYTES)].tobytes(), start
            yield held[start - first : end - first].decode("utf-8", "surrogatepass")
            start = end
