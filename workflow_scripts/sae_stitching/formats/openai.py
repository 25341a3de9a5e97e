"""OpenAI's SAEs of GPT-2: ``<place>/autoencoders/<layer>.pt`` of openai/sparse_autoencoder.

As its ``model.py`` has it: f = σ((x − b_dec) W_enc + b_enc), where b_dec is called pre_bias and
b_enc latent_bias; ``paths.py`` tells which there are. Those of versions 1 and 4 have ReLU. TopK,
version 5's, stands for a norm of each token by itself too (``from_state_dict`` there).
"""

import re
from pathlib import Path
from typing import Any

from sae_stitching.base.errors import StudyError
from sae_stitching.formats import Layout
from sae_stitching.formats.files import Weights, linear, read_state_dict, vector_length
from sae_stitching.formats.told import Told
from sae_stitching.saes.normalization import LAYER_NORM
from sae_stitching.saes.sae import SAE

# Places, by OpenAI's names, as the library's README has them.
_POINTS = {
    "mlp_post_act": "mlp.hook_post",
    "resid_delta_attn": "hook_attn_out",
    "resid_post_attn": "hook_resid_mid",
    "resid_delta_mlp": "hook_mlp_out",
    "resid_post_mlp": "hook_resid_post",
}
_STATISTICS = ("stats_last_nonzero", "latents_activation_frequency", "latents_mean_square")


def read(layout: Layout, name: str) -> tuple[SAE, Told]:
    """Read an SAE of OpenAI; its place is known where `name` is its path as published."""
    path = layout.weights
    tensors = read_state_dict(path, plain=("activation", "activation_state_dict"))
    activation = tensors.pop("activation", "ReLU")
    options = tensors.pop("activation_state_dict", None) or {}
    kind: dict[str, Any] = {"architecture": "relu"}
    if activation == "TopK":
        kind = {**_topk(path, options), "normalize": LAYER_NORM}
    elif activation != "ReLU":
        raise StudyError(
            f"{path}: activation is {activation!r}; only 'ReLU' and 'TopK' can be imported"
        )
    sizes = [vector_length(path, tensors, key) for key in ("pre_bias", "latent_bias")]
    weights = Weights(path, tensors, *sizes)
    weights.ignore(*_STATISTICS)
    sae = SAE(
        **linear(weights),
        b_enc=weights.take("latent_bias", "d_sae"),
        b_dec=weights.take("pre_bias", "d_model"),
        **kind,
    )
    weights.finish("an SAE of OpenAI")
    return sae, _told(name)


def _topk(path: str, options: Any) -> dict[str, Any]:
    k, after = (options.get(key) for key in ("k", "postact_fn")) if options else (None, None)
    if type(k) is not int or k < 1:
        raise StudyError(
            f"{path}: activation_state_dict.k is {k!r}, expected a whole number above 0"
        )
    if after not in (None, "ReLU"):
        raise StudyError(
            f"{path}: activation_state_dict.postact_fn is {after!r}; only 'ReLU' can be imported"
        )
    return {"architecture": "topk", "k": k}


def _told(name: str) -> Told:
    # As published: gpt2-small/resid_delta_mlp_v4/autoencoders/6.pt.
    told, where = Told(), f"{name}: the path"
    path = Path(name).absolute().as_posix()
    if match := re.search(
        r"(?:/(gpt2-small))?/([a-z_]+?)(?:_v\d\w*)?/autoencoders/(\d+)\.pt$", path
    ):
        point = _POINTS.get(match[2])
        told.tell("hook", f"blocks.{match[3]}.{point}" if point else match[2], where)
        told.tell("model", match[1], where)
    # The library's README loads the model so.
    told.tell("center_writing_weights", False, "OpenAI's way to load the model")
    return told
