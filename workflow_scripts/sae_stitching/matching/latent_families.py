"""Latent families: the connected subgraphs of a pair by how many latents they have on each side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sae_stitching.matching.decoder_similarity import Similarity
from sae_stitching.matching.subgraphs import Subgraphs

if TYPE_CHECKING:
    from jaxtyping import Float, Int

COLUMNS = ["small", "large", "n_small", "n_large", "count", "example"]


@dataclass(frozen=True)
class Family:
    """One connected subgraph.

    Attributes
    ----------
    component : int
        Its number in the pair.
    small, large : (n_small), (n_large) int64
        Its latents, in an order in which edges cross little.
    edges : (edge, 2) int64
        Positions in `small` and in `large` of the two ends.
    cosine : (edge) float32
        Decoder cosine of each edge.
    """

    component: int
    small: Int[np.ndarray, " n_small"]
    large: Int[np.ndarray, " n_large"]
    edges: Int[np.ndarray, "edge 2"]
    cosine: Float[np.ndarray, " edge"]


def component_types(pairs: Mapping[tuple[str, str], Subgraphs]) -> pd.DataFrame:
    """Count the types of connected subgraphs of every pair (Figure 12).

    Returns
    -------
    pandas.DataFrame
        ``small``, ``large``, ``n_small``, ``n_large`` (latents of a subgraph on either side),
        ``count``, and ``example``, the number of the first such subgraph. Latents that stand
        alone are the types 1, 0 and 0, 1, without an example.
    """
    rows = []
    for (small, large), graph in pairs.items():
        rows.append((small, large, 1, 0, int(graph.unmatched.sum()), None))
        rows.append((small, large, 0, 1, int(graph.novel.sum()), None))
        sizes = np.stack(component_sizes(graph), axis=1)
        types, first, counts = np.unique(sizes, axis=0, return_index=True, return_counts=True)
        for (n_small, n_large), example, count in zip(types, first, counts, strict=True):
            rows.append((small, large, int(n_small), int(n_large), int(count), int(example)))
    frame = pd.DataFrame(rows, columns=pd.Index(COLUMNS))
    return frame.astype({"example": "Int64"})


def component_sizes(
    graph: Subgraphs,
) -> tuple[Int[np.ndarray, " component"], Int[np.ndarray, " component"]]:
    """Latents of each connected subgraph in the smaller and in the larger SAE."""
    small, large = (
        np.bincount(side[side >= 0], minlength=graph.n_components)
        for side in (graph.component_small, graph.component_large)
    )
    return small, large


def family(component: int, graph: Subgraphs, similarity: Similarity) -> Family:
    """Take one connected subgraph with its edges out of a pair."""
    small = np.flatnonzero(graph.component_small == component)
    large = np.flatnonzero(graph.component_large == component)
    linked = similarity.linked(graph.theta) & np.isin(similarity.edge_large, large)
    ends = np.stack([similarity.edge_small[linked], similarity.edge_large[linked]], axis=1)
    cosine = similarity.edge_cosine[linked]
    # Each side in the order of the mean place of its neighbours, a few times over.
    for _ in range(4):
        large = _by_neighbours(large, ends[:, 1], ends[:, 0], small)
        small = _by_neighbours(small, ends[:, 0], ends[:, 1], large)
    places = [_places(side, ends[:, i]) for i, side in enumerate((small, large))]
    return Family(component, small, large, np.stack(places, axis=1), cosine)


def _by_neighbours(
    side: np.ndarray, ends: np.ndarray, others: np.ndarray, other_side: np.ndarray
) -> np.ndarray:
    place = _places(other_side, others)
    mean = [place[ends == latent].mean() for latent in side]
    return side[np.argsort(mean, kind="stable")]


def _places(side: np.ndarray, latents: np.ndarray) -> np.ndarray:
    order = np.argsort(side)
    return order[np.searchsorted(side[order], latents)]
