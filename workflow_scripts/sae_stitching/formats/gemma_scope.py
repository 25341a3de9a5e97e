"""Gemma Scope: JumpReLU SAEs as ``params.npz`` (Lieberum et al., 2024).

f = z where z > θ_i, with z = x W_enc + b_enc: b_dec is not subtracted from the input. Nothing in
the file tells where it belongs; its path on the hub does.
"""

import re
from pathlib import Path

from sae_stitching.base.errors import StudyError
from sae_stitching.formats import Layout
from sae_stitching.formats.files import Weights, read_npz, vector_length
from sae_stitching.formats.told import Told
from sae_stitching.saes.sae import SAE

# Places in the model, by the part of a repository's name that tells them.
_POINTS = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": "attn.hook_z"}
# Tokens in a sequence of their training.
_CONTEXT = 1024
# The SAEs of embeddings alone have this many latents, and these are the d_model of their models.
_OF_EMBEDDINGS = {(2304, 4096), (3584, 4096)}


def read(layout: Layout, name: str) -> tuple[SAE, Told]:
    """Read an SAE of Gemma Scope; its hook is known where `name` is its path on the hub."""
    path, told = layout.weights, _told(name)
    # Some files call the matrices w_enc and w_dec.
    tensors = {re.sub("^w_", "W_", key): tensor for key, tensor in read_npz(path).items()}
    sizes = [vector_length(path, tensors, key) for key in ("b_dec", "b_enc")]
    hook = told.said["hook"].value if "hook" in told.said else ""
    if hook == "hook_embed" or (not hook and tuple(sizes) in _OF_EMBEDDINGS):
        # Trained on what the embedding holds before the model scales it by √d_model. No study is
        # of embeddings, and SAELens, which scales both matrices, leaves b_dec as it is.
        raise StudyError(
            f"{path}: is one of Gemma Scope's SAEs of embeddings, whose weights lack the "
            "embedding's scale of √d_model; it cannot be imported, name an SAE of a layer"
        )
    weights = Weights(path, tensors, *sizes)
    sae = SAE(
        W_enc=weights.take("W_enc", "d_model", "d_sae"),
        W_dec=weights.take("W_dec", "d_sae", "d_model"),
        b_enc=weights.take("b_enc", "d_sae"),
        b_dec=weights.take("b_dec", "d_model"),
        architecture="jumprelu",
        threshold=weights.take("threshold", "d_sae"),
        apply_b_dec_to_input=False,
    )
    weights.finish("an SAE of Gemma Scope")
    return sae, told


def _told(name: str) -> Told:
    # As on the hub: gemma-scope-2b-pt-res/.../layer_12/width_16k/average_l0_41/params.npz.
    match = re.search(
        r"gemma-scope-(?:(\d+b)-(pt|it)|[^/]*)-([a-z]+)/(?:.*/)?(layer_(\d+)|embedding)/",
        Path(name).absolute().as_posix(),
    )
    told = Told()
    if match is None:
        return told
    size, tuned, kind, place, layer = match.groups()
    if kind not in _POINTS:
        raise StudyError(f"{name}: is one of Gemma Scope's {kind}, no SAE; name an SAE")
    hook = "hook_embed" if place == "embedding" else f"blocks.{layer}.{_POINTS[kind]}"
    told.tell("hook", hook, f"{name}: the path")
    if size:
        model = f"google/gemma-2-{size}{'-it' if tuned == 'it' else ''}"
        told.tell("model", model, f"{name}: the path")
    told.tell("context", _CONTEXT, "the context of Gemma Scope's training")
    return told
