"""A made-up study for the explorer: planted families, passages, and text that is HTML."""

from pathlib import Path

import numpy as np
import torch
from helpers.corpus import write_corpus
from sae_stitching.explorer.data import PairResults, explorer_parts
from sae_stitching.explorer.passages import Passages
from sae_stitching.matching.decoder_similarity import similarity
from sae_stitching.matching.subgraphs import connected_subgraphs
from sae_stitching.stitching.insertions import Insertions
from sae_stitching.stitching.swaps import Swaps

STUDY, THETA, CONTEXT, BEFORE = "made-up <b>study</b>", 0.7, 12, 3
HOSTILE = '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'
# Every other token is hostile, so that each passage holds some.
NEURONPEDIA = 'toy/8-res"><b>'
WORDS = [HOSTILE, " alpha", "</script>", " beta\n", "&amp;", " gamma", "\u2028", " delta"]


def made_up_study(folder: Path, *, sizes=(6, 12), families=None, n_passages=3, seed=0):
    """Parts of a study of SAEs of these sizes, and what they were made from."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, len(WORDS), (5, CONTEXT)).astype(np.int32)
    document = np.array([0, 0, 1, 1, 2])
    path = write_corpus(folder / "tokens.h5", study=STUDY, eval=tokens, document=document)
    saes = {str(size): _passages(rng, size, n_passages) for size in sizes}
    generator = torch.Generator().manual_seed(seed)
    directions = torch.eye(max(max(sizes), 8)) if families is None else None
    pairs = []
    for i, small in enumerate(sizes):
        for large in sizes[i + 1 :]:
            if directions is not None:
                W_small = directions[:small]
                # Latent j of the larger SAE is near latent j // 2 of the smaller: splits in two.
                W_large = directions[torch.arange(large) // 2].clone()
                noise = torch.randn(W_large.shape, generator=generator)
                W_large += 0.5 * noise / len(directions) ** 0.5
                W_large[-2:] = directions[-2:]
                compared = similarity(W_small, W_large, floor=0.3)
            else:
                compared = families(small, large)
            pairs.append(_pair(rng, str(small), str(large), compared))
    about = {"study": STUDY, "model": "toy", "hook": "blocks.0.hook_resid_pre"}
    parts = explorer_parts(
        about,
        saes,
        pairs,
        path,
        lambda ids: [WORDS[i] for i in ids],
        nearest=3,
        neuronpedia={str(sizes[0]): NEURONPEDIA},
    )
    return parts, saes, pairs, tokens


def _passages(rng, d_sae, n):
    position = rng.integers(1, CONTEXT, (d_sae, n)).astype(np.int32)
    sequence = np.tile(np.arange(n, dtype=np.int32), (d_sae, 1))
    activation = -np.sort(-rng.uniform(1, 9, (d_sae, n)).astype(np.float32), axis=1)
    window = (rng.uniform(size=(d_sae, n, 7)) * (rng.uniform(size=(d_sae, n, 7)) < 0.3)).astype(
        "f4"
    )
    places = position[:, :, None] + np.arange(7) - BEFORE
    window[(places < 1) | (places >= CONTEXT)] = 0
    window[:, :, BEFORE] = activation
    n_active = rng.integers(1, 50, d_sae)
    # The last latent is never active.
    sequence[-1], position[-1], activation[-1], window[-1], n_active[-1] = -1, -1, 0, 0, 0
    return Passages(sequence, position, activation, n_active, window, 55, BEFORE)


def _pair(rng, small, large, compared):
    d_large = len(compared.max_cosine_large)
    subgraphs = connected_subgraphs(compared, THETA)
    n_active = rng.integers(1, 50, d_large)
    n_active[-1] = 0
    delta = (compared.max_cosine_large - 0.65) * rng.uniform(0.5, 2, d_large) * 1e-3
    n = subgraphs.n_components
    count = [np.bincount(c[c >= 0], minlength=n) for c in _components(subgraphs)]
    effects = Insertions(
        delta, np.abs(delta) / 5, n_active, compared.max_cosine_large, 2.7, 2.2, 55
    )
    swaps = Swaps(
        rng.normal(size=n) * 1e-4, np.full(n, 1e-5), rng.normal(size=n), *count, 2.7, 20.0, 55
    )
    return PairResults(small, large, compared, subgraphs, effects, swaps)


def _components(subgraphs):
    return subgraphs.component_small, subgraphs.component_large
