"""What is done to the files of a sound study."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from helpers.interrupted_training import small_config
from helpers.sound_study import ORIGIN, compare
from sae_stitching.activations.shards import ActivationShards
from sae_stitching.base.record import write_record
from sae_stitching.matching.decoder_similarity import (
    load_similarity,
)
from sae_stitching.matching.subgraphs import connected_subgraphs
from sae_stitching.saes.training import Trainer
from safetensors.torch import load_file, save_file


def write(name: str, content: bytes | str) -> None:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)


def truncate(name: str, share: float = 0.5) -> None:
    content = Path(name).read_bytes()
    Path(name).write_bytes(content[: int(share * len(content))])


def set_json(name: str, **values: Any) -> None:
    found = json.loads(Path(name).read_text())
    Path(name).write_text(json.dumps({**found, **values}))


def set_tensor(name: str, tensor: str, change: Callable[[Any], Any] | None) -> None:
    tensors = load_file(name)
    found = tensors.pop(tensor)
    save_file({**tensors, tensor: change(found)} if change else tensors, name)


def set_hdf5(name: str, change: Callable[[h5py.File], Any]) -> None:
    """Change a file with its checksums: as another program would, not as a disk does."""
    with h5py.File(name, "r+") as file:
        change(file)
        if "attributes_sha256" in file.attrs:
            del file.attrs["attributes_sha256"]


def replaced(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[h5py.File], None]:
    def do(file: h5py.File) -> None:
        data = change(file[name][...])
        if data.shape == file[name].shape and data.dtype == file[name].dtype:
            file[name][...] = data
        else:
            del file[name]
            file[name] = data

    return do


def without(name: str) -> Callable[[h5py.File], None]:
    def do(file: h5py.File) -> None:
        place = file.attrs if name in file.attrs else file
        del place[name]

    return do


def attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
    def do(file: h5py.File) -> None:
        file.attrs[name] = value

    return do


def flip(name: str, dataset: str) -> None:
    """Flip a bit in the middle of what a dataset holds."""
    with h5py.File(name) as file:
        needle = file[dataset][...].tobytes()
    content = bytearray(Path(name).read_bytes())
    content[content.index(needle) + len(needle) // 2] ^= 1
    Path(name).write_bytes(content)


CENTRED = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}

LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 9\n"


def set_metadata(changes: dict[str, Any]) -> None:
    metadata = json.loads(Path("cfg.json").read_text())["metadata"]
    set_json("cfg.json", metadata={**metadata, **changes})


class Code:
    """What a pickle file may hold: something to run."""

    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


def source(**changes: Any) -> dict[str, Any]:
    return {"package": "p", "version": "1", "member": "m", "sha256": "0" * 64, **changes}


def gone(*names: str) -> None:
    for name in names:
        Path(name).unlink()


def both(*actions: Any) -> None:
    """Nothing: its arguments are evaluated one after the other."""


PAGE = "<mediawiki><page><ns>0</ns><revision><text>{}</text></revision></page></mediawiki>"


def nothing() -> None:
    """The study is sound; what is asked of it is not."""


def save_dataset(folder: str) -> None:
    import datasets

    datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": ["x"]})}).save_to_disk(
        folder
    )


def group_of(small: str, large: str) -> None:
    compare(small, large, "similarity.h5")
    found = connected_subgraphs(load_similarity("similarity.h5"), 0.5)
    write_record(found, "subgraphs.h5", **ORIGIN)


def trained_from(checkpoint: str) -> None:
    shards = ActivationShards(["train.h5"])
    config = small_config("topk", batch_size=16, shuffle_buffer=32, d_sae=12)
    Trainer(config, shards).train("train", Path(checkpoint))
