"""Stitched SAEs as a study's config describes them: what goes in, and how it is chosen.

Effects are measured on tokens that the caller gives. The workflow gives training tokens, never the
eval tokens: of many latents whose effects are measured with an error, those that look best are
partly those whose error was in their favour, so that a choice looks better on the tokens that it
was made on than it is.
"""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from sae_stitching.base.errors import StudyError
from sae_stitching.matching.decoder_similarity import novel_latents, similarity
from sae_stitching.matching.subgraphs import connected_subgraphs
from sae_stitching.saes.sae import SAE
from sae_stitching.stitching.greedy import greedy_latents
from sae_stitching.stitching.insertions import insertion_effects
from sae_stitching.stitching.pairs import EvalPair
from sae_stitching.stitching.stitched import StitchedSAE, inference_threshold, with_threshold
from sae_stitching.stitching.swaps import swap_effects

Tokens = tuple[Tensor, Tensor]
"""Activations (token, d_model) and the sequence of each."""

# A floor beyond all cosines, where the maxima alone are wanted.
_NO_EDGES = 2.0

_logger = logging.getLogger(__name__)


def stitch_recipe(
    recipe: Mapping[str, Any],
    saes: Mapping[str, SAE],
    tokens: Tokens | None,
    thetas: Mapping[str, float] | None = None,
) -> StitchedSAE:
    """Stitch an SAE: begin with its base, do the swaps, then the insertions, in the order given.

    TopK SAEs take part with the threshold that keeps k of their latents active on average over the
    tokens, see `with_threshold`.

    Parameters
    ----------
    recipe
        A resolved entry of ``stitched``: ``name``, ``base``, ``insert``, ``swap``.
    saes
        By name, those that the recipe names.
    tokens
        Those that effects are measured on; None where nothing needs them.
    thetas
        θ of the entries that give none, by the name of their SAE.

    Raises
    ------
    StudyError
        If a connected subgraph is named that there is not.
    """
    known = {name: _at_inference(sae, name, tokens) for name, sae in saes.items()}
    stitched = StitchedSAE.of(known[recipe["base"]], recipe["base"])
    given = thetas or {}
    for i, swap in enumerate(recipe["swap"]):
        theta = given[swap["sae"]] if swap["threshold"] is None else swap["threshold"]
        try:
            stitched = _swap(stitched, known[swap["sae"]], swap, theta, tokens)
        except StudyError as error:
            raise StudyError(f"stitched, {recipe['name']}, swap[{i}]: {error}") from error
    for insert in recipe["insert"]:
        theta = given.get(insert["sae"]) if insert["threshold"] is None else insert["threshold"]
        stitched = _insert(stitched, known[insert["sae"]], insert, theta, tokens)
    _logger.info("%s: %d latents", recipe["name"], stitched.d_sae)
    return stitched


def _at_inference(sae: SAE, name: str, tokens: Tokens | None) -> SAE:
    if sae.architecture != "topk":
        return sae
    assert tokens is not None
    threshold = inference_threshold(sae, tokens[0])
    _logger.info("%s: TopK with k %d, active above %.6g", name, sae.k, threshold)
    return with_threshold(sae, threshold)


def _pair(small: SAE, large: SAE, tokens: Tokens | None) -> EvalPair:
    assert tokens is not None
    return EvalPair.in_memory(small, large, *tokens)


def _swap(
    stitched: StitchedSAE,
    large: SAE,
    swap: Mapping[str, Any],
    theta: float,
    tokens: Tokens | None,
) -> StitchedSAE:
    name, small = swap["sae"], stitched.sae
    found = similarity(small.W_dec, large.W_dec, floor=theta)
    subgraphs = connected_subgraphs(found, theta)
    components = np.arange(subgraphs.n_components)
    if swap["components"] == "improving":
        effects = swap_effects(_pair(small, large, tokens), subgraphs, f"swap {name}")
        components = np.flatnonzero(effects.delta_mse < 0)
    elif swap["components"] != "all":
        components = np.array(swap["components"], dtype=np.int64)
    swapped = stitched.swap(large, subgraphs, components, name=name)
    gone = int(np.isin(subgraphs.component_small, components).sum())
    _logger.info(
        "swap %s: %d of %d connected subgraphs at θ %g, %d latents out and %d in",
        name, len(components), subgraphs.n_components, theta, gone,
        swapped.d_sae - stitched.d_sae + gone,
    )  # fmt: skip
    return swapped


def _insert(
    stitched: StitchedSAE,
    large: SAE,
    insert: Mapping[str, Any],
    theta: float | None,
    tokens: Tokens | None,
) -> StitchedSAE:
    name, n, small = insert["sae"], insert["n"], stitched.sae
    # Latents that have come with a swap, or before, are in already.
    free = ~np.isin(np.arange(large.d_sae), stitched.latent[stitched.source == name])
    if insert["select"] == "novel":
        assert theta is not None
        found = similarity(small.W_dec, large.W_dec, floor=_NO_EDGES)
        chosen = np.flatnonzero(free & novel_latents(found.max_cosine_large, theta))
    elif insert["select"] == "effect":
        found = similarity(small.W_dec, large.W_dec, floor=_NO_EDGES)
        effects = insertion_effects(_pair(small, large, tokens), found, f"insert {name}")
        able = np.flatnonzero(free & (effects.n_active > 0))
        order = able[np.argsort(effects.delta_mse[able], kind="stable")]
        chosen = order[effects.delta_mse[order] < 0] if n is None else order[:n]
    else:
        pair = _pair(small, large, tokens)
        chosen = greedy_latents(pair, n, candidates=free, label=f"insert {name}").latents
    if n is not None and len(chosen) < n:
        _logger.warning(
            "insert %s: %d latents instead of %d; the others are in already or never active on the "
            "tokens that effects are measured on", name, len(chosen), n,
        )  # fmt: skip
    rule = f"novel at θ {theta:g}" if insert["select"] == "novel" else f"by {insert['select']}"
    _logger.info("insert %s: %d of its %d latents, %s", name, len(chosen), large.d_sae, rule)
    return stitched.insert(large, chosen, name)
