"""SAELens: folders with ``cfg.json`` and ``sae_weights.safetensors``, read and written.

Since version 6 the settings have an object `metadata`. Before that all settings stand side by side
under older names, and what an SAE does without saying so was decided by defaults: b_dec is
subtracted from the input, the architecture is standard (ReLU), activations are not normalised. The
paper's GPT-2 SAEs are of that kind.
"""

import json
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sae_stitching.activations.language_model import HEADS
from sae_stitching.base.errors import StudyError
from sae_stitching.base.store import replacing
from sae_stitching.formats import FILES, Layout
from sae_stitching.formats.files import Settings, Weights, read_safetensors
from sae_stitching.formats.folding import fold_decoder_norm
from sae_stitching.formats.gates import gated_encoder
from sae_stitching.formats.told import Said, Told
from sae_stitching.saes.normalization import NORMALIZATIONS
from sae_stitching.saes.sae import SAE

# Architectures by the names that SAELens has for them.
_ARCHITECTURES = {"standard": "relu", "topk": "topk", "jumprelu": "jumprelu", "gated": "gated"}
# What else normalize_activations may say, and why it cannot be imported.
_NORMALIZATIONS = {
    "expected_average_only_in": "the factor is not in the files; fold it in SAELens and save again",
    "covariance_whitening": "the matrix is not in the files; fold it in SAELens and save again",
}
# Names of before version 6.
_RENAMED = {
    "hook_point": "hook_name",
    "hook_point_layer": "hook_layer",
    "hook_point_head_index": "hook_head_index",
    "activation_fn_str": "activation_fn",
}
# Settings of an SAE that are read, or say how it is kept and not what it computes.
_SETTINGS = {
    *("architecture", "d_in", "d_sae", "dtype", "device", "apply_b_dec_to_input", "metadata"),
    *("normalize_activations", "reshape_activations", "k", "rescale_acts_by_decoder_norm"),
    "finetuning_scaling_factor",
}
# Of the activations, and of where an SAE comes from.
_METADATA = {
    *("sae_lens_version", "sae_lens_training_version", "model_name", "model_class_name"),
    *("hook_name", "hook_layer", "hook_head_index", "hook_name_out", "hook_head_index_out"),
    *("hf_hook_name", "hf_hook_name_out", "model_from_pretrained_kwargs", "prepend_bos"),
    *("context_size", "seqpos_slice", "exclude_special_tokens", "dataset_path", "neuronpedia_id"),
    *("dataset_trust_remote_code", "training_architecture", "training_architecture_details"),
    *("sequence_separator_token", "disable_concat_sequences", "use_chat_formatting"),
}
# Of training alone, in any version: they leave no trace but the weights.
_TRAINING = {
    *("act_store_device", "activations_mixing_fraction", "adam_beta1", "adam_beta2", "autocast"),
    *("autocast_lm", "aux_loss_coefficient", "b_dec_init_method", "cached_activations_path"),
    *("checkpoint_path", "compile_llm", "compile_sae", "dead_feature_estimation_method"),
    *("dead_feature_threshold", "dead_feature_window", "decoder_heuristic_init"),
    *("decoder_heuristic_init_norm", "decoder_init_norm", "decoder_orthogonal_init"),
    *("eval_batch_size_prompts", "eval_every_n_wandb_logs", "expansion_factor"),
    *("feature_reinit_scale", "feature_sampling_method", "feature_sampling_window"),
    *("finetuning_method", "finetuning_tokens", "from_pretrained_path", "hook_eval"),
    *("hook_point_eval", "init_encoder_as_decoder_transpose", "is_dataset_tokenized"),
    *("jumprelu_bandwidth", "jumprelu_init_threshold", "jumprelu_sparsity_loss_mode"),
    *("jumprelu_ste_to_input", "jumprelu_tanh_scale", "l0_coefficient", "l0_warm_up_steps"),
    *("l1_coefficient", "l1_warm_up_steps", "llm_compilation_mode", "llm_device"),
    *("log_activations_store_to_wandb", "log_optimizer_state_to_wandb", "log_to_wandb", "logger"),
    *("lp_norm", "lr", "lr_decay_steps", "lr_end", "lr_scheduler_name", "lr_warm_up_steps"),
    *("matryoshka_widths", "model_kwargs", "mse_loss_normalization", "n_batches_for_norm_estimate"),
    *("n_batches_in_buffer", "n_checkpoints", "n_eval_batches", "n_restart_cycles", "noise_scale"),
    *("normalize_sae_decoder", "output_path", "pre_act_loss_coefficient", "prefetch_llm_batches"),
    *("resample_batches", "resume", "resume_from_checkpoint", "run_name"),
    *("sae_compilation_mode", "save_final_checkpoint", "scale_sparsity_penalty_by_decoder_norm"),
    *("seed", "store_batch_size", "store_batch_size_prompts", "streaming", "target_l0"),
    *("tokens_per_buffer", "topk_threshold_lr", "total_training_tokens", "train_batch_size"),
    *("train_batch_size_tokens", "training_tokens", "use_cached_activations", "use_ghost_grads"),
    *("use_matryoshka_aux_loss", "use_sparse_activations", "verbose", "wandb_entity", "wandb_id"),
    *("wandb_log_frequency", "wandb_project", "d_model"),
}
# How TransformerLens is told to load the model. What is folded within a block, or put on the
# logits, leaves the places that a study can be of as they were; but the bias of values is in heads.
_LOADING = {
    *("center_writing_weights", "dtype", "torch_dtype", "revision", "checkpoint_value", "fold_ln"),
    *("center_unembed", "fold_value_biases", "refactor_factored_attn_matrices", "first_n_layers"),
    *("device", "n_devices", "move_to_device", "device_map", "default_padding_side"),
    *("default_prepend_bos", "trust_remote_code", "cache_dir", "local_files_only", "tokenizer"),
    *("attn_implementation", "low_cpu_mem_usage", "token", "use_safetensors"),
}
# Settings by repository, where SAELens' registry of published SAEs corrects their files: for those
# who name an SAE by its repository, and not by its release.
_CENTRED = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
_REGISTERED: dict[str, dict[str, Any]] = {
    "jbloom/GPT2-Small-SAEs-Reformatted": _CENTRED,
    "jbloom/GPT2-Small-Feature-Splitting-Experiment-Layer-8": _CENTRED,
    "tommmcgrath/gpt2-small-mlp-out-saes": _CENTRED,
    "JoshEngels/Mistral-7B-Residual-Stream-SAEs": {
        "normalize_activations": "constant_norm_rescale"
    },
}
_MODEL_CLASSES = {
    *("HookedTransformer", "HookedSAETransformer", "TransformerBridge", "SAETransformerBridge"),
    "AutoModelForCausalLM",
}
#: Version whose format is written.
_VERSION = "6.0.0"


def read(layout: Layout, name: str) -> tuple[SAE, Told]:
    """Read a SAELens folder, of version 6 or older."""
    assert layout.settings is not None
    found = Settings.read(layout.settings)
    registered = {**_registered(name), **layout.registered}
    settings = _modernised(Settings(found.path, {**found.values, **registered}))
    architecture = settings.text("architecture", "")
    if architecture not in _ARCHITECTURES:
        # Training checkpoints of batchtopk among them, which SAELens turns into jumprelu itself.
        raise StudyError(
            f"{settings.path}: architecture is {architecture!r}; only {', '.join(_ARCHITECTURES)} "
            "can be imported (SAELens' save_inference_model writes batchtopk as jumprelu)"
        )
    _refuse_other_shapes(settings)
    normalize = _normalization(settings)
    d_model, d_sae = settings.integer("d_in"), settings.integer("d_sae")
    weights = Weights(layout.weights, read_safetensors(layout.weights), d_model, d_sae)
    W_enc, W_dec = (
        weights.take("W_enc", "d_model", "d_sae"),
        weights.take("W_dec", "d_sae", "d_model"),
    )
    tensors: dict[str, Any]
    if architecture == "gated":
        parts = (weights.take(part, "d_sae") for part in ("b_gate", "b_mag", "r_mag"))
        tensors = gated_encoder(W_enc, *parts)
    else:
        tensors = {"W_enc": W_enc, "b_enc": weights.take("b_enc", "d_sae")}
    if architecture == "jumprelu":
        tensors["threshold"] = weights.take("threshold", "d_sae")
    if architecture == "topk":
        tensors["k"] = settings.integer("k")
        if settings.flag("rescale_acts_by_decoder_norm", False):
            W_dec = fold_decoder_norm(tensors, W_dec)
    if "scaling_factor" in weights:
        W_dec = _fold_scaling_factor(weights.take("scaling_factor", "d_sae"), W_dec, settings)
    sae = SAE(
        **tensors,
        W_dec=W_dec,
        b_dec=weights.take("b_dec", "d_model"),
        architecture=_ARCHITECTURES[architecture],
        apply_b_dec_to_input=settings.flag("apply_b_dec_to_input", True),
        normalize=normalize,
    )
    weights.finish(f"an SAE of architecture {architecture}")
    return sae, _told(settings, found, registered)


def _registered(name: str) -> dict[str, Any]:
    """What SAELens sets for a published SAE, whatever its file says."""
    where = f"/{name}/"
    for repo, settings in _REGISTERED.items():
        # Perhaps in the cache of the hub's client.
        if f"/{repo}/" in where or f"/models--{repo.replace('/', '--')}/" in where:
            return settings
    return {}


def _modernised(settings: Settings) -> Settings:
    """Settings of any version in the form of version 6."""
    values = settings.values
    version = values.get("sae_lens_version") or settings.part("metadata").values.get(
        "sae_lens_version"
    )
    major = str(version).partition(".")[0]
    if version and not major.isdigit():
        raise StudyError(f"{settings.path}: sae_lens_version is {version!r}, expected a version")
    named = {_RENAMED.get(key, key): value for key, value in values.items()}
    metadata = {key: value for key, value in named.items() if key in _METADATA}
    modern = {
        **{key: value for key, value in named.items() if key not in _METADATA},
        "metadata": {**metadata, **settings.part("metadata").values},
    }
    if version and int(major) >= 6:
        return Settings(settings.path, modern)
    modern.setdefault("architecture", "standard")
    activation = named.get("activation_fn", "relu")
    options = settings.part("activation_fn_kwargs")
    if activation == "topk":
        modern |= {"architecture": "topk", "k": options.integer("k")}
    elif activation != "relu":
        raise StudyError(
            f"{settings.path}: activation_fn is {activation!r}; only relu and topk can be imported"
        )
    for key, value in options.values.items():
        if value and not (activation == "topk" and key == "k"):
            raise StudyError(
                f"{settings.path}: activation_fn_kwargs.{key} is {value!r}, which is unknown for "
                f"{activation}; only k of topk can be imported"
            )
    for key in ("activation_fn", "activation_fn_kwargs"):
        modern.pop(key, None)
    normalization = values.get("normalize_activations")
    if normalization is None or isinstance(normalization, bool):
        modern["normalize_activations"] = "expected_average_only_in" if normalization else "none"
    hook = named.get("hook_name")
    if isinstance(hook, str) and "hook_z" in hook:
        modern.setdefault("reshape_activations", "hook_z")
    return Settings(settings.path, modern)


def _told(settings: Settings, found: Settings, registered: Collection[str]) -> Told:
    """What the settings tell of the activations; `found` has them under the file's own names."""
    told, metadata = Told(), settings.part("metadata")
    names = {_RENAMED.get(key, key): key for key in found.values if key != "metadata"}

    def where(key: str) -> str:
        if key in registered:
            return f"{settings.path}: SAELens' {key} for this repository"
        return f"{settings.path}: {names.get(key, f'metadata.{key}')}"

    other = metadata.text("hook_name_out", "")
    if other and other != metadata.text("hook_name", ""):
        raise StudyError(
            f"{where('hook_name_out')} is {other!r}, so that this is a transcoder; only SAEs can "
            "be imported"
        )
    texts = {"hook": "hook_name", "model": "model_name"}
    if not metadata.text("hook_name", ""):
        texts["hook"] = "hf_hook_name"
    for topic, key in texts.items():
        told.tell(topic, metadata.text(key, "") or None, where(key))
    numbers = {"layer": "hook_layer", "head": "hook_head_index", "context": "context_size"}
    for topic, key in numbers.items():
        told.tell_number(topic, metadata.values.get(key), where(key))
    if metadata.values.get("prepend_bos") is not None:
        told.tell("prepend_bos", metadata.flag("prepend_bos", True), where("prepend_bos"))
    _tell_positions(told, metadata, where)

    key = "model_from_pretrained_kwargs"
    if metadata.values.get(key) is not None:
        # For from_pretrained_no_processing of TransformerLens, which does not centre by default.
        options = metadata.part(key)
        centred, name = options.flag("center_writing_weights", False), "center_writing_weights"
        default = "" if name in options.values else " (SAELens' default)"
        told.tell(name, centred, f"{where(key)}.{name}{default}")
        for name in ("dtype", "torch_dtype"):
            told.tell("dtype", options.text(name, "") or None, f"{where(key)}.{name}")
        told.tell("revision", options.text("revision", "") or None, f"{where(key)}.revision")
        if (step := options.values.get("checkpoint_value")) is not None:
            # As TransformerLens names the checkpoints of a training.
            told.tell("revision", f"step{step}", f"{where(key)}.checkpoint_value")
        told.know(options.values, f"{where(key)}.", _LOADING)
        name = "fold_value_biases"
        if _reads_heads(metadata) and options.flag(name, False):
            told.tell(name, True, f"{where(key)}.{name}")
    if metadata.text("model_class_name", "HookedTransformer") not in _MODEL_CLASSES:
        told.strange.append(Said(metadata.values["model_class_name"], where("model_class_name")))
    told.know(metadata.values, f"{settings.path}: metadata.", _METADATA)
    told.know(settings.values, f"{settings.path}: ", _SETTINGS | _TRAINING)
    return told


def _tell_positions(told: Told, metadata: Settings, where: Callable[[str], str]) -> None:
    # The arguments of a slice.
    bounds = metadata.values.get("seqpos_slice")
    if bounds is None:
        if metadata.values.get("exclude_special_tokens"):
            told.tell("positions", [1, None], where("exclude_special_tokens"))
        return
    if not isinstance(bounds, list) or not 1 <= len(bounds) <= 3 or (bounds[2:] or [1])[0] != 1:
        told.strange.append(Said(bounds, where("seqpos_slice")))
        return
    first, last = (None, bounds[0]) if len(bounds) == 1 else bounds[:2]
    whole = all(bound is None or type(bound) is int for bound in (first, last))
    if not whole or (first or 0) < 0:
        told.strange.append(Said(bounds, where("seqpos_slice")))
    elif first or last is not None:
        told.tell("positions", [first or 0, last], where("seqpos_slice"))


def _reads_heads(metadata: Settings) -> bool:
    return metadata.text("hook_name", "").endswith(HEADS)


def _normalization(settings: Settings) -> str | None:
    normalization = settings.text("normalize_activations", "none")
    if normalization in ("none", *NORMALIZATIONS):
        return None if normalization == "none" else normalization
    why = _NORMALIZATIONS.get(normalization, "this is unknown")
    raise StudyError(f"{settings.path}: normalize_activations is {normalization!r}; {why}")


def _refuse_other_shapes(settings: Settings) -> None:
    reshaping = settings.text("reshape_activations", "none")
    # Heads side by side, as they are read here.
    heads = _reads_heads(settings.part("metadata"))
    if reshaping != "none" and not (heads and reshaping == "hook_z"):
        only = "'none' and, of a hook_z, 'hook_z'"
        raise StudyError(
            f"{settings.path}: reshape_activations is {reshaping!r}; only {only} can be imported"
        )


def _fold_scaling_factor(factor: Tensor, W_dec: Tensor, settings: Settings) -> Tensor:
    # Of latents' activations, after the encoder, found by a second training.
    if torch.allclose(factor, torch.ones_like(factor)):
        return W_dec  # SAELens once wrote it always, and leaves it out for the same reason
    if not settings.flag("finetuning_scaling_factor", False):
        raise StudyError(
            f"{settings.path}: finetuning_scaling_factor is not set, but the weights have a "
            "scaling_factor; is it the folder of one SAE?"
        )
    return W_dec * factor[:, None]


def export_saelens(sae: SAE, folder: str | Path, **metadata: Any) -> Layout:
    """Write an SAE as a folder that ``sae_lens.SAE.load_from_disk`` reads.

    Architectures with a threshold (batchtopk, jumprelu, gated) become SAELens' jumprelu.

    Parameters
    ----------
    sae
        The SAE.
    folder
        Made if it is not there.
    metadata
        Further entries of `metadata` beside the hook and the model, e.g. ``context_size``.

    Returns
    -------
    Layout
        The two files.
    """
    weights_name, settings_name = FILES["saelens"].weights, FILES["saelens"].settings
    assert settings_name is not None
    settings: dict[str, Any] = {
        "architecture": {"relu": "standard", "topk": "topk"}.get(sae.architecture, "jumprelu"),
        "d_in": sae.d_model,
        "d_sae": sae.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": sae.apply_b_dec_to_input,
        "normalize_activations": sae.normalize or "none",
        "reshape_activations": "hook_z" if sae.hook.endswith(HEADS) else "none",
        "metadata": {
            "sae_lens_version": _VERSION,
            "hook_name": sae.hook,
            "model_name": sae.model,
            **metadata,
        },
    }
    if sae.architecture == "topk":
        settings |= {"k": sae.k, "rescale_acts_by_decoder_norm": False}
    names = ["W_enc", "W_dec", "b_enc", "b_dec"]
    if settings["architecture"] == "jumprelu":
        names.append("threshold")
    from safetensors.torch import save_file

    tensors = {name: getattr(sae, name).detach().float().cpu().contiguous() for name in names}
    layout = Layout("saelens", str(Path(folder, weights_name)), str(Path(folder, settings_name)))
    with replacing(layout.weights) as temporary:
        save_file(tensors, temporary)
    with replacing(str(layout.settings)) as temporary:
        temporary.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return layout
