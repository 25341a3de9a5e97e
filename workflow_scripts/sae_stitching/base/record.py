"""Records: results that are kept in HDF5 files, declared once, stored and read from that alone.

A record is a class whose fields say what its file holds::

    @record("swaps", "stitching/swaps/<pair>.h5")
    class Swaps:
        \"\"\"Effect of swapping each connected subgraph alone.\"\"\"

        delta_mse: Float64[np.ndarray, " component"] = stored(unit="activation²")
        \"\"\"MSE after the swap minus that of the smaller SAE.\"\"\"
        n_tokens: int
        \"\"\"Eval tokens.\"\"\"

Arrays are datasets of the annotated type and dimensions; a dimension's name stands for one size in
the whole record, and ``latent+1`` is one more than ``latent``. Numbers and texts are attributes,
another record is a group, and a mapping of records is a group a key. What may be None may be
missing. All of it is checked when a file is opened and when it has been written: what does not fit
is one line that names file and dataset. Fields are stored in their order, so that equal records
have equal bytes. The page of file formats in the documentation is made of the same declarations.

Annotations are those of jaxtyping, but taken from the source as it stands: a figure that only
reads what is stored loads neither torch, which takes seconds, nor jaxtyping.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any, Protocol, TypeVar, dataclass_transform, get_args, get_origin

import h5py
import numpy as np

from sae_stitching.base.errors import StudyError
from sae_stitching.base.store import read_hdf5, write_hdf5

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

#: Datasets and attributes of a file by their names, as a migration is given them.
Content = Mapping[str, Any]

#: All records that have files of their own, by format.
RECORDS: dict[str, type] = {}


@dataclass(frozen=True)
class Array:
    """What an annotation says of a dataset: its types, one of which it has, and its dimensions."""

    types: tuple[str, ...]
    shape: str
    optional: bool = False

    def __or__(self, other: Array | None) -> Array:
        if other is None:
            return replace(self, optional=True)
        assert other.shape == self.shape, "whatever its type, a dataset has the same dimensions"
        return replace(self, types=self.types + other.types)

    @property
    def dimensions(self) -> list[tuple[str, int]]:
        """Name of each dimension, and by how much it is longer than that."""
        parts = (dimension.partition("+") for dimension in self.shape.split(", "))
        return [(name, int(more or 0)) for name, _, more in parts]


class _Type:
    """Stands for a type of jaxtyping while annotations are read."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getitem__(self, arguments: tuple[Any, str]) -> Array:
        return Array((self._name,), ", ".join(arguments[1].split()))


_TYPES: dict[str, Any] = {
    name: _Type(name.lower())
    for name in ("Int8", "Int32", "Int64", "UInt8", "Float16", "Float32", "Float64")
    # To jaxtyping this is of any type; it has none for texts.
} | {"Shaped": _Type("text")}

#: Types of attributes, and the kinds of NumPy's that may be stored for each.
_ATTRIBUTES = {bool: "b", int: "iu", float: "fiu", str: "U"}


@dataclass(frozen=True)
class Entry:
    """How one field of a record is stored.

    Attributes
    ----------
    field, name : str
        What it is called in the record, and in the file.
    kind : Array or type
        Of a dataset; bool, int, float, str for an attribute; a record for a group.
    unit, keys, options
        See `stored`.
    optional : bool
        Whether it may be missing, which is None.
    mapping : bool
        Whether it is a mapping of such records.
    derived : bool
        Whether it is a property: stored for who reads the file without this library.
    """

    field: str
    name: str
    kind: Any
    unit: str
    keys: Sequence[str] | None
    options: Mapping[str, Any]
    optional: bool = False
    mapping: bool = False
    derived: bool = False


@dataclass(frozen=True)
class Layout:
    """How a record is stored: `format`, `version` and `path` of its file, and its entries."""

    format: str
    path: str
    version: int
    older: Mapping[int, Callable[[Content], Content]]
    entries: tuple[Entry, ...]


def stored(
    *,
    default: Any = MISSING,
    kw_only: bool = False,
    name: str | None = None,
    unit: str = "",
    keys: Sequence[str] | None = None,
    **options: Any,
) -> Any:
    """Say of a record's field what its annotation does not.

    Parameters
    ----------
    default, kw_only
        As for `dataclasses.field`.
    name
        In the file, where it is another; groups may be part of it. Empty for a record whose fields
        lie beside those around it.
    unit
        Of its numbers.
    keys
        Of a mapping of records, where they are the same in all files. Otherwise an attribute with
        the field's name has them.
    options
        Of h5py's `create_dataset`, such as the compression.
    """
    said = {"name": name, "unit": unit, "keys": keys, "options": options}
    return field(default=default, kw_only=kw_only, metadata=said)


_NOTHING_SAID = {"name": None, "unit": "", "keys": None, "options": {}}


@dataclass_transform(eq_default=False, frozen_default=True, field_specifiers=(stored,))
def record(
    format: str = "",
    path: str = "",
    *,
    version: int = 1,
    older: Mapping[int, Callable[[Content], Content]] | None = None,
    derived: Sequence[str] = (),
) -> Callable[[type[T]], type[T]]:
    """Make a frozen dataclass of a class, and remember how it is stored.

    Parameters
    ----------
    format
        What its files call themselves; none for what is only a group of another record.
    path
        Where they lie in a study's folder.
    version
        Format version of the files that are written.
    older
        For each older version that can still be read, the step from it to the next: from all
        datasets and attributes by name, groups being part of it, to those of the next version.
    derived
        Properties that are stored too, after the fields, and not read.
    """
    steps = dict(older or {})
    assert sorted(steps) == list(range(version - len(steps), version)), "steps without a gap"

    def declare(cls: type[T]) -> type[T]:
        made = dataclass(frozen=True, eq=False)(cls)
        layout = Layout(format, path, version, steps, (*_fields(made), *_derived(made, derived)))
        made.__layout__ = layout  # type: ignore[attr-defined]
        if format:
            assert RECORDS.setdefault(format, made).__qualname__ == made.__qualname__, format
        return made

    return declare


def layout_of(cls: type) -> Layout:
    """How a record is stored."""
    return cls.__layout__  # type: ignore[attr-defined]


def _fields(cls: type) -> Iterator[Entry]:
    annotations = {}
    for base in reversed(cls.__mro__):
        annotations |= inspect.get_annotations(base, locals=_TYPES, eval_str=True)
    for found in fields(cls):  # type: ignore[arg-type]
        said = {**_NOTHING_SAID, **found.metadata}
        yield _entry(cls, found.name, annotations[found.name], **said)


def _derived(cls: type, names: Sequence[str]) -> Iterator[Entry]:
    for name in names:
        getter = vars(cls)[name].fget
        annotations = inspect.get_annotations(getter, locals=_TYPES, eval_str=True)
        yield _entry(cls, name, annotations["return"], **_NOTHING_SAID, derived=True)


def _entry(cls: type, field: str, annotation: Any, *, name: str | None, **said: Any) -> Entry:
    said["name"] = field if name is None else name
    if isinstance(annotation, Array):
        return Entry(field, kind=annotation, optional=annotation.optional, **said)
    arguments = get_args(annotation)
    if get_origin(annotation) is Mapping:
        return Entry(field, kind=arguments[1], mapping=True, **said)
    if optional := NoneType in arguments:
        (annotation,) = set(arguments) - {NoneType}
    if annotation in _ATTRIBUTES or hasattr(annotation, "__layout__"):
        return Entry(field, kind=annotation, optional=optional, **said)
    raise TypeError(f"{cls.__name__}.{field}: {annotation} cannot be stored in an HDF5 file")


# Writing


def write_record(
    value: Any, path: str | Path, *, study: str, provenance: Mapping[str, Any]
) -> None:
    """Write a record to its file.

    Parameters
    ----------
    value
        The record.
    path
        Where the file ends up.
    study, provenance
        See `store.write_hdf5`.

    Raises
    ------
    StudyError
        If an array is of another type or shape than the record has it, or the disk is full.
    """
    with create_record(type(value), path, study=study, provenance=provenance) as file:
        _put(file, value, "")


@contextmanager
def create_record(
    cls: type, path: str | Path, *, study: str, provenance: Mapping[str, Any]
) -> Iterator[Any]:
    """Write a record piece by piece, for one that does not fit into memory.

    Yields
    ------
    h5py.File
        Open for writing: datasets and attributes are up to the caller, and checked at the end.
    """
    layout = layout_of(cls)
    options = {"version": layout.version, "study": study, "provenance": provenance}
    with write_hdf5(path, format=layout.format, **options) as file:
        yield file
        _Source(path, file, "report this as a bug").record(cls, whole=False)


def _put(file: Any, value: Any, group: str) -> None:
    for entry in layout_of(type(value)).entries:
        found, name = getattr(value, entry.field), f"{group}{entry.name}"
        if entry.mapping:
            if entry.keys is None:
                file.attributes(group or "/")[entry.name] = list(found)
            for key in entry.keys or found:
                _put(file, found[key], f"{group}{key}/")
        elif found is None:
            assert entry.optional, f"{type(value).__name__}.{entry.field} is None"
        elif isinstance(entry.kind, Array):
            file.create_dataset(name, data=found, **entry.options)
        elif entry.kind in _ATTRIBUTES:
            file.attributes(group or "/")[entry.name] = found
        else:
            _put(file, found, f"{name}/" if entry.name else group)


# Reading


class Load(Protocol[T_co]):
    """A function that reads a record."""

    def __call__(self, path: str | Path, *, study: str | None = None) -> T_co:
        """Read it from its file."""
        ...


def loader(name: str, cls: type[T]) -> Load[T]:
    """Make the function that reads a record, with the name that it is assigned to."""

    def load(path: str | Path, *, study: str | None = None) -> T:
        with _opened(cls, path, study) as source:
            return source.record(cls, whole=True)

    load.__name__ = load.__qualname__ = name
    load.__module__ = cls.__module__
    load.__annotations__["return"] = cls.__name__
    load.__doc__ = f"""Read ``{layout_of(cls).path}``, see `{cls.__name__}`.

    Parameters
    ----------
    path
        File of a study.
    study
        Study that it must belong to; any by default.

    Raises
    ------
    StudyError
        If the file is missing, damaged, of another format or of another study, or if something in
        it is missing or of another type or shape than the record has it.
    """
    return load


@contextmanager
def open_record(cls: type, path: str | Path, *, study: str | None = None) -> Iterator[Any]:
    """Open a record of which only parts are wanted.

    Yields
    ------
    record
        Checked as if it was read, but with `store.Dataset` in place of arrays: what is taken of
        them is read then, as long as the file is open.

    Raises
    ------
    StudyError
        As the function that `loader` makes.
    """
    with _opened(cls, path, study) as source:
        yield source.record(cls, whole=False)


class _Source:
    """Datasets and attributes of a file, or of an older one as they would be in today's version."""

    def __init__(
        self, path: str | Path, file: Any, remedy: str, migrated: Content | None = None
    ) -> None:
        self._path, self._file, self._remedy, self._migrated = path, file, remedy, migrated

    def record(self, cls: type[T], group: str = "", *, whole: bool, checked: bool = False) -> T:
        """Take the record of a group and check it; with `whole`, its arrays are read."""
        if not checked:
            self._check(cls, group)
        found = {}
        for entry in layout_of(cls).entries:
            name = f"{group}{entry.name}"
            if entry.derived:
                continue
            if entry.mapping:
                keys = entry.keys or [str(key) for key in self._attribute(name)]
                found[entry.field] = {
                    key: self.record(entry.kind, f"{group}{key}/", whole=whole) for key in keys
                }
            elif entry.optional and not self._has(name, entry.kind):
                found[entry.field] = None
            elif isinstance(entry.kind, Array):
                dataset = self._dataset(name)
                found[entry.field] = dataset[...] if whole else dataset
            elif entry.kind in _ATTRIBUTES:
                found[entry.field] = self._scalar(name, entry.kind)
            else:
                beside = not entry.name
                place = group if beside else f"{name}/"
                found[entry.field] = self.record(entry.kind, place, whole=whole, checked=beside)
        return cls(**found)

    def _check(self, cls: type, group: str) -> None:
        """Check types and shapes; a dimension has the size that most datasets give it."""
        arrays = [
            (name, kind, self._dataset(name))
            for name, kind in _arrays(cls, group)
            if not kind.optional or self._has(name, kind)
        ]
        found: dict[str, Counter[int]] = {}
        for _, kind, dataset in arrays:
            for (dimension, more), size in zip(kind.dimensions, dataset.shape, strict=False):
                if dataset.ndim == len(kind.dimensions):
                    found.setdefault(dimension, Counter())[size - more] += 1
        sizes = {dimension: counter.most_common(1)[0][0] for dimension, counter in found.items()}
        for name, kind, dataset in arrays:
            stored_as = "text" if h5py.check_string_dtype(dataset.dtype) else str(dataset.dtype)
            if stored_as not in kind.types:
                raise self._wrong(f"{name} is {stored_as}, expected {' or '.join(kind.types)}")
            expected = [
                dimension
                if dimension.isdigit() or dimension not in sizes
                else sizes[dimension] + more
                for dimension, more in kind.dimensions
            ]
            shape, wanted = _shape(dataset.shape), _shape(expected)
            if shape != wanted:
                raise self._wrong(f"{name} has shape {shape}, expected {wanted} for ({kind.shape})")

    def _has(self, name: str, kind: Any) -> bool:
        if self._migrated is not None:
            return name in self._migrated
        if isinstance(kind, Array):
            return name in self._file
        group, _, key = name.rpartition("/")
        return key in self._file.attributes(group or "/")

    def _dataset(self, name: str) -> Any:
        with self._missing(name):
            found = (self._file if self._migrated is None else self._migrated)[name]
        if not hasattr(found, "dtype"):
            raise self._wrong(f"{name} is not a dataset")
        return found

    def _attribute(self, name: str) -> Any:
        with self._missing(f"attribute {name}"):
            if self._migrated is not None:
                return self._migrated[name]
            group, _, key = name.rpartition("/")
            return self._file.attributes(group or "/")[key]

    def _scalar(self, name: str, kind: type) -> Any:
        found = self._attribute(name)
        if np.shape(found) or np.asarray(found).dtype.kind not in _ATTRIBUTES[kind]:
            raise self._wrong(f"attribute {name} is {found!r}, expected {kind.__name__}")
        return kind(found)

    @contextmanager
    def _missing(self, what: str) -> Iterator[None]:
        try:
            yield
        except KeyError:
            raise self._wrong(f"{what} is missing") from None

    def _wrong(self, what: str) -> StudyError:
        return StudyError(f"{self._path}: {what}; {self._remedy}")


def _shape(sizes: Sequence[Any]) -> str:
    return f"({', '.join(map(str, sizes))}{',' * (len(sizes) == 1)})"


def _arrays(cls: type, group: str) -> Iterator[tuple[str, Array]]:
    """Datasets of a record, and of those whose fields lie beside its own."""
    for entry in layout_of(cls).entries:
        if isinstance(entry.kind, Array):
            yield f"{group}{entry.name}", entry.kind
        elif not entry.name:
            yield from _arrays(entry.kind, group)


@contextmanager
def _opened(cls: type, path: str | Path, study: str | None) -> Iterator[_Source]:
    layout = layout_of(cls)
    oldest = layout.version - len(layout.older)
    versions = range(oldest, layout.version + 1)
    with read_hdf5(path, format=layout.format, versions=versions, study=study) as file:
        content = None
        for version in range(int(file.attrs["format_version"]), layout.version):
            content = layout.older[version](_content(file) if content is None else content)
        yield _Source(path, file, "delete it and run again", content)


def _content(file: Any) -> Content:
    found = dict(file.attrs)

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = file[name]
        else:
            found.update({f"{name}/{key}": value for key, value in item.attrs.items()})

    file.visititems(visit)
    return found
