"""Connected subgraphs of similar latents: what can be swapped between two SAEs (Section 4.2)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sae_stitching.base.errors import StudyError
from sae_stitching.base.record import loader, record
from sae_stitching.base.store import replacing
from sae_stitching.matching.decoder_similarity import Similarity

if TYPE_CHECKING:
    from jaxtyping import Bool, Int32


@record("subgraphs", "subgraphs/<pair>.h5")
class Subgraphs:
    """Connected subgraphs of the bipartite graph with an edge where cosine ≥ θ.

    Subgraphs are numbered in the order of their first latent in the smaller SAE.
    """

    component_small: Int32[np.ndarray, " d_small"]
    """Subgraph of each latent of the smaller SAE, −1 where it stands alone."""
    component_large: Int32[np.ndarray, " d_large"]
    """Subgraph of each latent of the larger SAE, −1 where it stands alone, which is novel."""
    threshold: float
    """θ."""
    n_components: int
    """Number of subgraphs."""

    @property
    def novel(self) -> Bool[np.ndarray, " d_large"]:
        """Which latents of the larger SAE are novel (Eq. 6)."""
        return self.component_large < 0


def connected_subgraphs(similarity: Similarity, threshold: float) -> Subgraphs:
    """Group latents of two dictionaries that are linked by cosines ≥ θ (Section 4.2).

    Parameters
    ----------
    similarity
        Of the two decoders.
    threshold
        θ, at least the floor of the similarity.

    Raises
    ------
    StudyError
        If θ is below the floor of the kept edges.

    Examples
    --------
    Two latents of the larger SAE belong to the one of the smaller, the third is novel.

    >>> import torch
    >>> from sae_stitching import connected_subgraphs, similarity
    >>> W_large = torch.tensor([[0.8, 0.6], [0.8, -0.6], [0.0, 1.0]])
    >>> found = connected_subgraphs(similarity(torch.eye(2)[:1], W_large, floor=0.3), 0.7)
    >>> found.component_large.tolist(), found.novel.tolist()
    ([0, 0, -1], [False, False, True])
    """
    if not np.float32(threshold) >= np.float32(similarity.floor):  # nor is NaN
        raise StudyError(
            f"stitching.threshold: {threshold:g} is below similarity.floor {similarity.floor:g}, "
            "under which no edges are kept; lower the floor"
        )
    d_small, d_large = len(similarity.max_cosine_small), len(similarity.max_cosine_large)
    linked = _linked(similarity, threshold)
    small, large = similarity.edge_small[linked], similarity.edge_large[linked] + d_small
    n_nodes = d_small + d_large
    graph = coo_array((np.ones(len(small), dtype=bool), (small, large)), shape=(n_nodes, n_nodes))
    _, labels = connected_components(graph, directed=False)
    connected = np.zeros(n_nodes, dtype=bool)
    connected[small] = connected[large] = True
    component = np.full(n_nodes, -1, dtype=np.int32)
    # Every subgraph has a latent of the smaller SAE, and those come first among the nodes.
    _, first, inverse = np.unique(labels[connected], return_index=True, return_inverse=True)
    component[connected] = np.argsort(np.argsort(first))[inverse]
    return Subgraphs(component[:d_small], component[d_small:], float(threshold), len(first))


def _linked(similarity: Similarity, threshold: float) -> Bool[np.ndarray, " edge"]:
    return similarity.edge_cosine >= np.float32(threshold)


load_subgraphs = loader("load_subgraphs", Subgraphs)


_GRAPHML = """<?xml version="1.0" encoding="UTF-8"?>
<graphml xmlns="http://graphml.graphdrawing.org/xmlns">
<key id="sae" for="node" attr.name="sae" attr.type="string"/>
<key id="latent" for="node" attr.name="latent" attr.type="int"/>
<key id="component" for="node" attr.name="component" attr.type="int"/>
<key id="cosine" for="edge" attr.name="cosine" attr.type="float"/>
<graph edgedefault="undirected">
"""


def write_graph(similarity: Similarity, subgraphs: Subgraphs, path: str | Path) -> None:
    """Write ``subgraphs/<small>--<large>.graphml``: the bipartite graph of cosines ≥ θ.

    GraphML is read by networkx, igraph, Gephi and Cytoscape alike. Nodes are the latents that
    have an edge, named ``small-<latent>`` and ``large-<latent>``, with attributes `sae`, `latent`
    and `component`; edges have `cosine`. Lines are written one by one: networkx, which would
    first build the graph from Python objects, needs a kilobyte an edge.
    """
    linked = _linked(similarity, subgraphs.threshold)
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.write(_GRAPHML)
        for sae in ("small", "large"):
            component = getattr(subgraphs, f"component_{sae}")
            for latent in np.flatnonzero(component >= 0).tolist():
                file.write(
                    f'<node id="{sae}-{latent}"><data key="sae">{sae}</data>'
                    f'<data key="latent">{latent}</data>'
                    f'<data key="component">{component[latent]}</data></node>\n'
                )
        for small, large, cosine in zip(
            similarity.edge_small[linked].tolist(),
            similarity.edge_large[linked].tolist(),
            # The shortest digits that give the float32 back.
            similarity.edge_cosine[linked].astype(np.float32).astype(str).tolist(),
            strict=True,
        ):
            file.write(
                f'<edge source="small-{small}" target="large-{large}">'
                f'<data key="cosine">{cosine}</data></edge>\n'
            )
        file.write("</graph>\n</graphml>\n")
