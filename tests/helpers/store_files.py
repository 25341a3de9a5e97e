"""A small HDF5 file of the library's store, and what it holds."""

import numpy as np
from sae_stitching.base.store import read_hdf5, write_hdf5

PROVENANCE = {"versions": {"torch": "2"}, "code": "abc", "seed": 0}


def write(path, values=(1, 2, 3), format="codes", study="mine", **more):
    with write_hdf5(path, format=format, study=study, provenance=PROVENANCE) as file:
        file["values"] = np.asarray(values)
        file["group/values"] = np.asarray(values, dtype=np.float32)
        file.attrs.update(more)
    return path


def opened(path, format="codes", study=None):
    with read_hdf5(path, format=format, study=study) as file:
        return file["values"][...].tolist()
