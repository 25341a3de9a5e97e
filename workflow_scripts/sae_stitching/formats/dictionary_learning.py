"""dictionary_learning: ``config.json`` and ``ae.pt``, a state dict with one class for each kind.

Matrices of torch.nn.Linear are stored as (output, input), so that the encoder's is (d_sae, d_model)
and the decoder's (d_model, d_sae).
"""

import re
from typing import Any

import torch

from sae_stitching.errors import StudyError
from sae_stitching.formats import Layout
from sae_stitching.formats.files import Settings, Weights, read_state_dict
from sae_stitching.formats.gates import gated_encoder
from sae_stitching.sae import SAE

# Submodules as the library's own recipes call them.
_POINTS = {
    "resid_pre": "hook_resid_pre",
    "resid_post": "hook_resid_post",
    "mlp_out": "hook_mlp_out",
    "attention_out": "hook_attn_out",
}


def read(layout: Layout) -> SAE:
    """Read an SAE of dictionary_learning; its hook is known where the config names it so."""
    assert layout.settings is not None
    trainer = Settings.read(layout.settings).part("trainer")
    kind = trainer.text("dict_class", "")
    if kind not in _READERS:
        raise StudyError(
            f"{layout.settings}: trainer.dict_class is {kind!r}; only {', '.join(_READERS)} can be "
            "imported"
        )
    d_model, d_sae = trainer.integer("activation_dim"), trainer.integer("dict_size")
    weights = Weights(layout.weights, read_state_dict(layout.weights), d_model, d_sae)
    tensors = _READERS[kind](weights, trainer)
    weights.finish(kind)
    return SAE(**tensors, hook=_hook(trainer), model=trainer.text("lm_name", ""))


def _linear(weights: Weights) -> dict[str, torch.Tensor]:
    return {
        "W_enc": weights.take("encoder.weight", "d_sae", "d_model").T.contiguous(),
        "W_dec": weights.take("decoder.weight", "d_model", "d_sae").T.contiguous(),
    }


def _relu(weights: Weights, trainer: Settings) -> dict[str, Any]:
    del trainer
    tensors = _linear(weights)
    b_enc = weights.take("encoder.bias", "d_sae")
    # The library gives latents the scale of unit decoder directions when it loads them, unless
    # they have it nearly.
    norms = torch.linalg.vector_norm(tensors["W_dec"], dim=1)
    if not torch.allclose(norms, torch.ones_like(norms)):
        if not bool((norms > 0).all()):
            latent = int((norms == 0).nonzero()[0])
            raise StudyError(f"{weights.path}: decoder.weight is zero for latent {latent}")
        tensors["W_dec"] = tensors["W_dec"] / norms[:, None]
        tensors["W_enc"], b_enc = tensors["W_enc"] * norms, b_enc * norms
    return {
        **tensors,
        "b_enc": b_enc,
        "b_dec": weights.take("bias", "d_model"),
        "architecture": "relu",
    }


def _relu_of_april(weights: Weights, trainer: Settings) -> dict[str, Any]:
    del trainer
    return {
        **_linear(weights),
        "b_enc": weights.take("encoder.bias", "d_sae"),
        "b_dec": weights.take("decoder.bias", "d_model"),
        "architecture": "relu",
        "apply_b_dec_to_input": False,
    }


def _top_k(weights: Weights, trainer: Settings) -> dict[str, Any]:
    # Its threshold is for another way of encoding than the class's own.
    weights.ignore("k", "threshold")
    return {
        **_linear(weights),
        "b_enc": weights.take("encoder.bias", "d_sae"),
        "b_dec": weights.take("b_dec", "d_model"),
        "architecture": "topk",
        "k": trainer.integer("k"),
    }


def _batch_top_k(weights: Weights, trainer: Settings) -> dict[str, Any]:
    weights.ignore("k", "group_sizes")
    if "W_enc" in weights:  # Matryoshka
        matrices = {
            "W_enc": weights.take("W_enc", "d_model", "d_sae"),
            "W_dec": weights.take("W_dec", "d_sae", "d_model"),
        }
        b_enc = weights.take("b_enc", "d_sae")
    else:
        matrices, b_enc = _linear(weights), weights.take("encoder.bias", "d_sae")
    return {
        **matrices,
        "b_enc": b_enc,
        "b_dec": weights.take("b_dec", "d_model"),
        "architecture": "batchtopk",
        "threshold": weights.take("threshold").expand(len(b_enc)).clone(),
        "k": trainer.integer("k"),
    }


def _jumprelu(weights: Weights, trainer: Settings) -> dict[str, Any]:
    del trainer
    return {
        "W_enc": weights.take("W_enc", "d_model", "d_sae"),
        "W_dec": weights.take("W_dec", "d_sae", "d_model"),
        "b_enc": weights.take("b_enc", "d_sae"),
        "b_dec": weights.take("b_dec", "d_model"),
        "architecture": "jumprelu",
        "threshold": weights.take("threshold", "d_sae"),
        "apply_b_dec_to_input": False,
    }


def _gated(weights: Weights, trainer: Settings) -> dict[str, Any]:
    del trainer
    matrices = _linear(weights)
    encoder = gated_encoder(
        matrices["W_enc"],
        weights.take("gate_bias", "d_sae"),
        weights.take("mag_bias", "d_sae"),
        weights.take("r_mag", "d_sae"),
    )
    return {
        **encoder,
        "W_dec": matrices["W_dec"],
        "b_dec": weights.take("decoder_bias", "d_model"),
        "architecture": "gated",
    }


_READERS = {
    "AutoEncoder": _relu,
    "AutoEncoderNew": _relu_of_april,
    "AutoEncoderTopK": _top_k,
    "BatchTopKSAE": _batch_top_k,
    "MatryoshkaBatchTopKSAE": _batch_top_k,
    "JumpReluAutoEncoder": _jumprelu,
    "GatedAutoEncoder": _gated,
}


def _hook(trainer: Settings) -> str:
    match = re.fullmatch(r"([a-z_]+)_layer_(\d+)", trainer.text("submodule_name", ""))
    return f"blocks.{match[2]}.{_POINTS[match[1]]}" if match and match[1] in _POINTS else ""
