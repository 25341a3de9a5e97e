"""Reading other libraries' files: settings and tensors, checked, and never any code.

Files of settings are JSON, or YAML where a library writes that. Tensors come from safetensors, from
NumPy's npz without pickles, or from PyTorch files with `weights_only`, which rebuilds tensors and
plain values and nothing else.
"""

import json
import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from sae_stitching.base.errors import StudyError, unreadable


class Settings:
    """The settings of an SAE, an object of JSON, whose values are checked when they are asked for.

    Parameters
    ----------
    path
        The JSON file, which complaints name.
    values
        Its content, or a part of it.
    """

    def __init__(self, path: str, values: Mapping[str, Any]) -> None:
        self.path, self.values = path, values

    @classmethod
    def read(cls, path: str) -> "Settings":
        """Read a JSON file, or one of YAML that is called so.

        Raises
        ------
        StudyError
            If it is missing, of another kind, or holds something else than an object.
        """
        kind, read = ("YAML", yaml.safe_load) if path.endswith(".yaml") else ("JSON", json.loads)
        try:
            values = read(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise unreadable(path, error, f"cannot be read ({error})") from error
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            said = " ".join(str(error).split())
            raise StudyError(f"{path}: not {kind} ({said}); get the file again") from error
        if not isinstance(values, dict):
            raise StudyError(f"{path}: holds no {kind} object; get the file again")
        return cls(path, values)

    def part(self, key: str) -> "Settings":
        """The JSON object at `key`, empty where there is none."""
        value = self.values.get(key) or {}
        if not isinstance(value, dict):
            raise StudyError(f"{self.path}: {key} is {value!r}, expected a JSON object")
        return Settings(self.path, value)

    def integer(self, key: str) -> int:
        """The whole number above zero at `key`."""
        value = self.values.get(key)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise StudyError(f"{self.path}: {key} is {value!r}, expected a whole number above 0")
        return value

    def number(self, key: str) -> float:
        """The number above zero at `key`."""
        value = self.values.get(key)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not 0 < value < math.inf
        ):
            raise StudyError(f"{self.path}: {key} is {value!r}, expected a number above 0")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false at `key`."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise StudyError(f"{self.path}: {key} is {value!r}, expected true or false")
        return value

    def text(self, key: str, default: str) -> str:
        """Text at `key`; null counts as missing."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, str):
            raise StudyError(f"{self.path}: {key} is {value!r}, expected text")
        return value


class Weights:
    """The tensors of one file, taken out by name, each checked and brought to float32.

    Parameters
    ----------
    path
        The file, which complaints name.
    tensors
        Its content.
    d_model, d_sae
        Sizes that all shapes follow from.
    """

    def __init__(self, path: str, tensors: Mapping[str, Tensor], d_model: int, d_sae: int) -> None:
        self.path, self._tensors, self._names = path, dict(tensors), sorted(tensors)
        self._sizes = {"d_model": d_model, "d_sae": d_sae}

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def ignore(self, *names: str) -> None:
        """Leave out tensors that encoding and decoding do not need."""
        for name in names:
            self._tensors.pop(name, None)

    def number(self, name: str) -> float | None:
        """Take the one number that the tensor `name` holds; None where there is none."""
        tensor = self._tensors.pop(name, None)
        return None if tensor is None or tensor.numel() != 1 else tensor.item()

    def finish(self, what: str) -> None:
        """Complain of a tensor that is left: with it the file means something else than `what`."""
        for name in self._tensors:
            raise StudyError(
                f"{self.path}: tensor {name} has no place in {what}; is it another kind of SAE?"
            )

    def take(self, name: str, *dimensions: str) -> Tensor:
        """Take the tensor `name`, whose `dimensions` are ``"d_model"`` and ``"d_sae"``; once.

        Raises
        ------
        StudyError
            If it is missing, has another shape or type, or holds a non-finite value.
        """
        if name not in self._tensors:
            raise StudyError(
                f"{self.path}: tensor {name} is missing; the file has {', '.join(self._names)}"
            )
        tensor = self._tensors.pop(name)
        shape = tuple(self._sizes[dimension] for dimension in dimensions)
        if tuple(tensor.shape) != shape:
            named = f"{shape}, ({', '.join(dimensions)})"
            turned = tuple(tensor.shape) == shape[::-1]
            remedy = "; it is transposed" if turned else ""
            if tensor.ndim == 3:
                remedy = "; a crosscoder has three dimensions, and is no SAE"
            raise StudyError(
                f"{self.path}: {name} has shape {tuple(tensor.shape)}, expected {named}{remedy}"
            )
        if tensor.layout != torch.strided or not tensor.is_floating_point():
            kind = str(tensor.dtype).removeprefix("torch.")
            raise StudyError(f"{self.path}: {name} is of type {kind}, expected floating point")
        tensor = tensor.float()
        if not bool(torch.isfinite(tensor).all()):
            position = (~torch.isfinite(tensor)).nonzero()[0].tolist()
            raise StudyError(f"{self.path}: {name} is not finite at {position}")
        return tensor.contiguous()


def linear(
    weights: Weights, encoder: str = "encoder.weight", decoder: str = "decoder.weight"
) -> dict[str, Any]:
    """W_enc and W_dec of an SAE whose matrices are those of torch.nn.Linear, (output, input)."""
    return {
        "W_enc": weights.take(encoder, "d_sae", "d_model").T.contiguous(),
        "W_dec": weights.take(decoder, "d_model", "d_sae").T.contiguous(),
    }


def vector_length(path: str, tensors: Mapping[str, Tensor], name: str) -> int:
    """Length of a vector, for files that tell no sizes."""
    if name not in tensors:
        raise StudyError(f"{path}: tensor {name} is missing; the file has {', '.join(tensors)}")
    if tensors[name].ndim != 1:
        raise StudyError(f"{path}: {name} has shape {tuple(tensors[name].shape)}, no vector")
    return len(tensors[name])


def read_safetensors(path: str) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file.

    Raises
    ------
    StudyError
        If the file is missing, truncated or of another kind.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        # Of whatever cannot be opened the library says that there is no such file.
        with open(path, "rb"):
            pass
        return load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise _unreadable(path, "safetensors", error) from error


def read_npz(path: str) -> dict[str, Tensor]:
    """Read all arrays of an npz file; pickled objects are refused.

    Raises
    ------
    StudyError
        If the file is missing, truncated, of another kind, or holds something else than numbers.
    """
    try:
        with open(path, "rb") as file:
            # Of the four bytes that begin a zip; without them NumPy would take it for a pickle.
            if file.read(4) != b"PK\x03\x04":
                raise ValueError("it does not begin as a zip archive")
        with np.load(path, allow_pickle=False) as archive:
            return {name: torch.from_numpy(archive[name]) for name in archive.files}
    except Exception as error:  # damage shows in zipfile, zlib, NumPy's header and torch's types
        raise _unreadable(path, "npz", error) from error


def read_state_dict(path: str, plain: Collection[str] = ()) -> dict[str, Any]:
    """Read the tensors of a file that torch.save wrote; whatever could run code is refused.

    Parameters
    ----------
    path
    plain
        Names under which the library keeps plain values beside the tensors.

    Raises
    ------
    StudyError
        If the file is missing, truncated, of another kind, or holds something else than tensors.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle may raise anything
        forbidden = re.search(r"GLOBAL (\S+)", str(error))
        if forbidden:
            raise StudyError(
                f"{path}: holds {forbidden[1]}, which is no tensor and could run code; only files "
                "of tensors are read"
            ) from error
        raise _unreadable(path, "PyTorch", error) from error
    if not isinstance(state, dict):
        raise StudyError(f"{path}: holds {type(state).__name__}, expected tensors by their names")
    if "optimizer" in state:
        raise StudyError(f"{path}: is a checkpoint of an unfinished training; give a finished SAE")
    for name, value in state.items():
        if not isinstance(name, str) or not (name in plain or isinstance(value, Tensor)):
            raise StudyError(f"{path}: {name!r} is {type(value).__name__}, expected a tensor")
    return state


def _unreadable(path: str, kind: str, error: Exception) -> StudyError:
    said = " ".join(str(error).split()).partition(". ")[0][:200] or type(error).__name__
    return unreadable(path, error, f"not a whole {kind} file ({said}); get it again")
