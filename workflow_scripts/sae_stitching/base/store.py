"""HDF5 files of the study: written whole or not at all, and checked when opened.

Every file carries the root attributes `format`, `format_version`, `study` and `provenance`
(JSON). Nothing that changes from run to run is stored, so that the same study run twice on
one machine gives the same bytes. Data, headers and attributes have checksums: a file that was
damaged after it was written is an error that names it, and never a wrong number.
"""

import errno
import hashlib
import json
import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from sae_stitching.base.errors import StudyError, WriteError, error_number, unreadable

# Files are handed out as Any: by h5py's own types whatever is read from one may be a group, a
# dataset, a type or nothing, which every reader would have to tell apart again.


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name in the folder of `path`, and rename it to `path` at the end.

    If the block raises, the temporary file is removed and `path` is left as it was. The name
    is unique, so that two processes that write the same file cannot interleave. It keeps the
    suffix of `path`, from which Matplotlib and others tell the format.

    Raises
    ------
    WriteError
        If the disk is full or the folder cannot be written to.
    """
    path = Path(path)
    temporary = path.with_name(f".{uuid.uuid4().hex}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:
        if remedy := _remedy(error, path.parent):
            raise WriteError(f"{path}: cannot be written ({remedy}, then run again") from error
        raise
    finally:
        # Of a folder that cannot be written to nothing can be removed either.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _remedy(error: Exception, folder: Path) -> str:
    """What is wrong with the disk or the folder, if that is what `error` is about."""
    number = error_number(error)
    if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return f"{os.strerror(number)}); free some space on its disk"
    if number in (errno.EROFS, errno.EACCES, errno.EPERM) and str(folder) in str(error):
        return f"{os.strerror(number)}); see to it that you may write to its folder"
    if number is not None and "unable to lock file" in str(error):
        reason = f"its file system gives no locks: {os.strerror(number)}"
        return f"{reason}); set HDF5_USE_FILE_LOCKING=FALSE"
    return ""


@contextmanager
def write_hdf5(
    path: str | Path,
    *,
    format: str,
    version: int = 1,
    study: str,
    provenance: Mapping[str, Any],
) -> Iterator[Any]:
    """Write an HDF5 file under a temporary name, reopen it to check it, then rename it.

    Parameters
    ----------
    path
        Where the file ends up.
    format
        What the file holds, e.g. ``"sae"``.
    version
        Of the format.
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
        with _Writer(temporary, "w", libver=_LIBVER) as file:
            file.attrs["format"] = format
            file.attrs["format_version"] = version
            file.attrs["study"] = study
            file.attrs["provenance"] = json.dumps(provenance, sort_keys=True)
            yield file
            file.attrs[_CHECKSUM] = _attributes_checksum(file)
            written = _shapes(file)
        with h5py.File(temporary, "r") as file:
            if _shapes(file) != written:
                raise StudyError(f"{path}: what was written does not read back; is the disk full?")


@contextmanager
def read_hdf5(
    path: str | Path, *, format: str, versions: range = range(1, 2), study: str | None = None
) -> Iterator[Any]:
    """Open an HDF5 file of the study for reading, and check what it is.

    Raises
    ------
    StudyError
        If the file is missing, damaged, of another format or of none of the format versions, or of
        another study than `study` (where one is given). Also when a dataset or attribute is looked
        up that the file lacks, or data are read that are damaged.
    """
    try:
        file = _Reader(path, "r")
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; run again to have it made") from None
    except (OSError, RuntimeError) as error:
        damaged = f"not a readable HDF5 file ({_one_line(error)}); delete it and run again"
        raise unreadable(path, error, damaged) from error
    with file:
        with _naming(lambda: (path, "its attributes")):
            checksum = file.attrs.get(_CHECKSUM)
            intact = checksum is None or checksum == _attributes_checksum(file)
        if not intact:
            raise StudyError(
                f"{path}: its attributes are not those that were written; delete it and run again"
            )
        found = file.attrs.get("format")
        if found != format:
            raise StudyError(
                f"{path}: holds {found!r}, expected {format!r}; is it the file of another rule?"
            )
        version = int(file.attrs.get("format_version", 0))
        if version not in versions:
            remedy = (
                "a newer version of the workflow wrote it: update this one, or work in another "
                "folder"
                if version > versions[-1]
                else "delete it and run again"
            )
            known = " to ".join(map(str, sorted({versions[0], versions[-1]})))
            raise StudyError(f"{path}: format version {version}, this code reads {known}; {remedy}")
        if study is not None and file.attrs.get("study") != study:
            raise StudyError(
                f"{path}: belongs to study {file.attrs.get('study')!r}, expected {study!r}; "
                "move it back and run again"
            )
        yield file


# Headers of this version have checksums, which those of HDF5's default version have not.
_LIBVER = ("v110", "v110")
# Texts among the attributes lie where HDF5 has no checksum of its own.
_CHECKSUM = "attributes_sha256"


class _Writer(h5py.File):
    """An HDF5 file whose datasets have checksums and whose groups have no time stamps."""

    def create_dataset(
        self, name: Any, shape: Any = None, dtype: Any = None, data: Any = None, **options: Any
    ) -> Any:
        if "/" in name.strip("/"):
            # Groups that HDF5 makes by itself on the way would carry the time.
            self.require_group(name.strip("/").rpartition("/")[0])
        if (np.shape(data) if shape is None else shape) != ():
            options.setdefault("fletcher32", True)
        return super().create_dataset(name, shape, dtype, data, **options)

    def __setitem__(self, name: Any, obj: Any) -> None:
        self.create_dataset(name, data=obj)

    def attributes(self, group: str) -> Any:
        """Attributes of a group, which is made where it is missing."""
        return self.require_group(group).attrs


class _Reader(h5py.File):
    """An HDF5 file that names itself in every complaint."""

    def __getitem__(self, name: Any) -> Any:
        with _naming(lambda: (self.filename, name)):
            item = super().__getitem__(name)
        return Dataset(item.id) if isinstance(item, h5py.Dataset) else item

    @property
    def attrs(self) -> Any:
        return self.attributes("/")

    def attributes(self, group: str) -> Any:
        """Attributes of a group, which name file and group in every complaint."""
        with _naming(lambda: (self.filename, group)):
            attributes = _Attributes(self if group == "/" else super().__getitem__(group))
        attributes.path, attributes.group = self.filename, group
        return attributes


class Dataset(h5py.Dataset):
    """A dataset that names itself and its file in every complaint."""

    def __getitem__(self, *arguments: Any, **options: Any) -> Any:
        with _naming(self._place):
            return super().__getitem__(*arguments, **options)

    def read_direct(self, *arguments: Any, **options: Any) -> None:
        """Fill an array, converting as it is read."""
        with _naming(self._place):
            super().read_direct(*arguments, **options)

    def read_chunks(self, firsts: np.ndarray, into: np.ndarray, places: np.ndarray) -> None:
        """Fill ``into[places[n]]`` with the chunk that begins at row ``firsts[n]``, and check it.

        HDF5 takes 3.8 times as long (55 processor ms against 14.5 for 36 MB in chunks of 64 rows),
        and holds Python's lock meanwhile, so that other threads wait.
        The chunks must extend along the first dimension alone, and have a checksum and no other
        filter.

        Parameters
        ----------
        firsts : (n) int
            Multiples of the rows of a chunk.
        into : (place, rows, ...)
            Contiguous; of each place the first rows are filled, as many as a chunk has.
        places : (n) int
        """
        from sae_stitching.base.fletcher32 import first_damaged

        with _naming(self._place):
            if into.dtype != self.dtype:
                raise OSError(f"stored as {self.dtype}, expected {into.dtype}")
            descriptor, rows, starts = self._chunks
            checksums = np.zeros((len(firsts), 1), "<u4")
            wanted = zip(starts[firsts // rows].tolist(), places.tolist(), checksums, strict=True)
            for start, place, checksum in wanted:
                chunk = into[place, :rows]
                _read_whole(descriptor, (chunk, checksum), start)
            words = into.view(np.uint16).reshape(len(into), -1)
            n_words = rows * words.shape[1] // into.shape[1]
            if first_damaged(words[:, :n_words], places, checksums[:, 0]) >= 0:
                raise OSError("data error detected by Fletcher32 checksum")

    @cached_property
    def _chunks(self) -> tuple[int, int, np.ndarray]:
        # Descriptor of the file, rows of a chunk, and where in the file each chunk begins.
        assert self.chunks is not None
        rows = self.chunks[0]
        starts = np.zeros(-(-len(self) // rows), np.int64)

        def note(chunk: Any) -> None:
            starts[chunk.chunk_offset[0] // rows] = chunk.byte_offset

        self.id.chunk_iter(note)
        return self.file.id.get_vfd_handle(), rows, starts

    def _place(self) -> tuple[str, Any]:
        return self.file.filename, self.name


def _read_whole(descriptor: int, arrays: tuple[np.ndarray, ...], start: int) -> None:
    """Fill the arrays with what lies one after the other from `start` on."""
    rest = [array.data.cast("B") for array in arrays]
    while rest:
        n = os.preadv(descriptor, rest, start)
        if not n:
            raise OSError("the file ends too early")
        start += n
        # A network file system may give less at a time than there is.
        while rest and n >= len(rest[0]):
            n -= len(rest.pop(0))
        rest[:1] = [rest[0][n:]] if rest else []


class _Attributes(h5py.AttributeManager):
    path = group = ""

    def __getitem__(self, name: Any) -> Any:
        with _naming(lambda: (self.path, f"attribute {f'{self.group}/{name}'.lstrip('/')}")):
            return super().__getitem__(name)

    def get(self, name: Any, default: Any = None) -> Any:
        return self[name] if name in self else default  # noqa: SIM401, that would be this method


@contextmanager
def _naming(place: Callable[[], tuple[str | Path, Any]]) -> Iterator[None]:
    """Name file and dataset in what HDF5 complains of."""
    try:
        yield
    except (KeyError, OSError, RuntimeError) as error:
        path, what = place()
        what = str(what).removeprefix("/")
        if isinstance(error, KeyError):
            damaged = f"{what} is missing; delete it and run again"
        else:
            damaged = (
                f"{what} cannot be read, the file is damaged ({_one_line(error)}); "
                "delete it and run again"
            )
        # h5py has a KeyError also for what cannot be looked up since the disk does not answer.
        raise unreadable(path, error, damaged) from error


def _attributes_checksum(file: h5py.File) -> str:
    """SHA-256 of all attributes but this one."""
    found: dict[str, Any] = {}

    def visit(name: str, item: Any) -> None:
        for key, value in h5py.AttributeManager(item).items():
            if key != _CHECKSUM:
                found[f"{name}:{key}"] = value.tolist() if hasattr(value, "tolist") else value

    visit("", file)
    file.visititems(visit)
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _shapes(file: h5py.File) -> dict[str, tuple[tuple[int, ...], str]]:
    shapes: dict[str, tuple[tuple[int, ...], str]] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            shapes[name] = (item.shape, str(item.dtype))

    file.visititems(visit)
    return shapes
