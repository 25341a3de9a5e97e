"""Gemma Scope 2: JumpReLU SAEs as ``params.safetensors``, most with a ``config.json``.

McDougall et al., 2025; the repositories google/gemma-scope-2-* on the hub. As in Gemma Scope,
f = z where z > θ_i, with z = x W_enc + b_enc, and b_dec is not subtracted from the input; the
matrices are called w_enc and w_dec. The path tells the place in the model, which the settings have
by the name that it has in transformers' model.
"""

import re
from pathlib import Path

from sae_stitching.base.errors import StudyError
from sae_stitching.formats import Layout
from sae_stitching.formats.files import Settings, Weights, read_safetensors, vector_length
from sae_stitching.formats.told import Told
from sae_stitching.saes.sae import SAE

# Places in the model, by the name of the folder that holds their SAEs.
_POINTS = {"resid_post": "hook_resid_post", "attn_out": "attn.hook_z", "mlp_out": "hook_mlp_out"}
# Tokens in a sequence of their training.
_CONTEXT = 1024
# Settings that are read, or say of the SAE what its weights do too.
_SETTINGS = {
    *("hf_hook_point_in", "hf_hook_point_out", "width", "model_name", "architecture", "l0"),
    *("affine_connection", "type"),
}


def read(layout: Layout, name: str) -> tuple[SAE, Told]:
    """Read an SAE of Gemma Scope 2, whose settings or path on the hub, `name`, tell its place."""
    path = layout.weights
    settings = Settings.read(layout.settings) if layout.settings else Settings(path, {})
    kind = settings.text("architecture", "jump_relu")
    if kind != "jump_relu":
        raise StudyError(
            f"{settings.path}: architecture is {kind!r}; only 'jump_relu' can be imported"
        )
    told = _told(settings, name)
    tensors = read_safetensors(path)
    sizes = [vector_length(path, tensors, key) for key in ("b_dec", "b_enc")]
    weights = Weights(path, tensors, *sizes)
    sae = SAE(
        W_enc=weights.take("w_enc", "d_model", "d_sae"),
        W_dec=weights.take("w_dec", "d_sae", "d_model"),
        b_enc=weights.take("b_enc", "d_sae"),
        b_dec=weights.take("b_dec", "d_model"),
        architecture="jumprelu",
        threshold=weights.take("threshold", "d_sae"),
        apply_b_dec_to_input=False,
    )
    weights.finish("an SAE of Gemma Scope 2")
    return sae, told


def _told(settings: Settings, name: str) -> Told:
    # As on the hub: gemma-scope-2-1b-pt/resid_post_all/layer_10_width_16k_l0_small.
    path = Path(name).absolute().as_posix()
    told, where = Told(), f"{name}: the path"
    model = re.search(r"gemma-scope-2-(\d+\w)-(pt|it)(?=/)", path)
    place = re.search(r"/([a-z_]+?)(_all)?/layer_(\d+)_width_\w+/[^/]+$", path)
    entered, left = (settings.text(f"hf_hook_point_{side}", "") for side in ("in", "out"))
    kind = place[1] if place else ""
    if (place and kind not in _POINTS) or left not in ("", entered):
        raise StudyError(
            f"{name}: is one of Gemma Scope 2's transcoders, which read at one place and write at "
            "another; name an SAE"
        )
    if place and kind in _POINTS:
        told.tell("hook", f"blocks.{place[3]}.{_POINTS[kind]}", where)
    if entered:
        told.tell("hook", entered, f"{settings.path}: hf_hook_point_in")
        told.tell("layer", int(place[3]) if place else None, where)
    if settings.text("model_name", ""):
        told.tell("model", _model(settings.text("model_name", "")), f"{settings.path}: model_name")
    elif model:
        told.tell("model", _model(f"gemma-3-{model[1]}-{model[2]}"), where)
    told.tell("context", _CONTEXT, "the context of Gemma Scope 2's training")
    told.know(settings.values, f"{settings.path}: ", _SETTINGS)
    return told


def _model(name: str) -> str:
    """A model by its name on the hub; the settings call Gemma 3 gemma-v3, and all have a suffix."""
    name = name.removeprefix("google/").replace("gemma-v3", "gemma-3")
    return f"google/{name.removesuffix('-pt') if '270m' in name else name}"
