"""Stand-ins of the repositories that the presets name, in their names and layouts.

Weights are random, layers as many as the presets' hooks need, latents few: what is real is how a
repository is laid out, what its files say, what else lies beside them, and at which commits.
"""

import io
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from helpers.checkout import ROOT
from helpers.loopback_hub import Hub
from sae_stitching.text.sources import make_random_model
from safetensors.numpy import save as save_numpy
from safetensors.torch import load_file, save
from tokenizers import Tokenizer, decoders, models, normalizers

PRESETS = {
    name: yaml.safe_load((ROOT / "presets" / f"{name}.yaml").read_text(encoding="utf-8"))
    for name in ("gemma-2-2b", "gpt2-small", "gpt2-small-pretrained")
}
GPT2, GEMMA = "openai-community/gpt2", "google/gemma-2-2b"
GPT2_SAES = "jbloom/GPT2-Small-Feature-Splitting-Experiment-Layer-8"
GEMMA_SAES = "google/gemma-scope-2b-pt-res"
TEXT = "Skylion007/openwebtext"
D_MODEL, CONTEXT = 32, 64
SIZES = (24, 48)  # d_sae of the stand-ins of a preset's first two SAEs

Files = dict[str, bytes]
_JUNK = b"Nobody reads this. " * 4096


def fill(hub: Hub) -> None:
    """Put all repositories that the presets name on a hub, at the commits that they name."""
    hub.repository(GPT2).commit(gpt2())
    hub.renamed["gpt2"] = GPT2
    hub.repository(GEMMA).access = "gated"
    hub.repository(GEMMA).commit(gemma())
    for name, preset in (
        (GPT2_SAES, "gpt2-small-pretrained"),
        (GEMMA_SAES, "gemma-2-2b"),
    ):
        files: Files = {"README.md": b"SAEs.\n", ".gitattributes": b"*.npz filter=lfs\n"}
        for sae in PRESETS[preset]["saes"]:
            files |= sae_files(preset, sae["name"])
        revision = PRESETS[preset]["saes"][0]["pretrained"]["revision"]
        hub.repository(name).commit(files, None if revision == "main" else revision)
    revision = PRESETS["gemma-2-2b"]["text"]["dataset"]["revision"]
    hub.repository(TEXT, "datasets").commit(openwebtext(), revision)


@cache
def gpt2() -> Files:
    """GPT-2 small: tensors named as in 2019, causal masks too, and weights of six libraries."""
    files, tensors = _model("gpt2", n_layers=9)
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    for layer in range(9):
        tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, CONTEXT, CONTEXT).tril()
    config = json.loads(files["config.json"])
    for key in ("dtype", "transformers_version", "pad_token_id", "tie_word_embeddings"):
        config.pop(key)
    config["n_ctx"] = config["n_positions"]
    files |= {
        "config.json": _json(config),
        "tokenizer_config.json": _json({"model_max_length": CONTEXT}),
        "vocab.json": _json(json.loads(files["tokenizer.json"])["model"]["vocab"]),
        "merges.txt": b"#version: 0.2\n",
        "model.safetensors": save(tensors, {"format": "pt"}),
        "README.md": b"---\nlanguage: en\nlicense: mit\n---\n# GPT-2\n",
    }
    unread = ("pytorch_model.bin", "flax_model.msgpack", "tf_model.h5", "rust_model.ot")
    return files | dict.fromkeys((*unread, "64.tflite", "onnx/decoder_model.onnx"), _JUNK)


@cache
def gemma() -> Files:
    """Gemma 2 2B: float32 weights in three shards with their index, and SentencePiece's tokens."""
    files, tensors = _model("gemma2", n_layers=14)
    tokenizer = _gemma_tokenizer()
    embedding = "model.embed_tokens.weight"
    n_tokens, source = tokenizer.get_vocab_size(), torch.Generator().manual_seed(1)
    tensors[embedding] = torch.randn(n_tokens, D_MODEL, generator=source) * D_MODEL**-0.5
    special = {f"{name}_token": f"<{name}>" for name in ("pad", "eos", "bos", "unk")}
    ids = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}
    files |= {
        "config.json": _json(json.loads(files["config.json"]) | ids | {"vocab_size": n_tokens}),
        "generation_config.json": _json(ids),
        "tokenizer.json": tokenizer.to_str().encode(),
        "tokenizer_config.json": _json({"tokenizer_class": "GemmaTokenizer"} | special),
        "special_tokens_map.json": _json(special),
        "tokenizer.model": _JUNK,
        "README.md": b"---\nlicense: gemma\n---\n# Gemma 2\n",
    }
    names = list(tensors)
    shards = [names[:50], names[50:100], names[100:]]
    index, size = {}, sum(tensor.nbytes for tensor in tensors.values())
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-00003.safetensors"
        files[file] = save({name: tensors[name] for name in shard}, {"format": "pt"})
        index |= dict.fromkeys(shard, file)
    index_file = {"metadata": {"total_size": size}, "weight_map": index}
    return files | {"model.safetensors.index.json": _json(index_file)}


def _gemma_tokenizer() -> Tokenizer:
    """Characters of the text, spaces written as there, and bytes for all others."""
    said = (ROOT / "presets" / "tiny.txt").read_text(encoding="utf-8")
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    tokens = [
        *special,
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        *sorted(set(said) - {" "}),
    ]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    model = models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True)
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.add_special_tokens(special)
    return tokenizer


def sae_weights(preset: str, name: str) -> dict[str, np.ndarray]:
    """Tensors of a stand-in of one of a preset's SAEs.

    Two thirds of the decoder directions of the first are in the second too, and an encoder reads
    along the decoder directions; the preset's other SAEs are as large as the second.
    """
    names = [sae["name"] for sae in PRESETS[preset]["saes"]]
    rng = np.random.default_rng(0)
    small, large = (rng.standard_normal((d_sae, D_MODEL)) for d_sae in SIZES)
    n_shared = 2 * SIZES[0] // 3
    large[:n_shared] = small[:n_shared] + 0.2 * large[:n_shared]
    W_dec = small if name == names[0] else large
    W_dec = W_dec / np.linalg.norm(W_dec, axis=1, keepdims=True)
    rng = np.random.default_rng(names.index(name))
    tensors = {
        "W_enc": W_dec.T,
        "W_dec": W_dec,
        "b_enc": 0.1 * rng.standard_normal(len(W_dec)),
        "b_dec": 0.1 * rng.standard_normal(D_MODEL),
    }
    if preset == "gemma-2-2b":
        tensors["threshold"] = rng.uniform(0.1, 0.4, len(W_dec))
    return {name: np.ascontiguousarray(tensor, "f4") for name, tensor in tensors.items()}


def sae_files(preset: str, name: str) -> Files:
    """Files of one SAE: Gemma Scope's, or those of SAELens before its conventions were said."""
    (sae,) = (sae for sae in PRESETS[preset]["saes"] if sae["name"] == name)
    folder, tensors = sae["pretrained"]["path"], sae_weights(preset, name)
    if preset == "gemma-2-2b":
        packed = io.BytesIO()
        np.savez(packed, allow_pickle=False, **tensors)
        return {f"{folder}/params.npz": packed.getvalue()}
    d_model, d_sae = tensors["W_enc"].shape
    settings = {
        "model_name": "gpt2-small",
        "hook_point": "blocks.8.hook_resid_pre",
        "hook_point_layer": 8,
        "hook_point_head_index": None,
        "dataset_path": "Skylion007/openwebtext",
        "context_size": 128,
        "d_in": d_model,
        "dtype": "torch.float32",
        "device": "mps",
        "b_dec_init_method": "geometric_median",
        "l1_coefficient": 8e-05,
        "use_ghost_grads": True,
        "d_sae": d_sae,
    }
    return {
        f"{folder}/cfg.json": _json(settings),
        f"{folder}/sae_weights.safetensors": save_numpy(tensors),
        f"{folder}/sparsity.safetensors": save_numpy({"sparsity": np.zeros(d_sae, "f4")}),
    }


@cache
def openwebtext() -> Files:
    """OpenWebText: one configuration and one split, in several files of Parquet."""
    said = (ROOT / "presets" / "tiny.txt").read_text(encoding="utf-8").split("\n\n\n")
    settings = {
        "language": ["en"],
        "license": ["cc0-1.0"],
        "configs": [
            {
                "config_name": "plain_text",
                "data_files": [{"split": "train", "path": "plain_text/train-*"}],
                "default": True,
            }
        ],
        "dataset_info": {
            "config_name": "plain_text",
            "features": [{"name": "text", "dtype": "string"}],
        },
    }
    files: Files = {"README.md": f"---\n{yaml.safe_dump(settings)}---\n# OpenWebText\n".encode()}
    n_files = 3
    for number in range(n_files):
        packed, first = io.BytesIO(), number * len(said) // n_files
        texts = said[first : (number + 1) * len(said) // n_files]
        pq.write_table(pa.table({"text": texts}), packed, row_group_size=4)
        files[f"plain_text/train-{number:05}-of-{n_files:05}.parquet"] = packed.getvalue()
    return files


def texts(files: Mapping[str, bytes]) -> list[str]:
    """Documents of such a dataset, in their order."""
    parts = [pq.read_table(io.BytesIO(files[name])) for name in sorted(files) if "train-" in name]
    return pa.concat_tables(parts)["text"].to_pylist()


def _model(architecture: str, n_layers: int) -> tuple[Files, dict[str, torch.Tensor]]:
    """A model with random weights: its files but the weights, and the weights."""
    source = {
        "architecture": architecture,
        "n_layers": n_layers,
        "d_model": D_MODEL,
        "n_heads": 2,
        "context": CONTEXT,
        "seed": 0,
    }
    with TemporaryDirectory() as folder:
        made = Path(folder) / "model"
        make_random_model(source, made)
        tensors = load_file(made / "model.safetensors")
        files = {p.name: p.read_bytes() for p in made.iterdir() if p.suffix == ".json"}
    return files, tensors


def _json(content: object) -> bytes:
    return json.dumps(content, indent=2).encode()
