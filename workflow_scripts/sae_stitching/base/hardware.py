"""What `auto` stands for on this machine: where to compute, and at which precision.

Importing this module is quick; torch is imported when it is asked.
"""

from __future__ import annotations

import logging

from sae_stitching.base.errors import StudyError

_logger = logging.getLogger(__name__)

DTYPES = ("auto", "bfloat16", "float32")


def device(name: str, key: str) -> str:
    """Device that a config value stands for.

    Parameters
    ----------
    name
        ``"cpu"``, ``"cuda"`` or ``"auto"``: cuda where there is one.
    key
        The value's key, for the error.

    Raises
    ------
    StudyError
        If there is no GPU where one is asked for.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise StudyError(f"{key}: cuda, but PyTorch sees no CUDA device; use auto or cpu")
    return name


def dtype(name: str, on: str, key: str) -> str:
    """Precision of matrix products that a config value stands for.

    Parameters
    ----------
    name
        ``"bfloat16"``, ``"float32"`` or ``"auto"``: bfloat16 where the device multiplies it faster
        than float32.
    on
        The device, ``"cpu"`` or ``"cuda"``.
    key
        The value's key, for the log.

    Notes
    -----
    A processor without instructions for bfloat16 takes some ninety times as long for it as for
    float32 (AVX2, oneDNN): it is given, but with a warning.
    """
    if name == "auto":
        chosen = "bfloat16" if multiplies_bfloat16(on) else "float32"
        _logger.info("%s: %s", key, chosen)
        return chosen
    if name == "bfloat16" and not multiplies_bfloat16(on):
        _logger.warning(
            "%s: bfloat16, for which the device has no instructions; float32 or auto is many "
            "times faster here", key,
        )  # fmt: skip
    return name


def multiplies_bfloat16(on: str) -> bool:
    """Whether a device (``"cpu"`` or ``"cuda"``) has instructions for products of bfloat16."""
    import torch

    if on == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # It is oneDNN that uses them, which PyTorch has not got on every system. On x86 they come with
    # AVX-512 BF16 and AMX; without these float32 is no slower. The last one is Arm's.
    can = torch.cpu.get_capabilities()
    names = ("avx512_bf16", "amx_bf16", "bf16")
    return torch.backends.mkldnn.is_available() and any(can.get(name, False) for name in names)
