"""Models and sources that cannot be read: one line, and nothing half-written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.rule_calls import cache, text
from helpers.sound_study import LONG, SOURCE
from helpers.spoiling import (
    gone,
    nothing,
    replaced,
    set_hdf5,
    set_json,
    set_tensor,
    truncate,
    write,
)
from sae_stitching.text.sources import make_random_model, prepare_gguf_model

# What is said, what is wrong, and which rule finds it.
CASES: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = [
    # Models
    (
        (
            "model.name: gpt2: no tokenizer found in that folder (its vocabulary is empty); "
            "add the tokenizer's files"
        ),
        lambda: gone("gpt2/tokenizer.json", "gpt2/tokenizer_config.json"),
        lambda: text(LONG),
    ),
    (
        (
            "model.name: gpt2: no tokenizer found in that folder ('utf-8' codec can't decode "
            "byte 0xc2 in position 2686: unexpected end of data)"
        ),
        lambda: truncate("gpt2/tokenizer.json"),
        lambda: text(LONG),
    ),
    (
        "model.name: the tokenizer of gpt2 has neither a BOS nor an EOS token",
        lambda: set_json("gpt2/tokenizer_config.json", bos_token=None, eos_token=None),
        lambda: text(LONG),
    ),
    (
        "model.name: ./nowhere: no such folder; check the path (a model of the hub is fetched to a "
        "folder first)",
        nothing,
        lambda: cache("./nowhere"),
    ),
    (
        (
            "model.name: gpt2 cannot be loaded by transformers (Error no file named "
            "model.safetensors, or pytorch_model.bin, found in directory gpt2.)"
        ),
        lambda: gone("gpt2/model.safetensors"),
        cache,
    ),
    (
        (
            "model.name: gpt2 cannot be loaded by transformers (Error while deserializing "
            "header: incomplete metadata, file not fully covered)"
        ),
        lambda: truncate("gpt2/model.safetensors"),
        cache,
    ),
    (
        ("model.name: gpt2 lacks weights: transformer.h.1.ln_1.weight; they would be random"),
        lambda: set_tensor("gpt2/model.safetensors", "transformer.h.1.ln_1.weight", None),
        cache,
    ),
    (
        (
            "cache train 1/1: blocks.1.hook_resid_pre at sequence 0, position 1 is nan; the "
            "model computes no finite number there, try model.dtype: float32"
        ),
        lambda: set_tensor(
            "gpt2/model.safetensors", "transformer.wte.weight", lambda t: t * float("nan")
        ),
        cache,
    ),
    (
        (
            "cache train 1/1: blocks.1.hook_resid_pre at sequence 0, position 1 is "
            "-2.45e+05, too large for float16 (65504); set activations.dtype: float32"
        ),
        lambda: set_tensor("gpt2/model.safetensors", "transformer.wte.weight", lambda t: t * 1e6),
        cache,
    ),
    (
        (
            "model.name: gpt2 cannot be loaded by transformers (It looks like the config "
            "file at 'gpt2/config.json' is not a valid JSON file.)"
        ),
        lambda: truncate("gpt2/config.json"),
        cache,
    ),
    (
        ("model.hook: blocks.2.hook_resid_pre is beyond the model, which has 2 layers (0 to 1)"),
        nothing,
        lambda: cache(hook="blocks.2.hook_resid_pre"),
    ),
    (
        (
            "model.hook: 'blocks.one.hook_resid_pre' is not one of hook_embed, "
            "blocks.<layer>.hook_resid_pre, blocks.<layer>.hook_resid_mid, "
            "blocks.<layer>.hook_resid_post, blocks.<layer>.hook_attn_out, "
            "blocks.<layer>.hook_mlp_out, blocks.<layer>.attn.hook_z"
        ),
        nothing,
        lambda: cache(hook="blocks.one.hook_resid_pre"),
    ),
    (
        (
            "model.hook: 'blocks.1.hook_resid_past' is not one of hook_embed, "
            "blocks.<layer>.hook_resid_pre, blocks.<layer>.hook_resid_mid, "
            "blocks.<layer>.hook_resid_post, blocks.<layer>.hook_attn_out, "
            "blocks.<layer>.hook_mlp_out, blocks.<layer>.attn.hook_z"
        ),
        nothing,
        lambda: cache(hook="blocks.1.hook_resid_past"),
    ),
    (
        (
            "model.center_writing_weights: llama normalises by RMS, which sees the mean, so "
            "centring would change the model; only LayerNorm models allow it"
        ),
        nothing,
        lambda: cache("llama", center=True),
    ),
    (
        (
            "corpus/tokens.h5: holds token 1064, but gpt2 knows 257; was it written with "
            "another tokenizer?"
        ),
        lambda: set_hdf5("tokens.h5", replaced("train/tokens", lambda t: t + 999)),
        cache,
    ),
    (
        "tokens.context: 48, but gpt2 takes at most 32 tokens",
        lambda: set_hdf5("tokens.h5", replaced("train/tokens", lambda t: np.tile(t, 3))),
        cache,
    ),
    # Sources
    (
        "a.gguf: no such file; fetch the source again",
        nothing,
        lambda: prepare_gguf_model(Path("a.gguf"), Path("out")),
    ),
    (
        (
            "a.gguf: not a GGUF language model that transformers reads (unpack_from requires "
            "a buffer of at least 24 bytes for unpacking 20 bytes at offset 4 (actual buffer "
            "size is 19))"
        ),
        lambda: write("a.gguf", "GGUF, or so it says"),
        lambda: prepare_gguf_model(Path("a.gguf"), Path("out")),
    ),
    (
        (
            "sources: random model: d_model 9 must be a multiple of twice n_heads (2), since "
            "rotary embeddings turn pairs of dimensions"
        ),
        nothing,
        lambda: make_random_model({**SOURCE, "d_model": 9}, Path("out")),
    ),
    (
        "sources: random model: architecture 'bert' is not one of gpt2, llama, gemma2",
        nothing,
        lambda: make_random_model({**SOURCE, "architecture": "bert"}, Path("out")),
    ),
]


@pytest.mark.parametrize(("message", "spoil", "rule"), CASES)
def test_bad_input_ends_with_one_line(ends_with_one_line, message, spoil, rule):
    ends_with_one_line(message, spoil, rule)
