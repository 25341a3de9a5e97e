"""Arrays as they come from a notebook: taken in, or named in one line.

Here and nowhere else the public functions take in tensors and NumPy arrays: of any floating type,
on any device, with or without a gradient, and in any layout.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from sae_stitching.base.errors import StudyError

if TYPE_CHECKING:
    from jaxtyping import Float, Int
    from torch import Tensor

# Elements that are looked through at once.
_ELEMENTS = 1 << 22


def floats(name: str, value: Any, *dimensions: str) -> Float[Tensor, ...]:
    """Take in an array of finite numbers.

    Parameters
    ----------
    name
        What the caller's argument is called.
    value
        A tensor, NumPy array or list. The result shares its memory where it can.
    dimensions
        Names of the dimensions that it must have, none of them empty; any by default.

    Returns
    -------
    Tensor
        On the CPU, contiguous, without a gradient, of the floating type that it had.

    Raises
    ------
    StudyError
        If it is of another type or shape, or a number in it is not finite.
    """
    import torch

    tensor = _tensor(name, value)
    if not tensor.is_floating_point():
        raise StudyError(
            f"{name}: is of type {_type(tensor)}, expected floating point; convert it, e.g. with "
            ".float()"
        )
    _check_shape(name, tensor, dimensions)
    tensor = tensor.contiguous()
    flat = tensor.view(-1)
    for first in range(0, len(flat), _ELEMENTS):
        finite = torch.isfinite(flat[first : first + _ELEMENTS])
        if not bool(finite.all()):
            at = first + int(finite.logical_not().nonzero()[0])
            position = [int(i) for i in np.unravel_index(at, tuple(tensor.shape))]
            raise StudyError(
                f"{name}: is {flat[at].item():g} at {position}; only finite numbers can be used"
            )
    return tensor


def integers(name: str, value: Any, *dimensions: str) -> Int[Tensor, ...]:
    """Take in an array of whole numbers, see `floats`; the result is int64."""
    import torch

    tensor = _tensor(name, value)
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise StudyError(f"{name}: is of type {_type(tensor)}, expected whole numbers")
    _check_shape(name, tensor, dimensions)
    return tensor.long().contiguous()


def array(name: str, value: Any) -> np.ndarray:
    """Take in numbers or a mask as a NumPy array."""
    return _tensor(name, value).numpy()


def _tensor(name: str, value: Any) -> Tensor:
    import torch

    if isinstance(value, torch.Tensor):
        if value.layout != torch.strided:
            kind = str(value.layout).removeprefix("torch.")
            raise StudyError(f"{name}: is {kind}; give it as a dense array (.to_dense())")
        return value.detach().cpu().resolve_conj().resolve_neg()
    try:
        found = np.asarray(value)
        # PyTorch takes neither another byte order nor a negative stride.
        found = np.ascontiguousarray(found, found.dtype.newbyteorder("="))
        with warnings.catch_warnings():
            # That the array may not be written to, which nobody will.
            warnings.simplefilter("ignore")
            return torch.from_numpy(found)
    except (TypeError, ValueError) as error:
        raise StudyError(
            f"{name}: is {type(value).__name__}, expected a tensor or an array of numbers"
        ) from error


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _check_shape(name: str, tensor: Tensor, dimensions: tuple[str, ...]) -> None:
    if dimensions and (tensor.ndim != len(dimensions) or not tensor.numel()):
        expected = ", ".join(dimensions)
        raise StudyError(
            f"{name}: has shape {tuple(tensor.shape)}, expected ({expected}) of one or more"
        )
