"""Random texts, and the file of tokens that is made of them."""

import h5py
import numpy as np
from sae_stitching.text.tokens import write_tokens

SOURCE = {
    "architecture": "gpt2",
    "n_layers": 1,
    "d_model": 8,
    "n_heads": 2,
    "context": 64,
    "seed": 0,
}


def write(documents, tokenizer, path, **changes):
    options = {"name": "bytes", "context": 8, "eval_fraction": 0.25, "seed": 0}
    write_tokens(
        documents, tokenizer, path, **{**options, "study": "test", "provenance": {}, **changes}
    )
    with h5py.File(path) as file:
        return {
            name: (file[f"{name}/tokens"][:], file[f"{name}/document"][:])
            for name in ("train", "eval")
        }


def texts(lengths, seed=0):
    rng = np.random.default_rng(seed)
    letters = np.array(list("abcdefgh é"))
    return ["".join(rng.choice(letters, length)) for length in lengths]
