"""dictionary_learning: ``config.json`` and ``ae.pt``, a state dict with one class for each kind.

Matrices of torch.nn.Linear are stored as (output, input), so that the encoder's is (d_sae, d_model)
and the decoder's (d_model, d_sae).
"""

from typing import Any

import torch

from sae_stitching.base.errors import StudyError
from sae_stitching.formats import Layout
from sae_stitching.formats.files import Settings, Weights, linear, read_state_dict
from sae_stitching.formats.gates import gated_encoder
from sae_stitching.formats.told import Told
from sae_stitching.saes.sae import SAE

# Settings that are read, and those of training alone: `norm_factor` is in the weights when the
# library saves them, and an SAE of groups (Matryoshka) is used with all of them.
_TRAINER = {
    *("dict_class", "activation_dim", "dict_size", "k", "layer", "lm_name", "submodule_name"),
    *("trainer_class", "wandb_name", "device", "seed", "lr", "steps", "warmup_steps"),
    *("decay_start", "sparsity_warmup_steps", "resample_steps", "l1_penalty", "auxk_alpha"),
    *("threshold_beta", "threshold_start_step", "top_k_aux", "k_anneal_steps", "bandwidth"),
    *("sparsity_penalty", "sparsity_function", "target_l0", "group_fractions", "group_weights"),
    *("group_sizes", "norm_factor", "p_start", "p_end", "anneal_start", "anneal_end"),
    *("n_sparsity_updates", "sparsity_queue_length", "initial_sparsity_penalty"),
}
_BUFFER = {
    *("d_submodule", "io", "n_ctxs", "ctx_len", "refresh_batch_size", "out_batch_size"),
    *("device", "remove_bos", "max_activation_norm_multiple", "add_special_tokens"),
}


def read(layout: Layout, name: str) -> tuple[SAE, Told]:
    """Read an SAE of dictionary_learning."""
    del name
    assert layout.settings is not None
    settings = Settings.read(layout.settings)
    trainer = settings.part("trainer")
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
    return SAE(**tensors), _told(settings, trainer)


def _told(settings: Settings, trainer: Settings) -> Told:
    told, buffer = Told(), settings.part("buffer")
    side = buffer.text("io", "out")
    if side not in ("out", "in"):
        raise StudyError(
            f"{settings.path}: buffer.io is {side!r}, so that this is a transcoder; only SAEs can "
            "be imported"
        )
    where = f"{settings.path}: trainer."
    submodule, layer = trainer.text("submodule_name", ""), trainer.values.get("layer")
    if submodule:
        told.tell_number("layer", layer, f"{where}layer")
    # A layer alone is the block's output, as for the library's own `get_submodule`.
    place = submodule or (f"layer_{layer}" if layer is not None else "")
    if place and side == "in" and not place.startswith("resid_pre"):
        place += ".input"
    told.tell("hook", place or None, f"{where}{'submodule_name' if submodule else 'layer'}")
    told.tell("model", trainer.text("lm_name", "") or None, f"{where}lm_name")
    told.tell_number("context", buffer.values.get("ctx_len"), f"{settings.path}: buffer.ctx_len")
    if buffer.flag("remove_bos", False):
        told.tell("positions", [1, None], f"{settings.path}: buffer.remove_bos")
    told.know(trainer.values, where, _TRAINER)
    told.know(buffer.values, f"{settings.path}: buffer.", _BUFFER)
    told.know(settings.values, f"{settings.path}: ", ("trainer", "buffer"))
    return told


def _k(weights: Weights, trainer: Settings) -> int:
    k = trainer.integer("k")
    if (stored := weights.number("k")) is not None and stored != k:
        raise StudyError(f"{weights.path}: k is {stored}, but {trainer.path} says trainer.k is {k}")
    return k


def _relu(weights: Weights, trainer: Settings) -> dict[str, Any]:
    del trainer
    tensors = linear(weights)
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
        **linear(weights),
        "b_enc": weights.take("encoder.bias", "d_sae"),
        "b_dec": weights.take("decoder.bias", "d_model"),
        "architecture": "relu",
        "apply_b_dec_to_input": False,
    }


def _top_k(weights: Weights, trainer: Settings) -> dict[str, Any]:
    # Its threshold is for another way of encoding than the class's own.
    weights.ignore("threshold")
    return {
        **linear(weights),
        "b_enc": weights.take("encoder.bias", "d_sae"),
        "b_dec": weights.take("b_dec", "d_model"),
        "architecture": "topk",
        "k": _k(weights, trainer),
    }


def _batch_top_k(weights: Weights, trainer: Settings) -> dict[str, Any]:
    weights.ignore("group_sizes")
    if "W_enc" in weights:  # Matryoshka
        matrices = {
            "W_enc": weights.take("W_enc", "d_model", "d_sae"),
            "W_dec": weights.take("W_dec", "d_sae", "d_model"),
        }
        b_enc = weights.take("b_enc", "d_sae")
    else:
        matrices, b_enc = linear(weights), weights.take("encoder.bias", "d_sae")
    return {
        **matrices,
        "b_enc": b_enc,
        "b_dec": weights.take("b_dec", "d_model"),
        "architecture": "batchtopk",
        "threshold": weights.take("threshold").expand(len(b_enc)).clone(),
        "k": _k(weights, trainer),
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
    matrices = linear(weights)
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
