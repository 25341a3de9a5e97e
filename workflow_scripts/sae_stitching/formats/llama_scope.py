"""Llama Scope and Llama Scope R1-Distill: SAEs of Language-Model-SAEs, in its two layouts.

Llama Scope (He et al., 2024; the repositories fnlp/Llama3_1-8B-Base-L*X-*x) has
``hyperparams.json`` and ``checkpoints/final.safetensors``, R1-Distill (fnlp/Llama-Scope-R1-Distill)
``config.json`` and ``sae_weights.safetensors``. What they compute is told by the library,
OpenMOSS/Language-Model-SAEs, ``sae.py`` and ``abstract_sae.py``: with s = √d_model over the mean
norm of the activations, z = s x W_enc + b_enc and x̂ = (f W_dec + b_dec) / s. Where the settings
include the decoder's norm, latents are chosen by z_i ‖W_dec_i‖: the library then brings directions
to unit norm, as is done here. SAELens' loader leaves them as they are; it gives the same SAE where
they have unit norm already, or the settings do not include it.

Llama Scope's one threshold is of activations that were not scaled, so that f = z where z > θ s.
R1-Distill has the logarithm of a threshold for each latent, of z itself.
"""

import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sae_stitching.base.errors import StudyError
from sae_stitching.formats import Layout
from sae_stitching.formats.files import Settings, Weights, linear, read_safetensors
from sae_stitching.formats.folding import fold_decoder_norm
from sae_stitching.formats.told import Told
from sae_stitching.saes.sae import SAE

# Models, by the names of the repositories.
_MODELS = {
    "Llama3_1-8B-Base-": "meta-llama/Llama-3.1-8B",
    "Llama-Scope-R1-Distill": "deepseek-ai/DeepSeek-R1-Distill-Llama-8B",
}
# Tokens in a sequence of their training.
_CONTEXT = 1024
# Settings that are read, and those of training and of how the library computes.
_SETTINGS = {
    *("d_model", "d_sae", "expansion_factor", "act_fn", "jump_relu_threshold", "top_k"),
    *("norm_activation", "dataset_average_activation_norm", "sparsity_include_decoder_norm"),
    *("hook_point_in", "hook_point_out", "use_decoder_bias", "use_glu_encoder", "sae_type"),
    "apply_decoder_bias_to_pre_encoder",
}
_TRAINING = {
    *("bias_init_method", "decoder_exactly_fixed_norm", "init_decoder_norm", "init_encoder_norm"),
    *("init_encoder_with_decoder_transpose", "lp", "l1_coefficient", "l1_coefficient_warmup_steps"),
    *("k_warmup_steps", "use_batch_norm_mse", "use_ghost_grads", "tp_size", "ddp_size", "device"),
    *("seed", "dtype", "strict_loading", "sae_pretrained_name_or_path", "use_triton_kernel"),
    *("jumprelu_threshold_window", "force_unit_decoder_norm", "promote_act_fn_dtype"),
    "sparsity_threshold_for_triton_spmm_kernel",
}
_NORM = "dataset_average_activation_norm"


def read(layout: Layout, name: str) -> tuple[SAE, Told]:
    """Read an SAE of Llama Scope; its model is known where `name` is its path on the hub."""
    settings, weights, told = _opened(layout, name)
    kind = settings.text("act_fn", "jumprelu").lower()
    given = settings.values.get("jump_relu_threshold")
    if kind == "topk" and given:
        kind = "jumprelu"  # as the library does with an SAE that has a threshold
    scale = _scale(settings, weights)
    if kind == "jumprelu":
        threshold = settings.number("jump_relu_threshold") * scale["in"]
        sae = _folded(settings, weights, scale, kind, threshold)
    elif kind in ("topk", "relu"):
        sae = _folded(settings, weights, scale, kind)
    else:
        raise StudyError(
            f"{settings.path}: act_fn is {kind!r}; only jumprelu, topk, relu can be imported"
        )
    weights.finish(f"an SAE of Llama Scope with {kind}")
    return sae, told


def read_r1_distill(layout: Layout, name: str) -> tuple[SAE, Told]:
    """Read an SAE of Llama Scope R1-Distill."""
    settings, weights, told = _opened(layout, name)
    if (kind := settings.text("act_fn", "jumprelu").lower()) != "jumprelu":
        raise StudyError(f"{settings.path}: act_fn is {kind!r}; only jumprelu can be imported")
    scale = _scale(settings, weights)
    threshold = weights.take("log_jumprelu_threshold", "d_sae").exp()
    sae = _folded(settings, weights, scale, kind, threshold)
    weights.finish("an SAE of Llama Scope R1-Distill")
    return sae, told


def _opened(layout: Layout, name: str) -> tuple[Settings, Weights, Told]:
    assert layout.settings is not None
    settings = Settings.read(layout.settings)
    for key, expected in (("sae_type", "sae"), ("use_glu_encoder", False)):
        if (value := settings.values.get(key, expected)) != expected:
            raise StudyError(
                f"{settings.path}: {key} is {value!r}; only {expected!r} can be imported"
            )
    entered = settings.text("hook_point_in", "")
    if (left := settings.text("hook_point_out", entered)) != entered:
        raise StudyError(
            f"{settings.path}: hook_point_out is {left!r}, so that this is a transcoder; only SAEs "
            "can be imported"
        )
    d_model = settings.integer("d_model")
    # One of them is enough.
    if settings.values.get("d_sae") is None:
        d_sae = d_model * settings.integer("expansion_factor")
    else:
        d_sae = settings.integer("d_sae")
    told = Told()
    told.tell("hook", entered or None, f"{settings.path}: hook_point_in")
    path = Path(name).absolute().as_posix()
    for part, model in _MODELS.items():
        if re.search(rf"(?<=/|-){part}", path):
            told.tell("model", model, f"{name}: the repository")
    told.tell("context", _CONTEXT, "the context of Llama Scope's training")
    told.know(settings.values, f"{settings.path}: ", _SETTINGS | _TRAINING)
    return settings, Weights(layout.weights, read_safetensors(layout.weights), d_model, d_sae), told


def _scale(settings: Settings, weights: Weights) -> dict[str, float]:
    """By what activations are multiplied, on both sides."""
    kind, hook = (
        settings.text("norm_activation", "dataset-wise"),
        settings.text("hook_point_in", ""),
    )
    stored = weights.number(f"{_NORM}.{hook}")
    if kind in ("none", "inference"):  # the latter is in the weights already
        return {"in": 1.0, "out": 1.0}
    if kind != "dataset-wise":
        raise StudyError(
            f"{settings.path}: norm_activation is {kind!r}; an SAE that scales every token by "
            "itself cannot be stitched"
        )
    norms = settings.part(_NORM)
    if stored is None and "in" not in norms.values:
        raise StudyError(
            f"{weights.path}: there is no tensor {_NORM}.{hook}, and no {_NORM} in "
            f"{settings.path}, by which norm_activation dataset-wise scales activations; get both "
            "files again"
        )
    if stored is not None:
        norms = Settings(weights.path, {"in": stored})
    root = math.sqrt(settings.integer("d_model"))
    scale = root / norms.number("in")
    return {"in": scale, "out": root / norms.number("out") if "out" in norms.values else scale}


def _folded(
    settings: Settings,
    weights: Weights,
    scale: dict[str, float],
    architecture: str,
    threshold: float | Tensor | None = None,
) -> SAE:
    """The SAE that reads raw activations."""
    tensors: dict[str, Any] = linear(weights)
    W_dec, b_enc = tensors.pop("W_dec"), weights.take("encoder.bias", "d_sae")
    tensors["b_enc"] = b_enc
    if settings.flag("sparsity_include_decoder_norm", False) and architecture != "relu":
        W_dec = fold_decoder_norm(tensors, W_dec)
    bias = settings.flag("use_decoder_bias", True)
    b_dec = weights.take("decoder.bias", "d_model") if bias else W_dec.new_zeros(W_dec.shape[1])
    if threshold is not None:
        tensors["threshold"] = torch.ones_like(b_enc) * threshold
    if architecture == "topk":
        tensors["k"] = settings.integer("top_k")
    applies = settings.flag("apply_decoder_bias_to_pre_encoder", False)
    if applies and scale["in"] != scale["out"]:
        raise StudyError(
            f"{settings.path}: apply_decoder_bias_to_pre_encoder is true, and {_NORM} differs "
            "between in and out; only one norm can be imported then"
        )
    tensors["W_enc"] = tensors["W_enc"] * scale["in"]
    return SAE(
        **tensors,
        W_dec=W_dec / scale["out"],
        b_dec=b_dec / scale["out"],
        architecture=architecture,
        apply_b_dec_to_input=applies,
    )
