"""Gemma Scope: JumpReLU SAEs as ``params.npz`` (Lieberum et al., 2024).

f = z where z > θ_i, with z = x W_enc + b_enc: b_dec is not subtracted from the input. Nothing in
the file tells where it belongs; its path on the hub does.

SAEs of embeddings were trained on what the embedding holds, x / √d_model, before the model scales
it (https://github.com/decoderesearch/SAELens/pull/299). Of x they are read so: W_enc / √d_model,
and both W_dec and b_dec times √d_model. SAELens leaves b_dec as it is in the file, and there its
reconstruction is another one.
"""

import math
import re
from pathlib import Path

from sae_stitching.activations.language_model import EMBEDDING, HEADS
from sae_stitching.base.errors import StudyError
from sae_stitching.formats import Layout
from sae_stitching.formats.files import Weights, read_npz, vector_length
from sae_stitching.formats.told import Told
from sae_stitching.saes.sae import SAE

# Places in a block, by the part of a repository's name that tells them.
_POINTS = {"res": "hook_resid_post", "mlp": "hook_mlp_out", "att": HEADS}
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
    scale = 1.0
    if hook == EMBEDDING or (not hook and tuple(sizes) in _OF_EMBEDDINGS):
        scale = math.sqrt(sizes[0])
        if not hook:
            told.tell("hook", EMBEDDING, f"{path}: {sizes[1]} latents, as of embeddings alone")
    weights = Weights(path, tensors, *sizes)
    sae = SAE(
        W_enc=weights.take("W_enc", "d_model", "d_sae").div_(scale),
        W_dec=weights.take("W_dec", "d_sae", "d_model").mul_(scale),
        b_enc=weights.take("b_enc", "d_sae"),
        b_dec=weights.take("b_dec", "d_model").mul_(scale),
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
    hook = EMBEDDING if place == "embedding" else f"blocks.{layer}.{_POINTS[kind]}"
    told.tell("hook", hook, f"{name}: the path")
    if size:
        model = f"google/gemma-2-{size}{'-it' if tuned == 'it' else ''}"
        told.tell("model", model, f"{name}: the path")
    told.tell("context", _CONTEXT, "the context of Gemma Scope's training")
    return told
