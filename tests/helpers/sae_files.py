"""Small SAEs in the files of other libraries, as those write them.

Tensors are random, so that no two could stand for each other.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from helpers.oracle import random_sae
from sae_stitching.saes.sae import SAE
from safetensors.torch import save_file
from torch import Tensor

D_MODEL, D_SAE = 6, 10
HOOK = "blocks.8.hook_resid_pre"
TENSORS = ("W_enc", "W_dec", "b_enc", "b_dec", "threshold")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(architecture: str, seed: int = 0, **options: Any) -> SAE:
    sae = random_sae(generator(seed), D_MODEL, D_SAE, architecture, dtype=torch.float32, **options)
    return replace(sae, hook=HOOK, model="gpt2-small")


def inputs() -> Tensor:
    return 2.0 * torch.randn(60, D_MODEL, generator=generator(9))


def check(sae: SAE, codes: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor]) -> None:
    """Compare an imported SAE with what its own library computes, written out in float64."""
    x = inputs()
    expected = codes(x.double())
    assert 0.02 < (expected > 0).double().mean() < 0.98
    found = sae.encode(x)
    torch.testing.assert_close(found.to_dense().double(), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(sae.decode(found).double(), decode(expected), rtol=1e-5, atol=1e-5)


def weights(**shapes: tuple[int, ...]) -> dict[str, Tensor]:
    source = generator(1)
    return {name: 0.7 * torch.randn(*shape, generator=source) for name, shape in shapes.items()}


def double(tensors: dict[str, Tensor]) -> Any:
    class Names:
        pass

    names = Names()
    for name, tensor in tensors.items():
        setattr(names, name.replace(".", "_"), tensor.double())
    return names


COMMON = {"W_enc": (D_MODEL, D_SAE), "W_dec": (D_SAE, D_MODEL), "b_dec": (D_MODEL,)}
STANDARD = {**COMMON, "b_enc": (D_SAE,)}
JUMPRELU = {**STANDARD, "threshold": (D_SAE,)}
GATED = {**COMMON, "b_gate": (D_SAE,), "b_mag": (D_SAE,), "r_mag": (D_SAE,)}
LINEAR = {"encoder.weight": (D_SAE, D_MODEL), "decoder.weight": (D_MODEL, D_SAE)}

# As SAELens 6 writes it.
CFG = {
    "architecture": "standard",
    "d_in": D_MODEL,
    "d_sae": D_SAE,
    "dtype": "float32",
    "device": "cpu",
    "apply_b_dec_to_input": True,
    "normalize_activations": "none",
    "reshape_activations": "none",
    "metadata": {"sae_lens_version": "6.54.12", "hook_name": HOOK, "model_name": "gpt2-small"},
}

# As the folders of the paper's GPT-2 SAEs have it: no architecture, no word on b_dec or norms.
OLD_CFG = {
    "model_name": "gpt2-small",
    "hook_point": HOOK,
    "hook_point_layer": 8,
    "hook_point_head_index": None,
    "dataset_path": "Skylion007/openwebtext",
    "is_dataset_tokenized": False,
    "context_size": 128,
    "use_cached_activations": False,
    "d_in": D_MODEL,
    "n_batches_in_buffer": 128,
    "total_training_tokens": 300000000,
    "store_batch_size": 32,
    "device": "mps",
    "seed": 42,
    "dtype": "torch.float32",
    "b_dec_init_method": "geometric_median",
    "expansion_factor": 1,
    "l1_coefficient": 8e-05,
    "lr": 0.0004,
    "use_ghost_grads": True,
    "train_batch_size": 4096,
    "d_sae": D_SAE,
}


def saelens_folder(
    folder: Path, cfg: dict[str, Any], tensors: dict[str, Tensor], **changes: Any
) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "cfg.json").write_text(json.dumps({**cfg, **changes}))
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / "sae_weights.safetensors")
    return folder


def dictionary_folder(folder: Path, kind: str, tensors: dict[str, Tensor], **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    trainer = {
        "dict_class": kind,
        "activation_dim": D_MODEL,
        "dict_size": D_SAE,
        "layer": 7,
        "lm_name": "EleutherAI/pythia-70m",
        "submodule_name": "resid_post_layer_7",
        **changes,
    }
    (folder / "config.json").write_text(json.dumps({"trainer": trainer, "buffer": {}}))
    torch.save(tensors, folder / "ae.pt")
    return folder


def sparsify_folder(folder: Path, tensors: dict[str, Tensor], **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    cfg = {
        "activation": "topk",
        "expansion_factor": 32,
        "normalize_decoder": True,
        "num_latents": D_SAE,
        "k": 3,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": D_MODEL,
        **changes,
    }
    (folder / "cfg.json").write_text(json.dumps(cfg))
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / "sae.safetensors")
    return folder


SPARSIFY = {
    "encoder.weight": (D_SAE, D_MODEL),
    "encoder.bias": (D_SAE,),
    "W_dec": (D_SAE, D_MODEL),
    "b_dec": (D_MODEL,),
}


def top(pre: Tensor, k: int) -> Tensor:
    kth = pre.sort(dim=1, descending=True).values[:, k - 1 : k]
    return torch.where(pre >= kth, pre, 0.0).clamp(min=0)


def linear_codes(w: Any, x: Tensor, b_dec: Tensor) -> Tensor:
    return (x - b_dec) @ w.encoder_weight.T + w.encoder_bias


def dictionary_case(kind: str) -> tuple[dict[str, Tensor], Any, Any]:
    """Tensors, codes and decoder of one class of dictionary_learning, by its own source."""
    scalars = {"k": torch.tensor(3, dtype=torch.int32), "threshold": torch.tensor(0.4)}
    if kind == "AutoEncoder":
        tensors = weights(**LINEAR, **{"encoder.bias": (D_SAE,), "bias": (D_MODEL,)})
        w = double(tensors)
        # Loading it brings the decoder to unit norm.
        norms = w.decoder_weight.norm(dim=0)
        return (
            tensors,
            lambda x: linear_codes(w, x, w.bias).relu() * norms,
            lambda f: f / norms @ w.decoder_weight.T + w.bias,
        )
    if kind == "AutoEncoderNew":
        tensors = weights(**LINEAR, **{"encoder.bias": (D_SAE,), "decoder.bias": (D_MODEL,)})
        w = double(tensors)
        zero = torch.zeros(D_MODEL, dtype=torch.float64)
        return (
            tensors,
            lambda x: linear_codes(w, x, zero).relu(),
            lambda f: f @ w.decoder_weight.T + w.decoder_bias,
        )
    if kind in ("AutoEncoderTopK", "BatchTopKSAE"):
        tensors = weights(**LINEAR, **{"encoder.bias": (D_SAE,), "b_dec": (D_MODEL,)})
        w = double(tensors)

        def codes(x: Tensor) -> Tensor:
            f = linear_codes(w, x, w.b_dec).relu()
            return top(f, 3) if kind == "AutoEncoderTopK" else f * (f > 0.4)

        return tensors | scalars, codes, lambda f: f @ w.decoder_weight.T + w.b_dec
    if kind == "MatryoshkaBatchTopKSAE":
        tensors = weights(**STANDARD)
        w = double(tensors)

        def codes(x: Tensor) -> Tensor:
            f = ((x - w.b_dec) @ w.W_enc + w.b_enc).relu()
            return f * (f > 0.4)

        groups = {"group_sizes": torch.tensor([4, D_SAE - 4])}
        return tensors | scalars | groups, codes, lambda f: f @ w.W_dec + w.b_dec
    if kind == "JumpReluAutoEncoder":
        tensors = weights(**JUMPRELU)
        w = double(tensors)

        def codes(x: Tensor) -> Tensor:
            z = x @ w.W_enc + w.b_enc
            return (z * (z > w.threshold)).relu()

        return tensors, codes, lambda f: f @ w.W_dec + w.b_dec
    tensors = weights(
        **LINEAR, decoder_bias=(D_MODEL,), gate_bias=(D_SAE,), mag_bias=(D_SAE,), r_mag=(D_SAE,)
    )
    w = double(tensors)

    def codes(x: Tensor) -> Tensor:
        inner = (x - w.decoder_bias) @ w.encoder_weight.T
        return (inner + w.gate_bias > 0) * (w.r_mag.exp() * inner + w.mag_bias).relu()

    return tensors, codes, lambda f: f @ w.decoder_weight.T + w.decoder_bias
