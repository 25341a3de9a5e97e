"""HDF5 files of the study: written whole or not at all, and checked when opened.

Every file carries the root attributes `format`, `format_version`, `study` and `provenance`
(JSON). Nothing that changes from run to run is stored, so that the same study run twice on
one machine gives the same bytes.
"""

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from sae_stitching.errors import StudyError

# Files are handed out as Any: by h5py's own types whatever is read from one may be a group, a
# dataset, a type or nothing, which every reader would have to tell apart again.

FORMAT_VERSION = 1


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name in the folder of `path`, and rename it to `path` at the end.

    If the block raises, the temporary file is removed and `path` is left as it was. The name
    is unique, so that two processes that write the same file cannot interleave. It keeps the
    suffix of `path`, from which Matplotlib and others tell the format.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def write_hdf5(
    path: str | Path, *, format: str, study: str, provenance: Mapping[str, Any]
) -> Iterator[Any]:
    """Write an HDF5 file under a temporary name, reopen it to check it, then rename it.

    Parameters
    ----------
    path
        Where the file ends up.
    format
        What the file holds, e.g. ``"sae"``.
    study
        Name of the study that it belongs to.
    provenance
        Config of the rule, code hash, package versions and seeds; must be plain JSON types.

    Yields
    ------
    h5py.File
        Open for writing; datasets and attributes are up to the caller.
    """
    with replacing(path) as temporary:
        with h5py.File(temporary, "w") as file:
            file.attrs["format"] = format
            file.attrs["format_version"] = FORMAT_VERSION
            file.attrs["study"] = study
            file.attrs["provenance"] = json.dumps(provenance, sort_keys=True)
            yield file
            written = _shapes(file)
        with h5py.File(temporary, "r") as file:
            if _shapes(file) != written:
                raise StudyError(f"{path}: what was written does not read back; is the disk full?")


@contextmanager
def read_hdf5(path: str | Path, *, format: str, study: str | None = None) -> Iterator[Any]:
    """Open an HDF5 file of the study for reading, and check what it is.

    Raises
    ------
    StudyError
        If the file is missing, damaged, of another format or format version, or of another
        study than `study` (where one is given).
    """
    try:
        file = h5py.File(path, "r")
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file") from None
    except OSError as error:
        raise StudyError(
            f"{path}: not a readable HDF5 file ({' '.join(str(error).split())}); "
            "delete it and run again"
        ) from error
    with file:
        found = file.attrs.get("format")
        if found != format:
            raise StudyError(f"{path}: holds {found!r}, expected {format!r}")
        version = int(file.attrs.get("format_version", 0))
        if version != FORMAT_VERSION:
            raise StudyError(
                f"{path}: format version {version}, this code reads {FORMAT_VERSION}; "
                "delete it and run again"
            )
        if study is not None and file.attrs.get("study") != study:
            raise StudyError(
                f"{path}: belongs to study {file.attrs.get('study')!r}, expected {study!r}"
            )
        yield file


def _shapes(file: h5py.File) -> dict[str, tuple[tuple[int, ...], str]]:
    shapes: dict[str, tuple[tuple[int, ...], str]] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            shapes[name] = (item.shape, str(item.dtype))

    file.visititems(visit)
    return shapes
