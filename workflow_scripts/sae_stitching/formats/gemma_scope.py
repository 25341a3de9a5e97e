"""Gemma Scope: JumpReLU SAEs as ``params.npz`` (Lieberum et al., 2024).

f = z where z > θ_i, with z = x W_enc + b_enc: b_dec is not subtracted from the input.
"""

import re
from pathlib import Path

from sae_stitching.errors import StudyError
from sae_stitching.formats import Layout
from sae_stitching.formats.files import Weights, read_npz, vector_length
from sae_stitching.sae import SAE

# Places in the model, by the part of a repository's name that tells them.
_POINTS = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}


def read(layout: Layout) -> SAE:
    """Read an SAE of Gemma Scope; its hook is known where the path still tells it."""
    path = layout.weights
    # Some files call the matrices w_enc and w_dec.
    tensors = {re.sub("^w_", "W_", name): tensor for name, tensor in read_npz(path).items()}
    sizes = (vector_length(path, tensors, name) for name in ("b_dec", "b_enc"))
    weights = Weights(path, tensors, *sizes)
    sae = SAE(
        W_enc=weights.take("W_enc", "d_model", "d_sae"),
        W_dec=weights.take("W_dec", "d_sae", "d_model"),
        b_enc=weights.take("b_enc", "d_sae"),
        b_dec=weights.take("b_dec", "d_model"),
        architecture="jumprelu",
        threshold=weights.take("threshold", "d_sae"),
        apply_b_dec_to_input=False,
        hook=_hook(path),
        model="",
    )
    weights.finish("an SAE of Gemma Scope")
    return sae


def _hook(path: str) -> str:
    # As on the hub: gemma-scope-2b-pt-res/.../layer_12/width_16k/average_l0_41/params.npz.
    match = re.search(
        r"gemma-scope-[^/]*-([a-z]+)/(?:.*/)?(layer_(\d+)|embedding)/",
        Path(path).absolute().as_posix(),
    )
    if match is None:
        return ""
    if match[2] == "embedding":
        return "hook_embed"
    if match[1] not in _POINTS:
        raise StudyError(f"{path}: is one of Gemma Scope's {match[1]}, no SAE; name an SAE")
    return f"blocks.{match[3]}.{_POINTS[match[1]]}"
