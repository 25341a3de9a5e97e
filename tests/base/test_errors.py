"""What is said of a file that cannot be read: damage is told from all that may be in the way."""

import errno
import fcntl
import json
import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from helpers.interrupted_training import small_config
from helpers.shards import write_shard
from sae_stitching.activations.shards import ActivationShards
from sae_stitching.base.errors import StudyError, WriteError, in_the_way
from sae_stitching.base.store import read_hdf5, write_hdf5
from sae_stitching.formats.files import Settings, read_npz, read_safetensors, read_state_dict
from sae_stitching.saes import evaluation
from sae_stitching.saes.training import Trainer
from sae_stitching.text import documents
from sae_stitching.text.documents import read_documents

#: As HDF5 words it; only the number differs from reason to reason.
OPENED = "Unable to synchronously open file (unable to lock file, errno = {}, error message = 'x')"
READ = "Can't synchronously read data (file read failed: time = now, errno = {}, error message)"
LOCKED = (
    "cannot be read (locked: Resource temporarily unavailable); another process has it open, maybe "
    "one that was left over: end it and run again, or set HDF5_USE_FILE_LOCKING=FALSE if none "
    "writes it"
)
NO_LOCKS = (
    "cannot be read (its file system gives no locks: {}); set HDF5_USE_FILE_LOCKING=FALSE and run "
    "again"
)
DISK = "cannot be read ({}); see to its disk or network file system, then run again"
TOO_MANY = (
    "cannot be read (Too many open files); let fewer jobs run at once or raise the limit "
    "(ulimit -n), then run again"
)
NO_MEMORY = (
    "cannot be read (Cannot allocate memory); let fewer jobs run at once or give the job more "
    "memory, then run again"
)


def write(path: Path) -> Path:
    with write_hdf5(path, format="codes", study="mine", provenance={}) as file:
        file["values"] = np.arange(1000)
    return path


def said(path, read, *arguments) -> str:
    """What is said of a file, after its name."""
    with pytest.raises(StudyError) as error:
        read(*arguments or [path])
    message = str(error.value)
    assert "\n" not in message and "delete" not in message and "get it again" not in message
    assert message.startswith(f"{path}: ")
    return message.removeprefix(f"{path}: ")


def read(path: Path) -> list[int]:
    with read_hdf5(path, format="codes") as file:
        return file["values"][...].tolist()


@contextmanager
def no_more_files():
    """Have as many files open as the process may have."""
    limits, opened = resource.getrlimit(resource.RLIMIT_NOFILE), []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
    try:
        while True:
            opened.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        yield
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


# Files of the study


def test_a_file_that_is_locked(tmp_path):
    path = write(tmp_path / "1.h5")
    with open(path, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert said(path, read) == LOCKED
    assert read(path) == list(range(1000))


def test_a_file_that_another_process_has_open(tmp_path):
    path = tmp_path / "1.h5"
    with h5py.File(path, "w") as file:
        file["values"] = np.arange(3)
    code = "import h5py, sys; file = h5py.File(sys.argv[1], 'r+'); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert said(path, read) == LOCKED
        other.kill()


def test_a_file_whose_writer_was_killed(tmp_path):
    """Files in HDF5's newer format carry a mark while they are open for writing."""
    path = write(tmp_path / "1.h5")
    code = "import h5py, os, sys; file = h5py.File(sys.argv[1], 'r+'); os._exit(0)"
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert said(path, read) == (
        "cannot be read (a program has it open for writing, or was killed while it had); end that "
        "program, or take the mark off (h5clear --status)"
    )


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(tmp_path, monkeypatch, number):
    path = write(tmp_path / "1.h5")
    refuse = raising(OSError(number, OPENED.format(number)))
    monkeypatch.setattr("h5py._hl.files.make_fid", refuse)
    assert said(path, read) == NO_LOCKS.format(os.strerror(number))
    with pytest.raises(WriteError) as error:
        write(path)
    assert str(error.value) == (
        f"{path}: cannot be written (its file system gives no locks: {os.strerror(number)}); set "
        "HDF5_USE_FILE_LOCKING=FALSE, then run again"
    )


def test_too_many_open_files(tmp_path):
    path = write(tmp_path / "1.h5")
    read(path)
    with no_more_files():
        message = said(path, read)
    assert message == TOO_MANY


def test_a_disk_that_does_not_answer(tmp_path):
    path = tmp_path / "1.h5"
    path.symlink_to("/proc/self/mem")  # its first page is nobody's: EIO
    assert said(path, read) == DISK.format("Input/output error")


def test_a_folder_or_a_path_that_cannot_be(tmp_path):
    assert said(tmp_path, read) == "cannot be read (Is a directory); name a file"
    path = write(tmp_path / "1.h5") / "2.h5"
    assert said(path, read) == "cannot be read (Not a directory); name a file"
    loop = tmp_path / "loop.h5"
    loop.symlink_to(loop)
    assert said(loop, read) == "cannot be read (Too many levels of symbolic links); name a file"
    long = tmp_path / ("a" * 300)
    assert said(long, read) == "cannot be read (File name too long); name a file"


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    path = write(tmp_path / "1.h5")
    # Not by its rights, since root may read everything.
    words = "Unable to synchronously open file (unable to open file: name = 'x', errno = 13)"
    monkeypatch.setattr("h5py._hl.files.make_fid", raising(PermissionError(errno.EACCES, words)))
    assert said(path, read) == "cannot be read (Permission denied); check its rights"


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EIO, DISK.format("Input/output error")),
        (errno.ESTALE, DISK.format("Stale file handle")),
        (errno.ENOMEM, NO_MEMORY),
        (errno.EINTR, "cannot be read (Interrupted system call); run again"),
    ],
)
def test_data_that_cannot_be_read_now(tmp_path, monkeypatch, number, message):
    path = write(tmp_path / "1.h5")
    with read_hdf5(path, format="codes") as file:
        monkeypatch.setattr(h5py.Dataset, "__getitem__", raising(RuntimeError(READ.format(number))))
        assert said(path, lambda _: file["values"][3]) == message
    with read_hdf5(path, format="codes") as file:
        monkeypatch.setattr(h5py.Group, "__getitem__", raising(KeyError(READ.format(number))))
        assert said(path, lambda _: file["values"]) == message


def raising(error):
    def refuse(*_, **__):
        raise error

    return refuse


def test_chunks_that_come_in_parts(tmp_path, monkeypatch):
    """A network file system may give less at a time than it is asked for."""
    x = np.arange(40.0, dtype=np.float32).reshape(20, 2)
    shard = write_shard(tmp_path / "0.h5", x, np.arange(20) // 5)
    whole = os.preadv

    def part(descriptor, buffers, offset):
        first = memoryview(buffers[0]).cast("B")
        return whole(descriptor, [first[:7]], offset)

    monkeypatch.setattr(os, "preadv", part)
    into = np.zeros((1, 20, 2), np.float32)
    with read_hdf5(shard, format="activations") as file:
        stored = file["activations"]
        chunk = into[:, : stored.chunks[0]]
        stored.read_chunks(np.array([0]), into.astype(stored.dtype, copy=False), np.array([0]))
        np.testing.assert_array_equal(chunk[0], x[: stored.chunks[0]])
        monkeypatch.setattr(os, "preadv", raising(OSError(errno.EIO, "Input/output error")))
        call = (np.array([0]), into, np.array([0]))
        assert said(shard, stored.read_chunks, *call) == DISK.format("Input/output error")


# Checkpoints, rows of tables, texts


def test_a_checkpoint_that_is_sound(tmp_path, monkeypatch):
    x = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    shards = ActivationShards([write_shard(tmp_path / "0.h5", x, np.arange(40) // 5)])
    config = small_config("topk", batch_size=16, shuffle_buffer=32, d_sae=12)
    path = tmp_path / "a.checkpoint"
    Trainer(config, shards).save(path)
    trainer = Trainer(config, shards)
    assert said(tmp_path, trainer.load) == "cannot be read (Is a directory); name a file"
    with no_more_files():
        message = said(path, trainer.load)
    assert message == TOO_MANY
    for error, message in (
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), NO_MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), NO_MEMORY),
        (MemoryError(), NO_MEMORY),
        (
            RuntimeError("CUDA error: device-side\nassert"),
            "cannot be read (RuntimeError: CUDA error: device-side assert); run again, and if this "
            "stays so move it away: training then begins anew",
        ),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(torch, "load", raising(error))
            assert said(path, trainer.load) == message
    trainer.load(path)
    path.write_bytes(path.read_bytes()[:-99])
    with pytest.raises(StudyError, match=r"not a readable checkpoint \(OSError\); delete it"):
        trainer.load(path)


def test_a_row_of_a_table_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.json"
    path.symlink_to(path)
    message = "cannot be read (Too many levels of symbolic links); name a file"
    assert said(path, evaluation.read_rows, [path]) == message


def test_a_text_that_is_sound_but_no_dump(tmp_path, monkeypatch):
    """The file is the pinned one: another of the same name is no better."""
    path = tmp_path / "a.xml"
    path.write_text("<html><p>Not found</html>")
    pin = documents._sha256(path)

    def dump(sha256: str) -> list[str]:
        source = {"kind": "mediawiki-dump", "sha256": sha256}
        return list(read_documents({"source": "w"}, source, path))

    wrong = "not a whole MediaWiki XML export (mismatched tag: line 1, column 20); {}"
    assert said(path, dump, pin.upper()) == wrong.format("correct the source")
    with pytest.raises(StudyError, match=r"; delete it and fetch the source again$"):
        dump("0" * 64)
    error = OSError(errno.ESTALE, "Stale file handle")
    monkeypatch.setattr(documents.ElementTree, "iterparse", raising(error))
    assert said(path, dump, "0" * 64) == DISK.format("Stale file handle")


def test_a_text_file_that_cannot_be_read(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    path.write_text("text")
    monkeypatch.setattr(Path, "read_bytes", raising(OSError(errno.EIO, "Input/output error")))
    text = {"source": "files", "files": [str(path)]}
    with pytest.raises(StudyError) as error:
        list(read_documents(text))
    assert str(error.value) == f"text.files: {path}: {DISK.format('Input/output error')}"


# Files of other libraries


@pytest.mark.parametrize(
    "reader", [read_safetensors, read_npz, read_state_dict, Settings.read], ids=lambda r: r.__name__
)
def test_a_file_of_another_library_that_may_be_sound(tmp_path, reader):
    path = tmp_path / "weights"
    assert said(path, reader, str(path)) == "no such file"
    path.symlink_to(path)
    loop = "cannot be read (Too many levels of symbolic links); name a file"
    assert said(path, reader, str(path)) == loop
    path.unlink()
    path.mkdir()
    # safetensors maps the file into memory, and of a folder says that there is no such device.
    assert said(path, reader, str(path)) in (
        "cannot be read (Is a directory); name a file",
        DISK.format("No such device"),
    )
    path.rmdir()
    path.write_text(json.dumps({}))
    with no_more_files():
        message = said(path, reader, str(path))
    assert message == TOO_MANY


# The rule itself


@pytest.mark.parametrize(
    "error",
    [
        OSError("Unable to synchronously open file (truncated file: eof = 1, stored_eof = 2)"),
        OSError("Unable to synchronously open file (file signature not found)"),
        RuntimeError("Can't synchronously read data (filter returned failure during read)"),
        EOFError("Compressed file ended before the end-of-stream marker was reached"),
        KeyError("blocks.0.lock"),
        ValueError("unlock"),
    ],
)
def test_damage_is_nothing_in_the_way(error):
    assert in_the_way(error) is None
