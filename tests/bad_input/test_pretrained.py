"""Files of other libraries that the study cannot take: one line, and nothing half-written."""

import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers.rule_calls import pretrained
from helpers.spoiling import (
    CENTRED,
    LFS_POINTER,
    Code,
    gone,
    nothing,
    set_json,
    set_metadata,
    set_tensor,
    truncate,
    write,
)

# What is said, what is wrong, and which rule finds it.
CASES: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = [
    (
        (
            ".: there is no sae_weights.safetensors or params.npz or ae.pt or "
            "sae.safetensors or params.safetensors or checkpoints/final.safetensors; name the "
            "folder of an SAE, or its file of weights"
        ),
        nothing,
        lambda: pretrained("none"),
    ),
    (
        ("cfg.json: no such file, but saelens has it beside sae_weights.safetensors; get it too"),
        nothing,
        lambda: pretrained("saelens", lambda: gone("cfg.json")),
    ),
    (
        "sae_weights.safetensors: tensor b_enc is missing; the file has W_dec, W_enc, b_dec",
        nothing,
        lambda: pretrained("saelens", lambda: set_tensor("sae_weights.safetensors", "b_enc", None)),
    ),
    (
        (
            "sae_weights.safetensors: W_enc has shape (12, 8), expected (8, 12), (d_model, "
            "d_sae); it is transposed"
        ),
        nothing,
        lambda: pretrained(
            "saelens",
            lambda: set_tensor("sae_weights.safetensors", "W_enc", lambda t: t.T.contiguous()),
        ),
    ),
    (
        "sae_weights.safetensors: W_dec is not finite at [0, 0]",
        nothing,
        lambda: pretrained(
            "saelens",
            lambda: set_tensor("sae_weights.safetensors", "W_dec", lambda t: t * float("nan")),
        ),
    ),
    (
        (
            "sae_weights.safetensors: not a whole safetensors file (Error while "
            "deserializing header: incomplete metadata, file not fully covered); get it again"
        ),
        nothing,
        lambda: pretrained("saelens", lambda: truncate("sae_weights.safetensors")),
    ),
    (
        (
            "cfg.json: normalize_activations is 'expected_average_only_in'; the factor is not in "
            "the files; fold it in SAELens and save again"
        ),
        nothing,
        lambda: pretrained(
            "saelens",
            lambda: set_json("cfg.json", normalize_activations="expected_average_only_in"),
        ),
    ),
    (
        (
            "cfg.json: not JSON (Unterminated string starting at: line 1 column 67 (char "
            "66)); get the file again"
        ),
        nothing,
        lambda: pretrained("saelens", lambda: truncate("cfg.json")),
    ),
    (
        (
            "12: reads d_model 8, but tiny has 16 at blocks.1.hook_resid_pre; is it for this model "
            "and place?"
        ),
        nothing,
        lambda: pretrained("saelens", d_model=16),
    ),
    (
        "12: has 12 latents, not the 24 of d_sae; correct d_sae",
        nothing,
        lambda: pretrained("saelens", d_sae=24),
    ),
    (
        (
            "cfg.json: metadata.hook_name is 'blocks.1.hook_resid_pre', but model.hook is "
            "blocks.0.hook_mlp_out; correct model.hook, name another SAE, or, if the study is "
            "right, add hook to the SAE's pretrained.trust"
        ),
        nothing,
        lambda: pretrained("saelens", hook="blocks.0.hook_mlp_out"),
    ),
    (
        (
            "cfg.json: metadata.model_from_pretrained_kwargs.center_writing_weights is true, but "
            "model.center_writing_weights is false; change model.center_writing_weights, or, if "
            "the study is right, add center_writing_weights to the SAE's pretrained.trust"
        ),
        nothing,
        lambda: pretrained("saelens", lambda: set_metadata(CENTRED)),
    ),
    (
        (
            "cfg.json: metadata.hook_name is 'stem.1', which is not understood as a place in the "
            "model, and model.hook is blocks.1.hook_resid_pre; correct model.hook, name another "
            "SAE, or, if the study is right, add hook to the SAE's pretrained.trust"
        ),
        nothing,
        lambda: pretrained("saelens", lambda: set_metadata({"hook_name": "stem.1"})),
    ),
    (
        (
            "sae_weights.safetensors: is a pointer of Git LFS, not the file that it stands for; "
            "fetch that with git lfs pull"
        ),
        nothing,
        lambda: pretrained("saelens", lambda: write("sae_weights.safetensors", LFS_POINTER)),
    ),
    (
        "params.npz: not a whole npz file (File is not a zip file); get it again",
        nothing,
        lambda: pretrained("gemma-scope", lambda: truncate("params.npz")),
    ),
    (
        (
            "params.npz: not a whole npz file (Object arrays cannot be loaded when "
            "allow_pickle=False); get it again"
        ),
        nothing,
        lambda: pretrained("gemma-scope", lambda: np.savez("params.npz", W_enc=np.array([Code()]))),
    ),
    (
        "ae.pt: not a whole PyTorch file (Weights only load failed); get it again",
        nothing,
        lambda: pretrained(
            "dictionary-learning", lambda: write("ae.pt", pickle.dumps({"bias": Code()}))
        ),
    ),
    (
        (
            "ae.pt: holds posix.system, which is no tensor and could run code; only files of "
            "tensors are read"
        ),
        nothing,
        lambda: pretrained("dictionary-learning", lambda: torch.save({"bias": Code()}, "ae.pt")),
    ),
    (
        (
            "ae.pt: not a whole PyTorch file (PytorchStreamReader failed reading zip "
            "archive: failed finding central directory); get it again"
        ),
        nothing,
        lambda: pretrained("dictionary-learning", lambda: truncate("ae.pt")),
    ),
    (
        "sae.safetensors: tensor W_dec is missing; the file has b_dec, encoder.bias, "
        "encoder.weight",
        nothing,
        lambda: pretrained("sparsify", lambda: set_tensor("sae.safetensors", "W_dec", None)),
    ),
    (
        "cfg.json: k is 0, expected a whole number above 0",
        nothing,
        lambda: pretrained("sparsify", lambda: set_json("cfg.json", k=0)),
    ),
]


@pytest.mark.parametrize(("message", "spoil", "rule"), CASES)
def test_bad_input_ends_with_one_line(ends_with_one_line, message, spoil, rule):
    ends_with_one_line(message, spoil, rule)
