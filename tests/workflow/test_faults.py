"""Full disks and folders that cannot be written to: the file is named, the rest is kept."""

import subprocess
import sys

import pytest
from helpers.checkout import SCRIPTS
from helpers.store_files import opened, write
from sae_stitching.base.errors import StudyError
from sae_stitching.base.store import write_hdf5

JOB = """
import sys
from types import SimpleNamespace
sys.path.insert(0, sys.argv[1])
import numpy as np
from job import job
from sae_stitching.base.store import write_hdf5
params = SimpleNamespace(job={"study": "test", "code": "0"})
here = SimpleNamespace(rule="encode", input={}, log=["encode.log"], params=params)
with job(here) as origin:
    with write_hdf5(sys.argv[2], format="codes", **origin) as file:
        values = file.create_dataset("values", (1_000_000,), chunks=(1000,), dtype="f8")
        for first in range(0, 1_000_000, 1000):
            values[first : first + 1000] = first
"""


def test_a_full_disk_ends_the_job_and_keeps_what_is_there(small_disk, tmp_path):
    kept = write(small_disk / "kept.h5")
    target = small_disk / "codes" / "32.h5"
    done = subprocess.run(
        [sys.executable, "-c", JOB, str(SCRIPTS), str(target)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    # Not the crash of HDF5, which would be another status.
    assert done.returncode == 1, done.stderr
    said = (
        "cannot be written (No space left on device); free some space on its disk, then run again"
    )
    assert done.stderr == f"error in encode: {target}: {said} (log: encode.log)\n"
    assert "Traceback" in (tmp_path / "encode.log").read_text()
    assert list(target.parent.iterdir()) == []
    assert opened(kept) == [1, 2, 3]


def test_a_folder_that_cannot_be_written_to(small_disk):
    kept = write(small_disk / "kept.h5")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    message = r"new\.h5: cannot be written \(Read-only file system\); see to it that you may write"
    with (
        pytest.raises(StudyError, match=message),
        write_hdf5(small_disk / "new.h5", format="codes", study="mine", provenance={}) as file,
    ):
        file["values"] = [1]
    assert opened(kept) == [1, 2, 3]
