"""SAEs, trained and stitched, that cannot be used: one line, and nothing half-written."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers.rule_calls import encode, stitch
from helpers.shards import HOOK
from helpers.spoiling import attribute, flip, gone, nothing, replaced, set_hdf5, truncate, without
from sae_stitching.stitching.stitched import load_origins

# What is said, what is wrong, and which rule finds it.
CASES: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = [
    # SAEs of the study
    (
        "small.h5: W_dec is missing; delete it and run again",
        lambda: set_hdf5("small.h5", without("W_dec")),
        encode,
    ),
    (
        "small.h5: b_enc is missing; delete it and run again",
        lambda: set_hdf5("small.h5", without("b_enc")),
        encode,
    ),
    (
        "small.h5: attribute hook is missing; delete it and run again",
        lambda: set_hdf5("small.h5", without("hook")),
        encode,
    ),
    (
        "small.h5: W_enc has shape (12, 8), expected (8, 12) for (d_model, d_sae); delete it and "
        "run again",
        lambda: set_hdf5("small.h5", replaced("W_enc", np.transpose)),
        encode,
    ),
    (
        "small.h5: b_enc has shape (11,), expected (12,) for (d_sae); delete it and run again",
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
]


@pytest.mark.parametrize(("message", "spoil", "rule"), CASES)
def test_bad_input_ends_with_one_line(ends_with_one_line, message, spoil, rule):
    ends_with_one_line(message, spoil, rule)
