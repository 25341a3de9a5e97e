"""Small models of random weights, one of each architecture that SAEs were published of."""

from pathlib import Path
from typing import Any

import torch
from sae_stitching.text import sources
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
)

N_LAYERS, D_MODEL, N_HEADS, CONTEXT = 3, 32, 2, 24
D_VOCAB = 257  # bytes, and what begins a sequence
_COMMON: dict[str, Any] = {
    "vocab_size": D_VOCAB,
    "bos_token_id": 256,
    "eos_token_id": 256,
    # A layer's output is about as long as its input.
    "initializer_range": D_MODEL**-0.5,
}
_SIZES: dict[str, Any] = {
    **_COMMON,
    "hidden_size": D_MODEL,
    "intermediate_size": 4 * D_MODEL,
    "num_hidden_layers": N_LAYERS,
    "num_attention_heads": N_HEADS,
    "max_position_embeddings": CONTEXT,
}
_SHARED_KEYS: dict[str, Any] = {**_SIZES, "pad_token_id": 256, "num_key_value_heads": 1}
# Heads that are wider together than the residual stream, as in Gemma 2 2B and Qwen 3 0.6B.
_WIDE: dict[str, Any] = {**_SHARED_KEYS, "head_dim": 24}
_GEMMA: dict[str, Any] = {**_WIDE, "query_pre_attn_scalar": 24}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": N_LAYERS - 1,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
CONFIGS: dict[str, Any] = {
    "gpt2": lambda: GPT2Config(
        **_COMMON, n_positions=CONTEXT, n_embd=D_MODEL, n_layer=N_LAYERS, n_head=N_HEADS
    ),
    "gpt_neox": lambda: GPTNeoXConfig(**_SIZES),  # Pythia
    "llama": lambda: LlamaConfig(**_SHARED_KEYS, rope_parameters=_LLAMA_3),
    "qwen2": lambda: Qwen2Config(**_SHARED_KEYS),
    "qwen3": lambda: Qwen3Config(**_WIDE),
    "gemma2": lambda: Gemma2Config(**_GEMMA),
    "gemma3_text": lambda: Gemma3TextConfig(**_GEMMA),
    # With a tower for images beside the text model.
    "gemma3": lambda: Gemma3Config(
        text_config=Gemma3TextConfig(**_GEMMA),
        vision_config=_VISION,
        mm_tokens_per_image=4,
        boi_token_index=250,
        eoi_token_index=251,
        image_token_index=252,
    ),
}
_LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 12,
}
ARCHITECTURES = list(CONFIGS)
#: Width of all heads together.
D_HEADS = {
    architecture: 2 * 24 if architecture in ("qwen3", "gemma2", "gemma3_text", "gemma3") else 32
    for architecture in CONFIGS
}


def make_model(architecture: str, folder: Path) -> str:
    """Write the model, with a byte tokenizer beside it."""
    from transformers import AutoModelForImageTextToText

    auto: Any = AutoModelForImageTextToText if architecture == "gemma3" else AutoModelForCausalLM
    folder.mkdir(parents=True)
    sources._save_byte_tokenizer(folder, CONTEXT)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        auto.from_config(CONFIGS[architecture]()).save_pretrained(folder)
    return str(folder)
