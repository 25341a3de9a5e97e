"""Files that are written whole or not at all, and checked when opened."""

import json
import os
import threading

import h5py
import numpy as np
import pytest
from helpers.store_files import PROVENANCE, opened, write
from sae_stitching.base import store
from sae_stitching.base.errors import StudyError
from sae_stitching.base.store import read_hdf5, replacing, write_hdf5


def test_a_file_says_what_it_is(tmp_path):
    path = write(tmp_path / "a" / "b" / "1.h5", d_sae=5)
    assert opened(path) == opened(path, study="mine") == [1, 2, 3]
    with h5py.File(path) as file:
        assert dict(file.attrs) == {
            "format": "codes",
            "format_version": 1,
            "study": "mine",
            "provenance": json.dumps(PROVENANCE, sort_keys=True),
            "d_sae": 5,
            "attributes_sha256": file.attrs["attributes_sha256"],
        }
    assert [p.name for p in path.parent.iterdir()] == ["1.h5"]


def test_written_twice_the_bytes_are_the_same(tmp_path):
    one, other = write(tmp_path / "1.h5"), write(tmp_path / "2.h5")
    assert one.read_bytes() == other.read_bytes()
    reordered = dict(reversed(PROVENANCE.items()))
    with write_hdf5(tmp_path / "3.h5", format="x", study="y", provenance=reordered) as file:
        assert file.attrs["provenance"] == json.dumps(PROVENANCE, sort_keys=True)


@pytest.mark.parametrize("there", [False, True])
def test_an_exception_leaves_everything_as_it_was(tmp_path, there):
    path = tmp_path / "1.h5"
    before = write(path).read_bytes() if there else None
    with (
        pytest.raises(RuntimeError, match="half way"),
        write_hdf5(path, format="codes", study="mine", provenance={}) as file,
    ):
        file["values"] = np.zeros(1000)
        raise RuntimeError("half way")
    assert list(tmp_path.iterdir()) == ([path] if there else [])
    assert not there or path.read_bytes() == before


@pytest.mark.parametrize("there", [False, True])
def test_an_interrupt_leaves_everything_as_it_was(tmp_path, there):
    path = tmp_path / "figure.pdf"
    if there:
        path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("new")
        raise KeyboardInterrupt
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == (
        [("figure.pdf", "old")] if there else []
    )


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path):
    path = write(tmp_path / "1.h5", values=[1])
    with write_hdf5(path, format="codes", study="mine", provenance={}) as file:
        file["values"] = np.asarray([2])
        assert opened(path) == [1]
    assert opened(path) == [2]


def test_what_does_not_read_back_is_an_error(tmp_path, monkeypatch):
    shapes = iter([{"values": ((3,), "int64")}, {}])
    monkeypatch.setattr(store, "_shapes", lambda _: next(shapes))
    with pytest.raises(StudyError, match=r"1\.h5: what was written does not read back"):
        write(tmp_path / "1.h5")
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_file_is_in_the_same_folder_with_the_same_suffix(tmp_path):
    with replacing(tmp_path / "new" / "figure4.png") as temporary:
        assert temporary.parent == tmp_path / "new"
        assert temporary.suffix == ".png"
        assert temporary.name.startswith(".")
        temporary.write_bytes(b"x")
    assert (tmp_path / "new" / "figure4.png").read_bytes() == b"x"


def test_a_string_is_a_path_too(tmp_path):
    with replacing(os.fspath(tmp_path / "a.json")) as temporary:
        temporary.write_text("{}")
    assert (tmp_path / "a.json").read_text() == "{}"


def test_writers_of_one_file_do_not_interleave(tmp_path):
    path = tmp_path / "rows.csv"
    n_writers = 8
    barrier = threading.Barrier(n_writers)
    names = []

    def writer(number):
        with replacing(path) as temporary:
            names.append(temporary)
            with open(temporary, "w") as file:
                for line in range(50):
                    file.write(f"{number}\n")
                    if line == 25:
                        file.flush()
                        barrier.wait()

    threads = [threading.Thread(target=writer, args=[n]) for n in range(n_writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(names)) == n_writers
    lines = path.read_text().splitlines()
    assert len(lines) == 50
    assert len(set(lines)) == 1
    assert list(tmp_path.iterdir()) == [path]


def wrong(path, format="codes", study=None):
    """What is said of a file that cannot be opened, after its name."""
    with pytest.raises(StudyError) as error, read_hdf5(path, format=format, study=study):
        pass
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def test_a_file_of_another_kind(tmp_path):
    path = write(tmp_path / "1.h5")
    of_another_rule = "holds 'codes', expected 'sae'; is it the file of another rule?"
    assert wrong(path, format="sae") == of_another_rule
    of_another_study = "belongs to study 'mine', expected 'theirs'; move it back and run again"
    assert wrong(path, study="theirs") == of_another_study
    with h5py.File(path, "r+") as file:
        file.attrs["format_version"] = 2
    message = wrong(path)
    assert message.startswith("its attributes are not those that were written")
    with h5py.File(path, "r+") as file:
        del file.attrs["attributes_sha256"]
    assert wrong(path) == (
        "format version 2, this code reads 1; a newer version of the workflow wrote it: update "
        "this one, or work in another folder"
    )
    with h5py.File(path, "r+") as file:
        del file.attrs["format_version"]
    assert wrong(path) == "format version 0, this code reads 1; delete it and run again"
    with h5py.File(path, "r+") as file:
        del file.attrs["format"]
    assert wrong(path) == "holds None, expected 'codes'; is it the file of another rule?"


def test_a_missing_file(tmp_path):
    assert wrong(tmp_path / "1.h5") == "no such file; run again to have it made"


def test_what_a_file_lacks(tmp_path):
    path = write(tmp_path / "1.h5")
    with read_hdf5(path, format="codes") as file:
        with pytest.raises(StudyError, match=r"1\.h5: indices is missing; delete it and run again"):
            file["indices"]
        with pytest.raises(StudyError, match=r"1\.h5: attribute d_sae is missing"):
            file.attrs["d_sae"]
        assert file.attrs.get("d_sae", 3) == 3


@pytest.mark.parametrize("seed", range(4))
def test_no_flipped_bit_goes_unnoticed(tmp_path, seed):
    """Whatever reads at all reads as it was written, or is an error that names the file."""

    def contents(path):
        with read_hdf5(path, format="codes", study="mine") as file:
            attributes = [file.attrs[name] for name in ("provenance", "mse", "steps")]
            datasets = [file[name][...] for name in ("values", "group/values", "grown", "none")]
            return str(attributes), [data.tobytes() for data in datasets]

    path = tmp_path / "1.h5"
    with write_hdf5(path, format="codes", study="mine", provenance=PROVENANCE) as file:
        file["values"] = np.arange(300.0)
        file["group/values"] = np.eye(12, dtype=np.float32)
        file["none"] = np.zeros(0)
        grown = file.create_dataset("grown", (0,), maxshape=(None,), chunks=(64,), dtype="i4")
        for n in (70, 200):
            grown.resize((n,))
            grown[:] = n
        file.attrs.update(mse=1.5, steps=["a", "b"])
    written, content = contents(path), path.read_bytes()
    rng, noticed = np.random.default_rng(seed), 0
    for position in rng.choice(len(content), 150, replace=False):
        damaged = bytearray(content)
        damaged[position] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            assert contents(path) == written, position
        except StudyError as error:
            assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
            noticed += 1
    assert noticed > 50


def test_data_that_are_damaged_are_named_when_read(tmp_path):
    path = write(tmp_path / "1.h5", values=np.arange(1000))
    content = bytearray(path.read_bytes())
    content[content.index(np.arange(1000).tobytes()) + 4000] ^= 1
    path.write_bytes(content)
    with (
        pytest.raises(StudyError, match=r"1\.h5: values cannot be read, the file is damaged \("),
        read_hdf5(path, format="codes") as file,
    ):
        file["values"][490:510]


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_file(tmp_path, kept):
    path = write(tmp_path / "1.h5", values=np.arange(5000))
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    message = wrong(path)
    assert message.startswith("not a readable HDF5 file (")
    assert message.endswith("delete it and run again")


def test_something_that_is_no_hdf5_file(tmp_path):
    path = tmp_path / "1.h5"
    path.write_text("not found" * 1000)
    assert wrong(path).startswith("not a readable HDF5 file (")
