"""Records: declared once, stored and read from that, and checked both times."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
from helpers.checkout import SCRIPTS
from sae_stitching.base import record as module
from sae_stitching.base.errors import StudyError
from sae_stitching.base.record import (
    RECORDS,
    create_record,
    layout_of,
    loader,
    open_record,
    record,
    stored,
    write_record,
)
from sae_stitching.base.store import Dataset, write_hdf5

if TYPE_CHECKING:
    from jaxtyping import Float16, Float32, Float64, Int8, Int32, Int64, Shaped


ORIGIN = {"study": "mine", "provenance": {"rule": "a"}}
KINDS = ("near", "far")


@record()
class Walk:
    """A group of another record."""

    latents: Int64[np.ndarray, " latent"]
    mse: Float64[np.ndarray, " latent+1"] = stored(unit="activation²")
    steady: bool


@record("whole", "stitching/whole/<pair>.h5", derived=("largest",))
class Whole:
    """All that a field can be."""

    floor: float = stored(kw_only=True)
    cosine: Float32[np.ndarray, "d_large d_small"]
    kind: Int8[np.ndarray, " d_large"]
    ends: Int32[np.ndarray, "edge 2"] = stored(name="edges/ends", compression="gzip")
    name: str
    n_tokens: int
    best: Walk
    beside: Walk = stored(name="")
    kinds: Mapping[str, Walk] = stored(keys=KINDS)
    steps: Mapping[str, Walk]
    x: Float16[np.ndarray, " d_small"] | Float32[np.ndarray, " d_small"]
    source: Shaped[np.ndarray, " d_small"] | None = None
    k: int | None = None
    matrix: Float64[np.ndarray, "d_large d_large"] | None = stored(default=None)

    @property
    def largest(self) -> float:
        """The greatest cosine."""
        return float(self.cosine.max())


load_whole = loader("load_whole", Whole)


def walk(n: int) -> Walk:
    return Walk(np.arange(n), np.arange(n + 1) / 2, n > 2)


def whole(**changes) -> Whole:
    return Whole(
        **{
            "floor": 0.5,
            "cosine": np.arange(6, dtype=np.float32).reshape(3, 2),
            "kind": np.array([1, 2, 3], np.int8),
            "ends": np.array([[1, 2], [3, 4], [5, 6], [7, 8]], np.int32),
            "name": "hook α",
            "n_tokens": 12,
            "best": walk(3),
            "beside": walk(2),
            "kinds": {"far": walk(1), "near": walk(4)},
            "steps": {"b--c": walk(2), "a--b": walk(5)},
            "x": np.ones(2, np.float16),
            **changes,
        }
    )


def written(tmp_path, **changes) -> Path:
    write_record(whole(**changes), tmp_path / "whole.h5", **ORIGIN)
    return tmp_path / "whole.h5"


def plain(value):
    """A record as what compares."""
    if isinstance(value, np.ndarray):
        return value.dtype, value.tolist()
    if isinstance(value, Mapping):
        return [(key, plain(item)) for key, item in value.items()]
    return {k: plain(v) for k, v in vars(value).items()} if hasattr(value, "__dict__") else value


# What is written is read


TEXTS = np.array([b"a", b"b"]).astype(h5py.string_dtype("utf-8", 1))


@pytest.mark.parametrize("more", [{}, {"k": 3, "source": TEXTS, "matrix": np.eye(3)}])
def test_what_is_written_is_read(tmp_path, more):
    value = whole(**more)
    write_record(value, path := tmp_path / "1.h5", **ORIGIN)
    back = load_whole(path, study="mine")
    expected = plain(value)
    expected["kinds"].sort(key=lambda item: KINDS.index(item[0]))  # as they are declared
    assert plain(back) == expected
    assert type(back.n_tokens) is int and type(back.floor) is float and type(back.name) is str
    assert type(back.best.steady) is bool
    with h5py.File(path) as file:
        assert file.attrs["largest"] == 5.0
        assert file["edges/ends"].compression == "gzip"
        assert file["best"].attrs["steady"] and "steady" in file.attrs
        assert list(file.attrs["steps"]) == ["b--c", "a--b"]
        assert ("k" in file.attrs) == ("source" in file) == bool(more)


def test_a_record_is_written_as_by_hand(tmp_path):
    """The plain way, in the order of the fields: the bytes are the same."""
    value, path = whole(), tmp_path / "by_hand.h5"

    def put(group: str, walk: Walk) -> None:
        file[f"{group}latents"], file[f"{group}mse"] = walk.latents, walk.mse
        file[group or "/"].attrs["steady"] = walk.steady

    with write_hdf5(path, format="whole", **ORIGIN) as file:
        file.attrs["floor"] = value.floor
        file["cosine"], file["kind"] = value.cosine, value.kind
        file.create_dataset("edges/ends", data=value.ends, compression="gzip")
        file.attrs["name"], file.attrs["n_tokens"] = value.name, value.n_tokens
        put("best/", value.best)
        put("", value.beside)
        for kind in KINDS:
            put(f"{kind}/", value.kinds[kind])
        file.attrs["steps"] = list(value.steps)
        for name, step in value.steps.items():
            put(f"{name}/", step)
        file["x"] = value.x
        file.attrs["largest"] = value.largest
    assert path.read_bytes() == written(tmp_path).read_bytes()


def test_parts_are_read_when_they_are_asked_for(tmp_path):
    path = written(tmp_path)
    with open_record(Whole, path, study="mine") as opened:
        assert isinstance(opened, Whole)
        assert isinstance(opened.cosine, Dataset) and isinstance(opened.best.mse, Dataset)
        assert opened.cosine[1:].tolist() == [[2, 3], [4, 5]]
        assert (opened.n_tokens, opened.best.steady, opened.matrix) == (12, True, None)


def test_a_record_in_pieces_is_checked_at_the_end(tmp_path):
    path = tmp_path / "1.h5"
    with create_record(Walk2, path, **ORIGIN) as file:
        mse = file.create_dataset("mse", (0,), np.float64, maxshape=(None,), chunks=(4,))
        mse.resize((3,))
        mse[:] = 1
        file["latents"] = np.arange(2)
    assert load_walk2(path).mse.tolist() == [1, 1, 1]
    before = path.read_bytes()
    with pytest.raises(StudyError) as error, create_record(Walk2, path, **ORIGIN) as file:
        file["latents"] = np.arange(2)
    assert str(error.value) == f"{path}: mse is missing; report this as a bug"
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": np.zeros(3)}, "kind is float64, expected int8"),
        (
            {"kind": np.zeros(4, np.int8)},
            "kind has shape (4,), expected (3,) for (d_large)",
        ),
        ({"n_tokens": 1.5}, "attribute n_tokens is np.float64(1.5), expected int"),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path, change, message):
    with pytest.raises(StudyError) as error:
        written(tmp_path, **change)
    assert str(error.value) == f"{tmp_path}/whole.h5: {message}; report this as a bug"
    assert list(tmp_path.iterdir()) == []


# What does not fit is one line


def replaced(name, values):
    def change(file):
        del file[name]
        file[name] = values

    return change


def attribute(name, value, group="/"):
    return lambda file: file[group].attrs.__setitem__(name, value)


def without(name, group=None):
    return lambda file: (file[group].attrs if group else file).__delitem__(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("cosine"), "cosine is missing"),
        (without("best"), "best/latents is missing"),
        (without("b--c/mse"), "b--c/mse is missing"),
        (without("floor", "/"), "attribute floor is missing"),
        (without("steps", "/"), "attribute steps is missing"),
        (without("steady", "near"), "attribute near/steady is missing"),
        (replaced("kind", np.zeros(3, np.int32)), "kind is int32, expected int8"),
        (replaced("x", np.zeros(2)), "x is float64, expected float16 or float32"),
        (replaced("best/mse", np.float32([0, 1, 2, 3])), "best/mse is float32, expected float64"),
        (
            replaced("best/mse", np.zeros(3)),
            "best/mse has shape (3,), expected (4,) for (latent+1)",
        ),
        (
            replaced("x", np.zeros(3, np.float16)),
            "x has shape (3,), expected (2,) for (d_small)",
        ),
        (
            replaced("cosine", np.zeros(3, np.float32)),
            "cosine has shape (3,), expected (3, 2) for (d_large, d_small)",
        ),
        (
            replaced("edges/ends", np.zeros((4, 3), np.int32)),
            "edges/ends has shape (4, 3), expected (4, 2) for (edge, 2)",
        ),
        (
            replaced("edges/ends", np.zeros(4, np.int32)),
            "edges/ends has shape (4,), expected (edge, 2) for (edge, 2)",
        ),
        (replaced("far/mse", np.zeros(0)), "far/mse has shape (0,), expected (2,) for (latent+1)"),
        (attribute("name", 3), "attribute name is np.int64(3), expected str"),
        (attribute("floor", "much"), "attribute floor is 'much', expected float"),
        (attribute("n_tokens", 3.0), "attribute n_tokens is np.float64(3.0), expected int"),
        (attribute("steady", 1, "best"), "attribute best/steady is np.int64(1), expected bool"),
        (
            lambda file: file.move("kind", "of") or file.move("best", "kind"),
            "kind is not a dataset",
        ),
    ],
)
@pytest.mark.parametrize("lazily", [True, False])
def test_what_does_not_fit_is_named(tmp_path, change, message, lazily):
    path = written(tmp_path)
    with h5py.File(path, "r+") as file:
        del file.attrs["attributes_sha256"]
        change(file)
    with pytest.raises(StudyError) as error:
        if lazily:
            with open_record(Whole, path):
                pass
        else:
            load_whole(path)
    said = str(error.value)
    assert said.startswith(f"{path}: {message}") and said.endswith("; delete it and run again")


def test_files_of_other_studies_and_formats_are_refused(tmp_path):
    path = written(tmp_path)
    with pytest.raises(StudyError, match="belongs to study 'mine', expected 'other'"):
        load_whole(path, study="other")
    with pytest.raises(StudyError, match="holds 'whole', expected 'walk2'"):
        load_walk2(path)
    with pytest.raises(StudyError, match="no such file"):
        load_whole(tmp_path / "2.h5")


# Versions


@record("walk2", "walk2.h5")
class Walk2:
    latents: Int64[np.ndarray, " latent"]
    mse: Float64[np.ndarray, " latent+1"]


load_walk2 = loader("load_walk2", Walk2)


def test_older_versions_are_brought_up_to_date(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "RECORDS", {})
    path = tmp_path / "1.h5"
    with write_hdf5(path, format="aged", **ORIGIN) as file:
        file["old/error"] = np.array([4.0, 2.0])
        file["old"].attrs["count"] = 7
        file["x"] = np.arange(3)

    def named(content):
        # Version 2 had other names, version 3 another unit.
        return {"mse": content["old/error"], "n": content["old/count"], "x": content["x"]}

    def halved(content):
        return {**content, "mse": content["mse"][...] / 2}

    @record("aged", "aged.h5", version=3, older={1: named, 2: halved})
    class Aged:
        mse: Float64[np.ndarray, " point"]
        x: Int64[np.ndarray, " other"]
        n: int
        k: int | None = None

    load = loader("load", Aged)
    back = load(path)
    assert plain(back) == plain(Aged(np.array([2.0, 1.0]), np.arange(3), 7))
    with open_record(Aged, path) as opened:
        assert isinstance(opened.x, Dataset)  # what no step touches is not read
    write_record(back, path, **ORIGIN)
    with h5py.File(path) as file:
        assert file.attrs["format_version"] == 3
    assert plain(load(path)) == plain(back)
    with h5py.File(path, "r+") as file:
        del file.attrs["attributes_sha256"]
        file.attrs["format_version"] = 4
    with pytest.raises(StudyError, match="format version 4, this code reads 1 to 3; a newer"):
        load(path)

    monkeypatch.setattr(module, "RECORDS", {})

    @record("aged", "aged.h5", version=3, older={2: dict})
    class Later:
        x: Int64[np.ndarray, " other"]

    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 1
    with pytest.raises(StudyError, match="format version 1, this code reads 2 to 3; delete it"):
        loader("load", Later)(path)
    # A step that forgets something is told as a file is that lacks it.
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 2
        del file["x"]
    with pytest.raises(StudyError, match=r"1\.h5: x is missing; delete it and run again"):
        loader("load", Later)(path)


# Declarations


def test_a_declaration_that_cannot_be_kept_is_refused():
    with pytest.raises(TypeError, match=r"Odd\.values: .*list.* cannot be stored"):

        @record()
        class Odd:
            values: list[int]

    with pytest.raises(AssertionError, match="without a gap"):
        record("x", "x.h5", version=4, older={1: dict, 3: dict})
    with pytest.raises(AssertionError, match="walk2"):

        @record("walk2", "elsewhere.h5")
        class Second:
            n: int


def test_the_loader_is_a_function_with_a_name_and_a_page():
    assert load_whole.__name__ == "load_whole"
    assert load_whole.__doc__.startswith("Read ``stitching/whole/<pair>.h5``, see `Whole`.")
    assert RECORDS["whole"] is Whole
    unit = {entry.field: entry.unit for entry in layout_of(Walk).entries}
    assert unit == {"latents": "", "mse": "activation²", "steady": ""}


def test_neither_torch_nor_jaxtyping_is_loaded_for_what_is_stored(tmp_path):
    path = written(tmp_path)
    code = (
        "import sys; sys.path[:0] = sys.argv[1:4]; from test_record import load_whole; "
        "sys.modules.pop('pytest'); load_whole(sys.argv[4]); "
        "print(*({'torch', 'jaxtyping'} & sys.modules.keys()))"
    )
    arguments = [str(SCRIPTS), str(Path(__file__).parent), str(Path(__file__).parents[1])]
    arguments.append(str(path))
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_a_record_may_extend_another(tmp_path):
    @record("longer", "longer.h5")
    class Longer(Walk):
        l0: Float64[np.ndarray, " latent+1"]

    value, path = Longer(np.arange(2), np.ones(3), True, np.zeros(3)), tmp_path / "1.h5"
    write_record(value, path, **ORIGIN)
    assert plain(loader("load", Longer)(path)) == plain(value)
    with h5py.File(path) as file:
        assert sorted(file) == ["l0", "latents", "mse"] and bool(file.attrs["steady"])
    with pytest.raises(StudyError, match=r"l0 has shape \(2,\), expected \(3,\) for \(latent\+1\)"):
        write_record(Longer(np.arange(2), np.ones(3), True, np.zeros(2)), path, **ORIGIN)
