"""HDF5 files that are damaged or of something else: one line, and nothing half-written."""

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.rule_calls import cache, classify, encode, group, insert, measure, step, swap, train
from helpers.sound_study import compare
from helpers.spoiling import (
    attribute,
    flip,
    gone,
    group_of,
    nothing,
    replaced,
    set_hdf5,
    trained_from,
    truncate,
    without,
    write,
)
from sae_stitching.activations.shards import ActivationShards
from sae_stitching.saes.evaluation import read_rows
from sae_stitching.stitching.transitions import load_transition

# What is said, what is wrong, and which rule finds it.
CASES: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = [
    ("tokens.h5: no such file; run again to have it made", lambda: gone("tokens.h5"), cache),
    (
        (
            "tokens.h5: not a readable HDF5 file (Unable to synchronously open file "
            "(truncated file: eof = 3352, sblock->base_addr = 0, stored_eof = 6704)); delete "
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
            "insertions.h5: max_cosine has shape (19,), expected (20,) for (d_large); delete it "
            "and run again"
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
]


@pytest.mark.parametrize(("message", "spoil", "rule"), CASES)
def test_bad_input_ends_with_one_line(ends_with_one_line, message, spoil, rule):
    ends_with_one_line(message, spoil, rule)
