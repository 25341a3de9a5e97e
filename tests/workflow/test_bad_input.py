"""What is said of bad input: one line that names it and the remedy, and nothing half-written.

Each case here is a call of the library as the rule's script makes it, inside what every script
wraps around it. The cases of the config are the table of test_study.py; some of every kind go
through Snakemake itself in test_workflow.py; files of other libraries have more in test_formats.py.
"""

import bz2
import json
import logging
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from helpers.oracle import random_sae
from helpers.shards import HOOK, MODEL, write_shard
from job import job
from sae_stitching.activations.cache import cache_shard
from sae_stitching.activations.language_model import LanguageModel
from sae_stitching.activations.shards import ActivationShards
from sae_stitching.base.store import write_hdf5
from sae_stitching.figures.figure4 import figure4, figure4_table
from sae_stitching.figures.figure5 import figure5, figure5_table
from sae_stitching.figures.figure13 import figure13, figure13_table
from sae_stitching.figures.style import save_figure
from sae_stitching.formats import find_local
from sae_stitching.formats.agreement import Activations
from sae_stitching.formats.pretrained import fitted, read_files
from sae_stitching.matching.decoder_similarity import (
    load_similarity,
    similarity,
    unit_rows,
    write_similarity,
)
from sae_stitching.matching.subgraphs import connected_subgraphs, load_subgraphs, write_subgraphs
from sae_stitching.saes.encoding import encode_shards, open_codes
from sae_stitching.saes.evaluation import evaluate, read_rows
from sae_stitching.saes.sae import SAE, read_sae, save_sae
from sae_stitching.saes.training import Trainer
from sae_stitching.stitching.insertions import insertion_effects, load_insertions, write_insertions
from sae_stitching.stitching.pairs import EvalPair, open_pair
from sae_stitching.stitching.recipe import stitch_recipe
from sae_stitching.stitching.roc import novelty_roc
from sae_stitching.stitching.stitched import load_origins, save_stitched
from sae_stitching.stitching.swaps import swap_effects, swap_operations
from sae_stitching.stitching.threshold import threshold_curve
from sae_stitching.stitching.transitions import load_transition, transition, transition_operations
from sae_stitching.tables.summary import pair_row, pairs, write_csv
from sae_stitching.text.documents import read_documents
from sae_stitching.text.sources import make_random_model, prepare_gguf_model
from sae_stitching.text.tokens import write_tokens
from safetensors.torch import load_file, save_file
from test_resume import small_config
from test_study import COMPLAINTS

D_MODEL, CONTEXT = 8, 16
SOURCE = {
    "architecture": "gpt2",
    "n_layers": 2,
    "d_model": D_MODEL,
    "n_heads": 2,
    "context": 32,
    "seed": 0,
}
ORIGIN: dict[str, Any] = {"study": "test", "provenance": {}}
LONG = "Some text that fills a sequence, and then some more. " * 3


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A model folder of each architecture that a case breaks a copy of."""
    folder = tmp_path_factory.mktemp("models")
    for architecture in ("gpt2", "llama"):
        make_random_model({**SOURCE, "architecture": architecture}, folder / architecture)
    return folder


@pytest.fixture(scope="session")
def sound(models, tmp_path_factory) -> Path:
    """A sound study, of which every case gets a copy."""
    folder, before = tmp_path_factory.mktemp("sound"), Path.cwd()
    for architecture in ("gpt2", "llama"):
        shutil.copytree(models / architecture, folder / architecture)
    os.chdir(folder)
    make_study()
    os.chdir(before)
    return folder


@pytest.fixture
def here(sound, tmp_path, monkeypatch) -> Path:
    shutil.copytree(sound, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def make_study() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, D_MODEL, generator=generator)
    for split, n in (("train", 40), ("eval", 20)):
        write_shard(f"{split}.h5", x[:n].numpy(), np.arange(n) // 5)
    for name, d_sae in (("small", 12), ("large", 20), ("other", 12)):
        sae = random_sae(generator, D_MODEL, d_sae, "relu", dtype=torch.float32)
        save_sae(replace(sae, hook=HOOK, model=MODEL), f"{name}.h5", **ORIGIN)
        encode_shards(read_sae(f"{name}.h5"), ["eval.h5"], f"codes_{name}.h5", **ORIGIN)
    compare("small", "large", "similarity.h5")
    found = connected_subgraphs(load_similarity("similarity.h5"), 0.5)
    write_subgraphs(found, "subgraphs.h5", **ORIGIN)
    with opened() as pair:
        found = insertion_effects(pair, load_similarity("similarity.h5"))
    write_insertions(found, "insertions.h5", **ORIGIN)
    with write_hdf5("tokens.h5", format="tokens", **ORIGIN) as file:
        for split in ("train", "eval"):
            file[f"{split}/tokens"] = np.full((4, CONTEXT), 65, dtype=np.int32)


def compare(small: str, large: str, path: str) -> None:
    saes = read_sae(f"{small}.h5"), read_sae(f"{large}.h5")
    write_similarity(*saes, path, floor=0.3, full_matrix_mb=1, **ORIGIN)


@contextmanager
def opened(**changes: str) -> Iterator[EvalPair]:
    files = {
        "small": "small.h5",
        "large": "large.h5",
        "codes_small": "codes_small.h5",
        "codes_large": "codes_large.h5",
        "activations": ["eval.h5"],
    }
    with open_pair(SimpleNamespace(**{**files, **changes}), study="test") as pair:
        yield pair


# What is done to the sound study, and what a rule then does with it


def write(name: str, content: bytes | str) -> None:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)


def truncate(name: str, share: float = 0.5) -> None:
    content = Path(name).read_bytes()
    Path(name).write_bytes(content[: int(share * len(content))])


def set_json(name: str, **values: Any) -> None:
    found = json.loads(Path(name).read_text())
    Path(name).write_text(json.dumps({**found, **values}))


def set_tensor(name: str, tensor: str, change: Callable[[Any], Any] | None) -> None:
    tensors = load_file(name)
    found = tensors.pop(tensor)
    save_file({**tensors, tensor: change(found)} if change else tensors, name)


def set_hdf5(name: str, change: Callable[[h5py.File], Any]) -> None:
    """Change a file with its checksums: as another program would, not as a disk does."""
    with h5py.File(name, "r+") as file:
        change(file)
        if "attributes_sha256" in file.attrs:
            del file.attrs["attributes_sha256"]


def replaced(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[h5py.File], None]:
    def do(file: h5py.File) -> None:
        data = change(file[name][...])
        if data.shape == file[name].shape and data.dtype == file[name].dtype:
            file[name][...] = data
        else:
            del file[name]
            file[name] = data

    return do


def without(name: str) -> Callable[[h5py.File], None]:
    def do(file: h5py.File) -> None:
        place = file.attrs if name in file.attrs else file
        del place[name]

    return do


def attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
    def do(file: h5py.File) -> None:
        file.attrs[name] = value

    return do


def flip(name: str, dataset: str) -> None:
    """Flip a bit in the middle of what a dataset holds."""
    with h5py.File(name) as file:
        needle = file[dataset][...].tobytes()
    content = bytearray(Path(name).read_bytes())
    content[content.index(needle) + len(needle) // 2] ^= 1
    Path(name).write_bytes(content)


def text(content: bytes | str | None = None, *, model: str = "gpt2", **options: Any) -> None:
    """Rule tokenise, on one file."""
    if content is not None:
        write("a.txt", content)
    spec = {"source": "files", "files": ["a.txt"], "separator": None, **options}
    sizes = {"name": "gpt2", "context": CONTEXT, "eval_fraction": 0.5}
    write_tokens(read_documents(spec), model, "out.h5", **sizes, **ORIGIN)


def dataset(path: str, **options: Any) -> None:
    spec = {"path": path, "name": None, "split": "train", "column": "text", "revision": None}
    text(source="dataset", dataset={**spec, **options})


def dump(content: bytes) -> None:
    write("a.bz2", content)
    documents = read_documents({"source": "w"}, {"kind": "mediawiki-dump"}, Path("a.bz2"))
    write_tokens(documents, "gpt2", "out.h5", name="gpt2", context=CONTEXT, eval_fraction=0.5,
                 **ORIGIN)  # fmt: skip


def cache(model: str = "gpt2", hook: str = HOOK, dtype: str = "float16", **options: Any) -> None:
    """Rule cache_activations."""
    center = options.pop("center", False)
    loaded = LanguageModel(model, hook, "float32", center_writing_weights=center)
    settings = {"model_name": MODEL, "batch_size": 2, "skip_first_position": True, **options}
    n_shards = settings.pop("n_shards", 1)
    cache_shard("tokens.h5", "train", 0, n_shards, loaded, "out.h5", dtype=dtype, **settings,
                **ORIGIN)  # fmt: skip


def train(architecture: str = "topk", **changes: Any) -> None:
    """Rule train_sae."""
    config = {"steps": 3, "batch_size": 16, "shuffle_buffer": 32, "d_sae": 12, **changes}
    shards = ActivationShards(["train.h5"], study="test")
    Trainer(small_config(architecture, **config), shards).train("train")


def encode(sae: str = "small") -> None:
    encode_shards(read_sae(f"{sae}.h5", study="test"), ["eval.h5"], "out.h5", **ORIGIN)


def measure() -> None:
    """Rule evaluate."""
    sae, shards = read_sae("small.h5"), ActivationShards(["eval.h5"], study="test")
    with open_codes("codes_small.h5", sae, study="test") as codes:
        evaluate(sae, shards, codes)


def insert(**changes: str) -> None:
    """Rule insertions."""
    with opened(**changes) as pair:
        saes = {"small": pair.small, "large": pair.large}
        found = load_similarity("similarity.h5", study="test", **saes)
        write_insertions(insertion_effects(pair, found), "out.h5", **ORIGIN)


def group(threshold: float = 0.5) -> None:
    """Rule subgraphs."""
    found = connected_subgraphs(load_similarity("similarity.h5", study="test"), threshold)
    write_subgraphs(found, "out.h5", **ORIGIN)


def stitch(**parts: dict[str, Any]) -> None:
    """Rule stitch_sae."""
    entry = {"threshold": None, "n": None, "components": "all"}
    asked = {
        kind: [{**entry, **parts[kind]}] if kind in parts else [] for kind in ("swap", "insert")
    }
    saes = {name: read_sae(f"{name}.h5", study="test") for name in ("small", "large")}
    tokens = ActivationShards(["train.h5"], study="test").first(30)
    stitched = stitch_recipe({"name": "it", "base": "small", **asked}, saes, tokens)
    save_stitched(stitched, "out.h5", **ORIGIN)


def swap() -> None:
    with opened() as pair:
        swap_effects(pair, load_subgraphs("subgraphs.h5", study="test"))


def step() -> None:
    """Rule transition_step."""
    with opened() as pair:
        transition(pair, load_subgraphs("subgraphs.h5", study="test"))


def classify() -> None:
    """Rule roc."""
    found = load_insertions("insertions.h5", study="test")
    sizes = {"bootstrap_samples": 5, "confidence": 0.9, "seed": 0}
    novelty_roc(found, **sizes)


def pretrained(
    kind: str,
    change: Callable[[], Any] = lambda: None,
    d_sae: int = 12,
    d_model: int = D_MODEL,
    **told: Any,
) -> None:
    """Rule import_sae, of a sound SAE that `change` spoils."""
    shapes = {"W_enc": (D_MODEL, 12), "W_dec": (12, D_MODEL), "b_enc": (12,), "b_dec": (D_MODEL,)}
    tensors = {name: torch.ones(shape) for name, shape in shapes.items()}
    if kind == "saelens":
        save_file(tensors, "sae_weights.safetensors")
        settings = {"d_in": D_MODEL, "d_sae": 12, "architecture": "standard"}
        metadata = {"sae_lens_version": "6.0.0", "hook_name": HOOK, "model_name": MODEL}
        write("cfg.json", json.dumps({**settings, "metadata": metadata}))
    elif kind == "gemma-scope":
        np.savez("params.npz", **{k: v.numpy() for k, v in tensors.items()}, threshold=np.ones(12))
    elif kind == "dictionary-learning":
        names = {"encoder.weight": tensors["W_dec"], "decoder.weight": tensors["W_enc"]}
        torch.save({**names, "encoder.bias": torch.ones(12), "bias": torch.ones(D_MODEL)}, "ae.pt")
        trainer = {"dict_class": "AutoEncoder", "activation_dim": D_MODEL, "dict_size": 12}
        write("config.json", json.dumps({"trainer": trainer}))
    elif kind == "sparsify":
        names = {"encoder.weight": tensors["W_dec"], "encoder.bias": tensors["b_enc"]}
        save_file({**names, "W_dec": tensors["W_dec"].clone(), "b_dec": tensors["b_dec"]},
                  "sae.safetensors")  # fmt: skip
        write("cfg.json", json.dumps({"d_in": D_MODEL, "num_latents": 12, "k": 3}))
    change()
    study = Activations(**{"hook": HOOK, "model": MODEL, "published": False, **told})
    sae, said = read_files(find_local("."))
    sizes = {"d_sae": d_sae, "d_model": d_model}
    save_sae(fitted(sae, said, "12", study=study, **sizes), "out.h5", **ORIGIN)


CENTRED = {"model_from_pretrained_kwargs": {"center_writing_weights": True}}
LFS_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 9\n"


def set_metadata(changes: dict[str, Any]) -> None:
    metadata = json.loads(Path("cfg.json").read_text())["metadata"]
    set_json("cfg.json", metadata={**metadata, **changes})


class Code:
    """What a pickle file may hold: something to run."""

    def __reduce__(self) -> Any:
        return os.system, ("touch ran",)


def source(**changes: Any) -> dict[str, Any]:
    return {"package": "p", "version": "1", "member": "m", "sha256": "0" * 64, **changes}


def gone(*names: str) -> None:
    for name in names:
        Path(name).unlink()


def both(*actions: Any) -> None:
    """Nothing: its arguments are evaluated one after the other."""


PAGE = "<mediawiki><page><ns>0</ns><revision><text>{}</text></revision></page></mediawiki>"


def nothing() -> None:
    """The study is sound; what is asked of it is not."""


def save_dataset(folder: str) -> None:
    import datasets

    datasets.DatasetDict({"train": datasets.Dataset.from_dict({"text": ["x"]})}).save_to_disk(
        folder
    )


def group_of(small: str, large: str) -> None:
    compare(small, large, "similarity.h5")
    found = connected_subgraphs(load_similarity("similarity.h5"), 0.5)
    write_subgraphs(found, "subgraphs.h5", **ORIGIN)


def trained_from(checkpoint: str) -> None:
    shards = ActivationShards(["train.h5"])
    config = small_config("topk", batch_size=16, shuffle_buffer=32, d_sae=12)
    Trainer(config, shards).train("train", Path(checkpoint))


# What is said, what is wrong, and which rule finds it

CASES: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = [
    # Text
    ("text.files: a.txt: is empty; remove it from text.files", nothing, lambda: text("")),
    ("text.files: a.txt: is empty; remove it from text.files", nothing, lambda: text("  \n\n \n")),
    (
        "text.files: a.txt: is empty; remove it from text.files",
        nothing,
        lambda: text(b"\xef\xbb\xbf"),
    ),
    (
        (
            "text.files: a.txt: zero byte at position 6, so it is a binary file or not "
            "UTF-8; give plain UTF-8 text"
        ),
        nothing,
        lambda: text(b"\x7fELF\x02\x01\x00" + bytes(50)),
    ),
    (
        "text.files: a.txt: not UTF-8 at byte position 5 (0xe4); convert it to UTF-8",
        nothing,
        lambda: text("Ein Jäger".encode("latin-1")),
    ),
    (
        (
            "text.files: a.txt: zero byte at position 3, so it is a binary file or not "
            "UTF-8; give plain UTF-8 text"
        ),
        nothing,
        lambda: text("Zwei Worte".encode("utf-16")),
    ),
    (
        "text.files: a.txt: not UTF-8 at byte position 1 (0xc3); convert it to UTF-8",
        nothing,
        lambda: text("Jä".encode()[:-1]),
    ),
    (
        (
            "text: has 1 document, of which none fills a sequence of 16 tokens; train and "
            "eval need one each: give more or longer documents (text.separator splits a "
            "file), or lower tokens.context"
        ),
        nothing,
        lambda: text("Short."),
    ),
    (
        (
            "text: has 1 document, of which only one fills a sequence of 16 tokens; train "
            "and eval need one each: give more or longer documents (text.separator splits a "
            "file), or lower tokens.context"
        ),
        nothing,
        lambda: text(LONG),
    ),
    (
        (
            "text: has 3 documents, of which only one fills a sequence of 16 tokens; train "
            "and eval need one each: give more or longer documents (text.separator splits a "
            "file), or lower tokens.context"
        ),
        nothing,
        lambda: text(LONG + "|short|shorter", separator="|"),
    ),
    (
        (
            "text: has 0 documents, of which none fills a sequence of 16 tokens; train and "
            "eval need one each: give more or longer documents (text.separator splits a "
            "file), or lower tokens.context"
        ),
        nothing,
        lambda: text("||||", separator="|"),
    ),
    (
        "text.files: 'gone/*.txt' matches no file; correct it",
        nothing,
        lambda: text(files=["gone/*.txt"]),
    ),
    ("text.files: 'gpt2' matches no file; correct it", nothing, lambda: text(files=["gpt2"])),
    (
        "text.source: 'w' is not 'files', 'dataset' or a name in sources",
        nothing,
        lambda: text(source="w"),
    ),
    (
        "model.name: ./nowhere: no such folder; check the path (a model of the hub is fetched to a "
        "folder first)",
        nothing,
        lambda: text(LONG, model="./nowhere"),
    ),
    (
        (
            "text.dataset.path: a.txt.gz: a file must end in .parquet, .json, .jsonl, .csv, "
            ".tsv, .txt, .arrow"
        ),
        lambda: write("a.txt.gz", "x"),
        lambda: dataset("a.txt.gz"),
    ),
    (
        "text.dataset.column: a.jsonl has no column 'text'; it has content, id",
        lambda: write("a.jsonl", '{"content": "x", "id": 1}\n'),
        lambda: dataset("a.jsonl"),
    ),
    (
        "text.dataset.column: a.jsonl: column 'id' holds int at record 0, expected text",
        lambda: write("a.jsonl", '{"text": "x", "id": 1}\n'),
        lambda: dataset("a.jsonl", column="id"),
    ),
    (
        "text.dataset.column: a.csv has no column 'text'; it has title",
        lambda: write("a.csv", "title\nOne\n"),
        lambda: dataset("a.csv"),
    ),
    (
        "text.dataset.split: kept has no split 'test'; it has train",
        lambda: save_dataset("kept"),
        lambda: dataset("kept", split="test"),
    ),
    (
        (
            "a.bz2: not a whole MediaWiki XML export (Invalid data stream); delete it and "
            "fetch the source again"
        ),
        nothing,
        lambda: dump(b"BZh9 and no more"),
    ),
    (
        (
            "a.bz2: not a whole MediaWiki XML export (Compressed file ended before the "
            "end-of-stream marker was reached); delete it and fetch the source again"
        ),
        nothing,
        lambda: dump(bz2.compress(PAGE.format(LONG).encode())[:-30]),
    ),
    (
        "a.bz2: holds no article; is it a MediaWiki XML export?",
        nothing,
        lambda: dump(PAGE.format("#REDIRECT [[Elsewhere]]").encode()),
    ),
    (
        "a.bz2: holds no article; is it a MediaWiki XML export?",
        nothing,
        lambda: dump(b"<html><body>Not found</body></html>"),
    ),
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
            "model.hook: 'blocks.one.hook_resid_pre' is not one of "
            "blocks.<layer>.hook_resid_pre, blocks.<layer>.hook_resid_mid, "
            "blocks.<layer>.hook_resid_post, blocks.<layer>.hook_attn_out, "
            "blocks.<layer>.hook_mlp_out"
        ),
        nothing,
        lambda: cache(hook="blocks.one.hook_resid_pre"),
    ),
    (
        (
            "model.hook: 'blocks.1.hook_resid_past' is not one of "
            "blocks.<layer>.hook_resid_pre, blocks.<layer>.hook_resid_mid, "
            "blocks.<layer>.hook_resid_post, blocks.<layer>.hook_attn_out, "
            "blocks.<layer>.hook_mlp_out"
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
    # HDF5 files of the study
    ("tokens.h5: no such file; run again to have it made", lambda: gone("tokens.h5"), cache),
    (
        (
            "tokens.h5: not a readable HDF5 file (Unable to synchronously open file "
            "(truncated file: eof = 3332, sblock->base_addr = 0, stored_eof = 6664)); delete "
            "it and run again"
        ),
        lambda: truncate("tokens.h5"),
        cache,
    ),
    (
        (
            "tokens.h5: not a readable HDF5 file (Unable to synchronously open file (file "
            "signature not found)); delete it and run again"
        ),
        lambda: write("tokens.h5", "not an HDF5 file"),
        cache,
    ),
    (
        ("tokens.h5: holds 'activations', expected 'tokens'; is it the file of another rule?"),
        lambda: shutil.copy("train.h5", "tokens.h5"),
        cache,
    ),
    (
        "tokens.h5: belongs to study 'other', expected 'test'; move it back and run again",
        lambda: set_hdf5("tokens.h5", attribute("study", "other")),
        cache,
    ),
    (
        "tokens.h5: format version 0, this code reads 1; delete it and run again",
        lambda: set_hdf5("tokens.h5", attribute("format_version", 0)),
        cache,
    ),
    (
        "tokens.h5: train/tokens is missing; delete it and run again",
        lambda: set_hdf5("tokens.h5", without("train")),
        cache,
    ),
    (
        (
            "tokens.h5: train/tokens cannot be read, the file is damaged (Can't "
            "synchronously read data (filter returned failure during read)); delete it and "
            "run again"
        ),
        lambda: flip("tokens.h5", "train/tokens"),
        cache,
    ),
    (
        ("activations.train_shards: 5, but the train split has only 4 sequences; give 4 or less"),
        nothing,
        lambda: cache(n_shards=5),
    ),
    (
        (
            "eval.h5: activations of blocks.0.hook_resid_pre of tiny (d_model 8), but "
            "train.h5 has blocks.1.hook_resid_pre of tiny (d_model 8); delete the shards and "
            "run again"
        ),
        lambda: set_hdf5("eval.h5", attribute("hook", "blocks.0.hook_resid_pre")),
        lambda: ActivationShards(["train.h5", "eval.h5"]),
    ),
    (
        "train.h5: belongs to study 'other', expected 'test'; move it back and run again",
        lambda: set_hdf5("train.h5", attribute("study", "other")),
        train,
    ),
    (
        (
            "train.h5: activations cannot be read, the file is damaged (data error detected by "
            "Fletcher32 checksum); delete it and run again"
        ),
        lambda: flip("train.h5", "activations"),
        train,
    ),
    (
        (
            "train.h5: not a readable HDF5 file (Unable to synchronously open file "
            "(truncated file: eof = 4864, sblock->base_addr = 0, stored_eof = 9728)); delete "
            "it and run again"
        ),
        lambda: truncate("train.h5"),
        train,
    ),
    (
        "train.h5: all activations are zero; is the hook right?",
        lambda: set_hdf5("train.h5", replaced("activations", lambda x: x * 0)),
        train,
    ),
    (
        ".: an activation is not finite; delete the shards and run again",
        lambda: set_hdf5("train.h5", replaced("activations", lambda x: x * np.nan)),
        train,
    ),
    (
        (
            "training.batch_size: 64 tokens a batch, but the training shards hold only 40; "
            "use a smaller batch or more text"
        ),
        nothing,
        lambda: train(batch_size=64),
    ),
    (
        ("training: the loss is not finite at step 1, on batch 1 of seed 3; lower training.lr"),
        nothing,
        lambda: train("relu", lr=1e30, steps=30),
    ),
    (
        "training.device: cuda, but PyTorch sees no CUDA device; use auto or cpu",
        nothing,
        lambda: train(device="cuda"),
    ),
    (
        "eval.h5: sequence is missing; delete it and run again",
        lambda: set_hdf5("eval.h5", without("sequence")),
        encode,
    ),
    (
        ("eval.h5: holds activations of d_model 5, but the SAE reads 8; is it for this model?"),
        lambda: set_hdf5(
            "eval.h5",
            lambda f: [replaced("activations", lambda x: x[:, :5])(f), attribute("d_model", 5)(f)],
        ),
        encode,
    ),
    (
        (
            "eval.h5: holds activations of blocks.0.hook_resid_pre, but the SAE was trained "
            "on blocks.1.hook_resid_pre; correct model.hook, or name another SAE"
        ),
        lambda: set_hdf5("eval.h5", attribute("hook", "blocks.0.hook_resid_pre")),
        encode,
    ),
    (
        "codes_small.h5: these are the codes of another SAE; delete it and run again",
        lambda: shutil.copy("codes_other.h5", "codes_small.h5"),
        measure,
    ),
    (
        (
            "codes_small.h5: not a readable HDF5 file (Unable to synchronously open file "
            "(truncated file: eof = 265471, sblock->base_addr = 0, stored_eof = 530942)); "
            "delete it and run again"
        ),
        lambda: truncate("codes_small.h5"),
        measure,
    ),
    (
        (
            "codes_small.h5: values cannot be read, the file is damaged (Can't synchronously "
            "read data (filter returned failure during read)); delete it and run again"
        ),
        lambda: flip("codes_small.h5", "values"),
        measure,
    ),
    (
        "codes_small.h5: indices is missing; delete it and run again",
        lambda: set_hdf5("codes_small.h5", without("indices")),
        measure,
    ),
    (
        "codes_small.h5: attribute sae_fingerprint is missing; delete it and run again",
        lambda: set_hdf5("codes_small.h5", without("sae_fingerprint")),
        measure,
    ),
    (
        ("codes_small.h5: codes of 20 tokens, but activations of 15; delete it and run again"),
        lambda: set_hdf5(
            "eval.h5",
            lambda f: [
                replaced(n, lambda x: x[:15])(f) for n in ("activations", "sequence", "position")
            ],
        ),
        insert,
    ),
    (
        "similarity.h5: the smaller SAE was another one; delete it and run again",
        lambda: compare("other", "large", "similarity.h5"),
        insert,
    ),
    (
        "similarity.h5: the larger SAE was another one; delete it and run again",
        lambda: compare("small", "other", "similarity.h5"),
        insert,
    ),
    (
        (
            "similarity.h5: max_cosine_large cannot be read, the file is damaged (Can't "
            "synchronously read data (filter returned failure during read)); delete it and "
            "run again"
        ),
        lambda: flip("similarity.h5", "max_cosine_large"),
        insert,
    ),
    (
        "codes_large.h5: these are the codes of another SAE; delete it and run again",
        nothing,
        lambda: insert(codes_small="codes_large.h5"),
    ),
    (
        "similarity.h5: edges/large is missing; delete it and run again",
        lambda: set_hdf5("similarity.h5", without("edges")),
        group,
    ),
    (
        (
            "stitching.threshold: 0.1 is below similarity.floor 0.3, under which no edges "
            "are kept; lower the floor"
        ),
        nothing,
        lambda: group(0.1),
    ),
    (
        (
            "subgraphs: of SAEs of 12 and 12 latents, but these have 12 and 20; delete the "
            "subgraphs and run again"
        ),
        lambda: group_of("small", "other"),
        swap,
    ),
    (
        "subgraphs.h5: belongs to study 'other', expected 'test'; move it back and run again",
        lambda: set_hdf5("subgraphs.h5", attribute("study", "other")),
        step,
    ),
    (
        (
            "subgraphs.h5: component_large cannot be read, the file is damaged (Can't "
            "synchronously read data (filter returned failure during read)); delete it and "
            "run again"
        ),
        lambda: flip("subgraphs.h5", "component_large"),
        step,
    ),
    (
        (
            "delta_mse: latent 0 is nan though it is active; look for overflow in the "
            "activations or the SAE"
        ),
        lambda: set_hdf5("insertions.h5", replaced("delta_mse", lambda v: v * np.nan)),
        classify,
    ),
    (
        (
            "insertions.h5: insertions: delta_mse (20,), standard_error (20,), n_active (20,), "
            "max_cosine (19,) must be one value a latent of the same larger SAE; delete the "
            "insertions and run again"
        ),
        lambda: set_hdf5("insertions.h5", replaced("max_cosine", lambda v: v[1:])),
        classify,
    ),
    (
        (
            "transition.h5: holds 'subgraphs', expected 'transition'; is it the file of "
            "another rule?"
        ),
        lambda: shutil.copy("subgraphs.h5", "transition.h5"),
        lambda: load_transition("transition.h5"),
    ),
    ("a.json: no such file; run again to have it made", nothing, lambda: read_rows(["a.json"])),
    (
        (
            "a.json: not JSON (Expecting ':' delimiter: line 1 column 19 (char 18)); delete "
            "it and run again"
        ),
        lambda: write("a.json", '{"sae": "12", "l0"'),
        lambda: read_rows(["a.json"]),
    ),
    (
        "a.json: holds no row of a table; delete it and run again",
        lambda: write("a.json", "[1]"),
        lambda: read_rows(["a.json"]),
    ),
    (
        ("a.checkpoint: not a readable checkpoint (UnpicklingError); delete it and run again"),
        lambda: write("a.checkpoint", "PK and no more"),
        lambda: trained_from("a.checkpoint"),
    ),
    # SAEs of the study
    (
        "small.h5: tensor W_dec is missing; delete it and run again",
        lambda: set_hdf5("small.h5", without("W_dec")),
        encode,
    ),
    (
        "small.h5: tensor b_enc is missing; delete it and run again",
        lambda: set_hdf5("small.h5", without("b_enc")),
        encode,
    ),
    (
        "small.h5: attribute hook is missing; delete it and run again",
        lambda: set_hdf5("small.h5", without("hook")),
        encode,
    ),
    (
        "small.h5: W_enc has shape (12, 8), expected (8, 12); delete it and run again",
        lambda: set_hdf5("small.h5", replaced("W_enc", np.transpose)),
        encode,
    ),
    (
        "small.h5: b_enc has shape (11,), expected (12,); delete it and run again",
        lambda: set_hdf5("small.h5", replaced("b_enc", lambda b: b[1:])),
        encode,
    ),
    (
        "small.h5: W_dec is not finite at [0, 0]; delete it and run again",
        lambda: set_hdf5("small.h5", replaced("W_dec", lambda w: w * np.nan)),
        encode,
    ),
    (
        "small.h5: b_dec is not finite at [0]; delete it and run again",
        lambda: set_hdf5("small.h5", replaced("b_dec", lambda b: b + np.inf)),
        encode,
    ),
    (
        "small.h5: the weights are not those that were written; delete it and run again",
        lambda: set_hdf5("small.h5", replaced("W_enc", lambda w: 2 * w)),
        encode,
    ),
    (
        "small.h5: unknown architecture 'gelu'; delete it and run again",
        lambda: set_hdf5("small.h5", attribute("architecture", "gelu")),
        encode,
    ),
    (
        "small.h5: architecture topk needs k; delete it and run again",
        lambda: set_hdf5("small.h5", attribute("architecture", "topk")),
        encode,
    ),
    (
        "small.h5: architecture jumprelu needs a threshold; delete it and run again",
        lambda: set_hdf5("small.h5", attribute("architecture", "jumprelu")),
        encode,
    ),
    (
        "small.h5: belongs to study 'other', expected 'test'; move it back and run again",
        lambda: set_hdf5("small.h5", attribute("study", "other")),
        encode,
    ),
    (
        (
            "small.h5: not a readable HDF5 file (Unable to synchronously open file "
            "(truncated file: eof = 4924, sblock->base_addr = 0, stored_eof = 9848)); delete "
            "it and run again"
        ),
        lambda: truncate("small.h5"),
        encode,
    ),
    (
        (
            "small.h5: W_enc cannot be read, the file is damaged (Can't synchronously read "
            "data (filter returned failure during read)); delete it and run again"
        ),
        lambda: flip("small.h5", "W_enc"),
        encode,
    ),
    ("small.h5: no such file; run again to have it made", lambda: gone("small.h5"), encode),
    # Stitched SAEs
    (
        "stitched, it, swap[0]: SAE large: there is no connected subgraph 99 at θ -0.9; the last "
        "is 0",
        nothing,
        lambda: stitch(swap={"sae": "large", "threshold": -0.9, "components": [99]}),
    ),
    (
        "stitched, it, swap[0]: SAE large: there is no connected subgraph 0 at θ 1; there are none",
        nothing,
        lambda: stitch(swap={"sae": "large", "threshold": 1.0, "components": [0]}),
    ),
    (
        "large.h5: no such file; run again to have it made",
        lambda: gone("large.h5"),
        lambda: stitch(insert={"sae": "large", "select": "greedy"}),
    ),
    (
        f"SAE large: was trained on blocks.7.hook_resid_pre, the others on {HOOK}; stitch SAEs of "
        "one hook",
        lambda: set_hdf5("large.h5", attribute("hook", "blocks.7.hook_resid_pre")),
        lambda: stitch(insert={"sae": "large", "select": "greedy"}),
    ),
    (
        "small.h5: source is missing; delete it and run again",
        nothing,
        lambda: load_origins("small.h5", study="test"),
    ),
    # SAEs of other libraries
    (
        (
            ".: there is no sae_weights.safetensors or params.npz or ae.pt or "
            "sae.safetensors; name the folder of an SAE"
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
            "cfg.json: normalize_activations is 'layer_norm'; an SAE that scales every token "
            "by itself cannot be stitched"
        ),
        nothing,
        lambda: pretrained(
            "saelens", lambda: set_json("cfg.json", normalize_activations="layer_norm")
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
        "12: reads d_model 8, but tiny has 16; is it for this model?",
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


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Give back the logging that a script sets for good."""
    root, library = logging.getLogger(), logging.getLogger("sae_stitching")
    kept = root.handlers[:], root.level, library.level
    yield
    for handler in set(root.handlers) - set(kept[0]):
        handler.close()
    root.handlers[:], root.level, library.level = kept
    logging.captureWarnings(False)


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(("message", "spoil", "rule"), CASES)
def test_bad_input_ends_with_one_line(here, capsys, message, spoil, rule):
    spoil()
    log = here.parent / "logs" / "rule.log"
    params = SimpleNamespace(job={"study": "test", "code": "0"})
    script = SimpleNamespace(rule="r", input={}, log=[log], params=params)
    before = files(here)
    # Without a network the hub's client would be offline for all tests that follow.
    with pytest.raises(SystemExit) as end, job(script, network=True):
        rule()
    assert end.value.code == 1
    screen = capsys.readouterr().err
    assert screen.splitlines()[-1] == f"error in r: {message} (log: {log})"
    assert "Traceback" not in screen
    assert "Traceback" in log.read_text()
    assert not {name for name in files(here) - before if name.startswith((".", "out"))}
    assert not (here / "ran").exists()


def test_the_table_is_long():
    # With those of the config, which test_study.py tries.
    assert len({message for message, _, _ in CASES}) >= 80 and len(COMPLAINTS) >= 80


# Sound SAEs that leave nothing to compare: figures and tables are made all the same, and say so


def dictionary(directions: torch.Tensor, *, dead: bool = False) -> SAE:
    """Latents that read what they write."""
    W_dec = unit_rows(directions)
    return SAE(
        W_enc=W_dec.T.contiguous(),
        W_dec=W_dec,
        b_enc=torch.full((len(W_dec),), -1e3 if dead else 0.0),
        b_dec=torch.zeros(W_dec.shape[1]),
        architecture="relu",
    )


def tilted(n: int, share: float) -> torch.Tensor:
    """Directions near each other."""
    noise = torch.randn(n, D_MODEL, generator=torch.Generator().manual_seed(n))
    return torch.ones(D_MODEL) + share * noise


E = torch.eye(D_MODEL)
# The smaller SAE, the larger, and what the row of the table says; what Figure 4 notes and what the
# legend of Figure 13 shows.
DEGENERATE: dict[str, tuple[SAE, SAE, dict[str, Any], str, str]] = {
    "all latents dead": (
        dictionary(E[:4], dead=True),
        dictionary(E, dead=True),
        {"n_never_active": 8, "auc": None, "share_improving": None, "n_components": 4},
        "not shown: 8 never active on the evaluation tokens",
        "undefined (one class)",
    ),
    "all latents of the larger SAE dead": (
        dictionary(E[:4]),
        dictionary(E, dead=True),
        {"n_never_active": 8, "auc": None, "share_improving": None},
        "not shown: 8 never active on the evaluation tokens",
        "undefined (one class)",
    ),
    "no novel latent": (
        dictionary(E),
        dictionary(torch.cat([E, E])),
        {"n_novel": 0, "n_reconstruction": 16, "n_components": 8, "n_unmatched_small": 0},
        "0 novel (left of θ), 16 reconstruction",
        "undefined (one class)",
    ),
    "every latent novel, no edge": (
        dictionary(E[:4]),
        dictionary(E[4:]),
        {"n_novel": 4, "n_components": 0, "n_unmatched_small": 4, "median_swap_delta_mse": None},
        "4 novel (left of θ), 0 reconstruction",
        "undefined (one class)",
    ),
    "one giant subgraph": (
        dictionary(tilted(6, 0.05)),
        dictionary(tilted(9, 0.05)),
        {"n_novel": 0, "n_components": 1, "n_unmatched_small": 0},
        "0 novel (left of θ), 9 reconstruction",
        "undefined (one class)",
    ),
    "every insertion lowers the MSE": (
        dictionary(E[:4], dead=True),
        dictionary(E),
        {"share_improving": 1.0, "auc": None, "auc_low": None, "theta_best": None},
        "4 novel (left of θ), 4 reconstruction",
        "undefined (one class)",
    ),
    "no insertion lowers the MSE": (
        dictionary(E),
        dictionary(E[:5]),
        {"share_improving": 0.0, "auc": None, "n_novel": 0, "n_unmatched_small": 3},
        "0 novel (left of θ), 5 reconstruction",
        "undefined (one class)",
    ),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_a_degenerate_pair_has_its_figures_and_tables(name, tmp_path, caplog):
    small, large, expected, note, legend = DEGENERATE[name]
    theta, sizes = 0.5, {"bootstrap_samples": 10, "confidence": 0.95, "seed": 0}
    x = torch.rand(40, D_MODEL, generator=torch.Generator().manual_seed(1)) + 0.1
    pair = EvalPair.in_memory(small, large, x, torch.arange(40) // 8)
    found = similarity(small.W_dec, large.W_dec, floor=0.3)
    subgraphs = connected_subgraphs(found, theta)
    insertions = insertion_effects(pair, found)
    swaps = swap_effects(pair, subgraphs)
    operations = swap_operations(subgraphs)
    assert operations.n == len(swaps.delta_mse) == subgraphs.n_components
    roc = novelty_roc(insertions, **sizes)
    assert not roc.defined and "ROC and AUC are undefined" in caplog.text

    row = pair_row(
        "4",
        "8",
        insertions=insertions,
        subgraphs=subgraphs,
        swaps=swaps,
        curve=threshold_curve(pair, found),
        roc=roc,
    )
    write_csv(pairs([row]), tmp_path / "pairs.csv")
    (table,) = pd.read_csv(tmp_path / "pairs.csv").to_dict("records")
    for key, value in expected.items():
        assert np.isnan(table[key]) if value is None else table[key] == value, key

    shown = figure4_table(insertions, theta)
    assert len(shown) + (insertions.n_active == 0).sum() == large.d_sae
    figure = figure4(insertions, theta, small="4", large="8")
    assert note in figure.get_supxlabel()
    save_figure(figure, shown, tmp_path / "figure4")
    names = ("4", "8")
    figure = figure13({names: roc}, {names: theta})
    assert legend in figure.legends[0].get_texts()[0].get_text()
    save_figure(figure, figure13_table({names: roc}, {names: theta}), tmp_path / "figure13")

    if small.d_sae < large.d_sae:
        step = transition(pair, subgraphs)
        assert len(step.kind) == 1 + transition_operations(subgraphs)[0].n
        np.testing.assert_allclose(step.mse[-1], insertions.mse_large, atol=1e-12)
        shown = figure5_table({names: step})
        save_figure(figure5(shown), shown, tmp_path / "figure5")
    for written in tmp_path.glob("figure*"):
        assert written.stat().st_size > 0


@pytest.mark.usefixtures("here")
def test_the_fvu_of_equal_activations_is_undefined(caplog):
    equal = np.full((20, D_MODEL), 0.3, dtype=np.float32)
    write_shard("eval.h5", equal, np.arange(20) // 5)
    encode_shards(read_sae("small.h5"), ["eval.h5"], "codes_small.h5", **ORIGIN)
    sae, shards = read_sae("small.h5"), ActivationShards(["eval.h5"])
    with open_codes("codes_small.h5", sae) as codes:
        row = evaluate(sae, shards, codes)
    assert row["fvu"] is None and row["mse"] > 0
    assert "FVU is undefined: all eval activations are equal" in caplog.text


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "relu"])
def test_activations_of_one_dimension(tmp_path, architecture):
    """Dead latents of a d_model of 1 have no half of it to be revived on."""
    x = np.linspace(1, 2, 64, dtype=np.float32)[:, None]
    shards = ActivationShards([write_shard(tmp_path / "0.h5", x, np.arange(64) // 8)])
    config = small_config(
        architecture, d_sae=4, k=1, steps=20, batch_size=16, shuffle_buffer=64, dead_after_tokens=16
    )
    assert Trainer(config, shards).train("one").d_model == 1
