"""Small SAEs in the files of the releases that have a layout of their own, and what they compute.

Formulas are those of the releases' own code or model cards, in float64.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from helpers.sae_files import D_MODEL, D_SAE, JUMPRELU, LINEAR, STANDARD, double, top, weights
from safetensors.torch import save_file
from torch import Tensor

LINEARS = {**LINEAR, "encoder.bias": (D_SAE,), "decoder.bias": (D_MODEL,)}
TURNED = {**STANDARD, "W_enc": (D_SAE, D_MODEL), "W_dec": (D_MODEL, D_SAE)}
OPENAI = {**LINEAR, "pre_bias": (D_MODEL,), "latent_bias": (D_SAE,)}
NORM = 3.25
LLAMA_SCOPE: dict[str, Any] = {
    **{"d_model": D_MODEL, "d_sae": D_SAE, "act_fn": "jumprelu", "jump_relu_threshold": 0.3},
    **{"norm_activation": "dataset-wise", "dataset_average_activation_norm": {"in": NORM}},
    **{"sparsity_include_decoder_norm": True, "use_glu_encoder": False, "top_k": 3},
    **{"hook_point_in": "blocks.15.hook_resid_post", "use_decoder_bias": True},
    **{"hook_point_out": "blocks.15.hook_resid_post", "lp": 1},
}


@dataclass
class Release:
    """One SAE of a release.

    Attributes
    ----------
    files
        By path on the hub, owner and repository first.
    path
        Of the weights.
    codes, decode
        What it computes.
    told
        Hook, by TransformerLens' name, and model.
    """

    files: dict[str, Any]
    path: str
    codes: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    told: tuple[str, str]

    def write(self, folder: Path) -> Path:
        """Write the files below a folder."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".safetensors":
                save_file({key: t.contiguous() for key, t in content.items()}, path)
            elif path.suffix in (".pt", ".pth"):
                torch.save(content, path)
            elif path.suffix == ".yaml":
                path.write_text(yaml.safe_dump(content))
            else:
                path.write_text(json.dumps(content))
        return folder / self.path


def jump(z: Tensor, threshold: Any) -> Tensor:
    return z.relu() * (z > threshold)


def gemma_scope_2() -> Release:
    tensors = weights(**JUMPRELU)
    w = double(tensors)
    folder = "google/gemma-scope-2-270m-pt/attn_out/layer_12_width_16k_l0_small"
    settings = {
        **{"hf_hook_point_in": "model.layers.12.self_attn.o_proj.input", "width": D_SAE},
        **{"model_name": "google/gemma-3-270m-pt", "architecture": "jump_relu", "l0": 20},
    }
    lower = {name.replace("W_", "w_"): tensor for name, tensor in tensors.items()}
    return Release(
        {f"{folder}/config.json": settings, f"{folder}/params.safetensors": lower},
        f"{folder}/params.safetensors",
        lambda x: jump(x @ w.W_enc + w.b_enc, w.threshold),
        lambda f: f @ w.W_dec + w.b_dec,
        ("blocks.12.attn.hook_z", "google/gemma-3-270m"),
    )


def qwen_scope() -> Release:
    tensors = weights(**TURNED)
    w, path = double(tensors), "Qwen/SAE-Res-Qwen3.5-27B-W80K-L0_3/layer60.sae.pt"
    return Release(
        {path: tensors},
        path,
        lambda x: top(x @ w.W_enc.T + w.b_enc, 3),
        lambda f: f @ w.W_dec.T + w.b_dec,
        ("blocks.60.hook_resid_post", "Qwen/Qwen3.5-27B"),
    )


def llama_scope(**changes: Any) -> Release:
    tensors, settings = weights(**LINEARS), {**LLAMA_SCOPE, **changes}
    w, scale = double(tensors), D_MODEL**0.5 / NORM
    if settings["norm_activation"] == "none":
        scale = 1.0
    norms = w.decoder_weight.norm(dim=0)
    if not settings["sparsity_include_decoder_norm"]:
        norms = torch.ones_like(norms)
    b_dec = w.decoder_bias if settings["use_decoder_bias"] else 0 * w.decoder_bias
    if not settings["use_decoder_bias"]:
        del tensors["decoder.bias"]
    subtracted = b_dec * settings.get("apply_decoder_bias_to_pre_encoder", False)

    def codes(x: Tensor) -> Tensor:
        # As the library computes once it has brought directions to unit norm.
        z = ((scale * x - subtracted) @ w.encoder_weight.T + w.encoder_bias) * norms
        if settings["act_fn"] == "topk" and not settings["jump_relu_threshold"]:
            return top(z, settings["top_k"])
        return jump(z, settings["jump_relu_threshold"] * scale)

    folder = "fnlp/Llama3_1-8B-Base-LXR-8x/Llama3_1-8B-Base-L15R-8x"
    path = f"{folder}/checkpoints/final.safetensors"
    return Release(
        {f"{folder}/hyperparams.json": settings, path: tensors},
        path,
        codes,
        lambda f: (f / norms @ w.decoder_weight.T + b_dec) / scale,
        ("blocks.15.hook_resid_post", "meta-llama/Llama-3.1-8B"),
    )


def llama_scope_r1_distill(**changes: Any) -> Release:
    n_latents = 2 * D_MODEL
    shapes = {
        **{"encoder.weight": (n_latents, D_MODEL), "decoder.weight": (D_MODEL, n_latents)},
        **{"encoder.bias": (n_latents,), "decoder.bias": (D_MODEL,)},
        "log_jumprelu_threshold": (n_latents,),
    }
    tensors = weights(**shapes)
    w, scale = double(tensors), D_MODEL**0.5 / NORM
    tensors["dataset_average_activation_norm.blocks.7.hook_resid_post"] = torch.tensor(NORM)
    settings = {
        **{"sae_type": "sae", "d_model": D_MODEL, "expansion_factor": 2, "act_fn": "jumprelu"},
        **{"norm_activation": "dataset-wise", "sparsity_include_decoder_norm": False},
        **{"hook_point_in": "blocks.7.hook_resid_post", **changes},
    }
    norms = w.decoder_weight.norm(dim=0)
    if not settings["sparsity_include_decoder_norm"]:
        norms = torch.ones_like(norms)
    folder = "fnlp/Llama-Scope-R1-Distill/400M-Slimpajama-400M-OpenR1-Math-220k/L7R"
    return Release(
        {f"{folder}/config.json": settings, f"{folder}/sae_weights.safetensors": tensors},
        f"{folder}/sae_weights.safetensors",
        lambda x: jump(
            (scale * x @ w.encoder_weight.T + w.encoder_bias) * norms,
            w.log_jumprelu_threshold.exp(),
        ),
        lambda f: (f / norms @ w.decoder_weight.T + w.decoder_bias) / scale,
        ("blocks.7.hook_resid_post", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"),
    )


def connor_rob() -> Release:
    tensors = weights(**STANDARD)
    w, run = double(tensors), "ckkissane/attn-saes-gpt2-small-all-layers/gpt2-small_L5_Hcat_z_v9"
    settings = {
        **{"act_size": D_MODEL, "dict_size": D_SAE, "act_name": "blocks.5.attn.hook_z"},
        **{"model_name": "gpt2-small", "seq_len": 128, "enc_dtype": "fp32", "lr": 1.2e-3},
    }
    return Release(
        {f"{run}.pt": tensors, f"{run}_cfg.json": settings},
        f"{run}.pt",
        lambda x: ((x - w.b_dec) @ w.W_enc + w.b_enc).relu(),
        lambda f: f @ w.W_dec + w.b_dec,
        ("blocks.5.attn.hook_z", "gpt2-small"),
    )


def goodfire() -> Release:
    tensors = {name.replace(".", "_linear."): t for name, t in weights(**LINEARS).items()}
    w, path = double(tensors), "Goodfire/Llama-3.1-8B-Instruct-SAE-l19"
    path = f"{path}/Llama-3.1-8B-Instruct-SAE-l19.pth"
    return Release(
        {path: tensors},
        path,
        lambda x: (x @ w.encoder_linear_weight.T + w.encoder_linear_bias).relu(),
        lambda f: f @ w.decoder_linear_weight.T + w.decoder_linear_bias,
        ("blocks.19.hook_resid_post", "meta-llama/Llama-3.1-8B-Instruct"),
    )


def deepseek_r1() -> Release:
    tensors = weights(**LINEARS)
    w, name = double(tensors), "DeepSeek-R1-Distill-Llama-8B-SAE-l19"
    path = f"qresearch/{name}/{name}.pt"
    return Release(
        {path: tensors},
        path,
        lambda x: (x @ w.encoder_weight.T + w.encoder_bias).relu(),
        lambda f: f @ w.decoder_weight.T + w.decoder_bias,
        ("blocks.19.hook_resid_post", "deepseek-ai/DeepSeek-R1-Distill-Llama-8B"),
    )


def openai() -> Release:
    tensors = weights(**OPENAI)
    w, path = double(tensors), "sparse-autoencoder/gpt2-small/resid_delta_mlp_v4/autoencoders/6.pt"
    statistics = {
        "stats_last_nonzero": torch.zeros(D_SAE, dtype=torch.long),
        "latents_activation_frequency": torch.ones(D_SAE),
        "latents_mean_square": torch.ones(D_SAE),
    }
    return Release(
        {path: {**tensors, **statistics, "activation": "ReLU", "activation_state_dict": {}}},
        path,
        lambda x: ((x - w.pre_bias) @ w.encoder_weight.T + w.latent_bias).relu(),
        lambda f: f @ w.decoder_weight.T + w.pre_bias,
        ("blocks.6.hook_mlp_out", "gpt2-small"),
    )


def apollo() -> Release:
    tensors = weights(**LINEARS)
    w, run = double(tensors), "apollo-research/e2e-saes-gpt2/tvj2owza"
    directions = w.decoder_weight / w.decoder_weight.norm(dim=0)
    named = {
        f"blocks-6-hook_resid_pre.{name.replace('encoder.', 'encoder.0.')}": tensor
        for name, tensor in tensors.items()
    }
    settings = {
        **{
            "tlens_model_name": "gpt2-small",
            "saes": {"sae_positions": ["blocks.6.hook_resid_pre"]},
        },
        "train_data": {"n_ctx": 1024},
    }
    return Release(
        {f"{run}/samples_400000.pt": named, f"{run}/final_config.yaml": settings},
        f"{run}/samples_400000.pt",
        lambda x: (x @ w.encoder_weight.T + w.encoder_bias).relu(),
        lambda f: f @ directions.T + w.decoder_bias,
        ("blocks.6.hook_resid_pre", "gpt2-small"),
    )


RELEASES: dict[str, Callable[..., Release]] = {
    "gemma-scope-2": gemma_scope_2,
    "qwen-scope": qwen_scope,
    "llama-scope": llama_scope,
    "llama-scope-r1-distill": llama_scope_r1_distill,
    "connor-rob": connor_rob,
    "goodfire": goodfire,
    "deepseek-r1": deepseek_r1,
    "openai": openai,
    "apollo": apollo,
}
