"""SAELens: folders with ``cfg.json`` and ``sae_weights.safetensors``, read and written.

Since version 6 the settings have an object `metadata`. Before that all settings stand side by side
under older names, and what an SAE does without saying so was decided by defaults: b_dec is
subtracted from the input, the architecture is standard (ReLU), activations are not normalised. The
paper's GPT-2 SAEs are of that kind.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sae_stitching.errors import StudyError
from sae_stitching.formats import FILES, Layout
from sae_stitching.formats.files import Settings, Weights, read_safetensors
from sae_stitching.formats.gates import gated_encoder
from sae_stitching.sae import SAE
from sae_stitching.store import replacing

# Architectures by the names that SAELens has for them.
_ARCHITECTURES = {"standard": "relu", "topk": "topk", "jumprelu": "jumprelu", "gated": "gated"}
# What normalize_activations may say beside none, and why it cannot be imported.
_NORMALIZATIONS = {
    "expected_average_only_in": "the factor is not in the files; fold it in SAELens and save again",
    "covariance_whitening": "the matrix is not in the files; fold it in SAELens and save again",
    "constant_norm_rescale": "an SAE that scales every token by itself cannot be stitched",
    "layer_norm": "an SAE that scales every token by itself cannot be stitched",
}
#: Version whose format is written.
_VERSION = "6.0.0"


def read(layout: Layout) -> SAE:
    """Read a SAELens folder, of version 6 or older."""
    assert layout.settings is not None
    settings = _modernised(Settings.read(layout.settings))
    metadata = settings.part("metadata")
    name = settings.text("architecture", "")
    if name not in _ARCHITECTURES:
        # Training checkpoints of batchtopk among them, which SAELens turns into jumprelu itself.
        raise StudyError(
            f"{settings.path}: architecture is {name!r}; only {', '.join(_ARCHITECTURES)} can be "
            "imported (SAELens' save_inference_model writes batchtopk as jumprelu)"
        )
    _refuse_what_changes_the_input(settings)
    d_model, d_sae = settings.integer("d_in"), settings.integer("d_sae")
    weights = Weights(layout.weights, read_safetensors(layout.weights), d_model, d_sae)
    W_enc, W_dec = (
        weights.take("W_enc", "d_model", "d_sae"),
        weights.take("W_dec", "d_sae", "d_model"),
    )
    tensors: dict[str, Any]
    if name == "gated":
        parts = (weights.take(part, "d_sae") for part in ("b_gate", "b_mag", "r_mag"))
        tensors = gated_encoder(W_enc, *parts)
    else:
        tensors = {"W_enc": W_enc, "b_enc": weights.take("b_enc", "d_sae")}
    if name == "jumprelu":
        tensors["threshold"] = weights.take("threshold", "d_sae")
    if name == "topk":
        tensors["k"] = settings.integer("k")
        if settings.flag("rescale_acts_by_decoder_norm", False):
            W_dec = _fold_decoder_norm(tensors, W_dec)
    if "scaling_factor" in weights:
        W_dec = _fold_scaling_factor(weights.take("scaling_factor", "d_sae"), W_dec, settings)
    sae = SAE(
        **tensors,
        W_dec=W_dec,
        b_dec=weights.take("b_dec", "d_model"),
        architecture=_ARCHITECTURES[name],
        apply_b_dec_to_input=settings.flag("apply_b_dec_to_input", True),
        hook=metadata.text("hook_name", ""),
        model=metadata.text("model_name", ""),
    )
    weights.finish(f"an SAE of architecture {name}")
    return sae


def _modernised(settings: Settings) -> Settings:
    """Settings of any version in the form of version 6."""
    values = settings.values
    version = values.get("sae_lens_version") or settings.part("metadata").values.get(
        "sae_lens_version"
    )
    major = str(version).partition(".")[0]
    if version and not major.isdigit():
        raise StudyError(f"{settings.path}: sae_lens_version is {version!r}, expected a version")
    if version and int(major) >= 6:
        return settings
    hook = values.get("hook_name", values.get("hook_point"))
    activation = values.get("activation_fn", values.get("activation_fn_str", "relu"))
    architecture = values.get("architecture", "standard")
    modern = {
        **values,
        "architecture": architecture,
        "metadata": {"hook_name": hook, "model_name": values.get("model_name")},
    }
    if activation == "topk":
        k = Settings(settings.path, settings.part("activation_fn_kwargs").values).integer("k")
        modern |= {"architecture": "topk", "k": k}
    elif activation != "relu":
        raise StudyError(
            f"{settings.path}: activation_fn is {activation!r}; only relu and topk can be imported"
        )
    normalization = values.get("normalize_activations")
    if normalization is None or isinstance(normalization, bool):
        modern["normalize_activations"] = "expected_average_only_in" if normalization else "none"
    if isinstance(hook, str) and "hook_z" in hook:
        modern.setdefault("reshape_activations", "hook_z")
    return Settings(settings.path, modern)


def _refuse_what_changes_the_input(settings: Settings) -> None:
    normalization = settings.text("normalize_activations", "none")
    if normalization != "none":
        why = _NORMALIZATIONS.get(normalization, "this is unknown")
        raise StudyError(f"{settings.path}: normalize_activations is {normalization!r}; {why}")
    reshaping = settings.text("reshape_activations", "none")
    if reshaping != "none":
        raise StudyError(
            f"{settings.path}: reshape_activations is {reshaping!r}; only 'none' can be imported"
        )


def _fold_decoder_norm(tensors: dict[str, Any], W_dec: Tensor) -> Tensor:
    # The k latents are chosen by f_i ‖W_dec_i‖, which is what f_i becomes here.
    norms = torch.linalg.vector_norm(W_dec, dim=1)
    tensors["W_enc"], tensors["b_enc"] = tensors["W_enc"] * norms, tensors["b_enc"] * norms
    # A latent without a direction is never chosen before another and adds nothing: it stays zero.
    return W_dec / torch.where(norms > 0, norms, 1.0)[:, None]


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
    settings_name, weights_name = FILES["saelens"]
    assert settings_name is not None
    settings: dict[str, Any] = {
        "architecture": {"relu": "standard", "topk": "topk"}.get(sae.architecture, "jumprelu"),
        "d_in": sae.d_model,
        "d_sae": sae.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": sae.apply_b_dec_to_input,
        "normalize_activations": "none",
        "reshape_activations": "none",
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
