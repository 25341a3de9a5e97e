"""Connected subgraphs against those that networkx finds."""

import tempfile
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_stitching.base.errors import StudyError
from sae_stitching.base.record import write_record
from sae_stitching.matching.decoder_similarity import Similarity, novel_latents, similarity
from sae_stitching.matching.subgraphs import connected_subgraphs, load_subgraphs, write_graph


def from_matrix(cosine, floor):
    """Similarity of a matrix of cosines (d_large, d_small)."""
    cosine = np.asarray(cosine, dtype=np.float32)
    i, j = np.nonzero(cosine >= np.float32(floor))
    return Similarity(
        floor=floor,
        max_cosine_large=cosine.max(1),
        argmax_large=cosine.argmax(1).astype(np.int32),
        edge_large=i.astype(np.int32),
        max_cosine_small=cosine.max(0),
        argmax_small=cosine.argmax(0).astype(np.int32),
        edge_small=j.astype(np.int32),
        edge_cosine=cosine[i, j],
        cosine=cosine,
    )


@st.composite
def similarities(draw):
    """Real ones of random directions, and matrices whose cosines are often equal."""
    seed = draw(st.integers(0, 2**32 - 1))
    d_large, d_small = draw(st.integers(1, 14)), draw(st.integers(1, 10))
    if draw(st.booleans()):
        generator = torch.Generator().manual_seed(seed)
        dtype = draw(st.sampled_from([torch.float32, torch.float64]))
        d_model = draw(st.integers(1, 6))
        W_large, W_small = (
            torch.randn(d, d_model, generator=generator, dtype=dtype) for d in (d_large, d_small)
        )
        return similarity(W_small, W_large, floor=-1.0, keep=True)
    rng = np.random.default_rng(seed)
    return from_matrix(np.round(rng.uniform(-1, 1, (d_large, d_small)), 1), -1.0)


def thresholds(found):
    """Any θ, or exactly one of the cosines, as it is or as the config would say it."""
    assert found.cosine is not None
    cosines = sorted({float(c) for c in found.cosine.ravel() if -1 <= c <= 1})
    written = st.integers(-10, 10).map(lambda n: n / 10)
    some = st.floats(-1.0, 1.0) | written
    some = some | st.sampled_from(cosines) if cosines else some
    return some | some.map(np.float64)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_subgraphs_equal_networkx(data):
    found = data.draw(similarities())
    threshold = data.draw(thresholds(found))
    result = connected_subgraphs(found, threshold)

    linked = found.cosine >= np.float32(threshold)
    graph = nx.Graph()
    graph.add_edges_from((("large", i), ("small", j)) for i, j in np.argwhere(linked).tolist())
    # Numbered by their first latent of the smaller SAE.
    expected = sorted(
        nx.connected_components(graph),
        key=lambda nodes: min(n for side, n in nodes if side == "small"),
    )
    assert result.n_components == len(expected)
    for side, of_latent in (("small", result.component_small), ("large", result.component_large)):
        wanted = np.full(len(of_latent), -1)
        for number, nodes in enumerate(expected):
            wanted[[n for its_side, n in nodes if its_side == side]] = number
        np.testing.assert_array_equal(of_latent, wanted)
        assert of_latent.dtype == np.int32
    assert result.threshold == threshold


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_novel_is_alone_is_below_the_threshold(data):
    found = data.draw(similarities())
    threshold = data.draw(thresholds(found))
    result = connected_subgraphs(found, threshold)
    by_cosine = novel_latents(found.max_cosine_large, threshold)
    np.testing.assert_array_equal(result.novel, by_cosine)
    np.testing.assert_array_equal(result.component_large < 0, by_cosine)
    np.testing.assert_array_equal(
        result.component_small < 0, novel_latents(found.max_cosine_small, threshold)
    )
    assert set(result.component_small) - {-1} == set(result.component_large) - {-1}
    assert set(result.component_small) - {-1} == set(range(result.n_components))


def test_the_floor_itself_may_be_the_threshold_but_nothing_below():
    # 0.3 is no float32, so that the comparison must be made at one precision.
    found = from_matrix([[0.3, 0.1], [0.2, 0.5]], floor=0.3)
    assert connected_subgraphs(found, 0.3).component_large.tolist() == [0, 1]
    with pytest.raises(StudyError) as error:
        connected_subgraphs(found, 0.29)
    message = str(error.value)
    assert message.startswith("stitching.threshold: 0.29 is below similarity.floor 0.3")
    assert message.endswith("lower the floor")


def test_no_edge():
    result = connected_subgraphs(from_matrix([[0.3, 0.1], [0.2, 0.5], [0.0, 0.0]], 0.1), 0.9)
    assert result.component_small.tolist() == [-1, -1]
    assert result.component_large.tolist() == [-1, -1, -1]
    assert result.n_components == 0
    assert result.novel.all()


def test_one_giant_subgraph():
    # A path through all latents, no two of one side linked by a single partner more than once.
    n = 200
    cosine = np.zeros((n, n))
    np.fill_diagonal(cosine, 0.9)
    np.fill_diagonal(cosine[:, 1:], 0.8)
    result = connected_subgraphs(from_matrix(cosine, 0.5), 0.8)
    assert result.n_components == 1
    assert not result.component_small.any()
    assert not result.component_large.any()
    assert connected_subgraphs(from_matrix(cosine, 0.5), 0.81).n_components == n


def test_subgraphs_are_numbered_by_their_first_small_latent():
    cosine = np.zeros((5, 4))
    cosine[0, 3] = cosine[4, 1] = cosine[2, 1] = cosine[3, 0] = cosine[2, 3] = 0.9
    result = connected_subgraphs(from_matrix(cosine, 0.5), 0.7)
    assert result.component_small.tolist() == [0, 1, -1, 1]
    assert result.component_large.tolist() == [1, -1, 1, 0, 1]


def test_a_file_gives_back_the_subgraphs(tmp_path):
    result = connected_subgraphs(from_matrix([[0.9, 0.1], [0.2, 0.5], [0.0, 0.0]], 0.1), 0.5)
    paths = tmp_path / "subgraphs" / "2--3.h5", tmp_path / "again.h5"
    for path in paths:
        write_record(result, path, study="test", provenance={})
    loaded = load_subgraphs(paths[0], study="test")
    np.testing.assert_array_equal(loaded.component_small, [0, 1])
    np.testing.assert_array_equal(loaded.component_large, [0, 1, -1])
    assert loaded.component_large.dtype == np.int32
    assert (loaded.threshold, loaded.n_components) == (0.5, 2)
    assert loaded.novel.tolist() == [False, False, True]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    with pytest.raises(StudyError, match="belongs to study 'test'"):
        load_subgraphs(paths[0], study="other")


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_networkx_reads_the_graph_back(data):
    found = data.draw(similarities())
    subgraphs = connected_subgraphs(found, data.draw(thresholds(found)))
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("1.graphml", "2.graphml")]
        for path in paths:
            write_graph(found, subgraphs, path)
        assert paths[0].read_bytes() == paths[1].read_bytes()
        graph = nx.read_graphml(paths[0])
    for sae in ("small", "large"):
        component = getattr(subgraphs, f"component_{sae}")
        nodes = {n["latent"]: n for _, n in graph.nodes(data=True) if n["sae"] == sae}
        assert {i: n["component"] for i, n in nodes.items()} == {
            i: c for i, c in enumerate(component.tolist()) if c >= 0
        }
    cosine = {
        (f"small-{i}", f"large-{j}"): c
        for i, j, c in zip(found.edge_small, found.edge_large, found.edge_cosine, strict=True)
        if c >= np.float32(subgraphs.threshold)
    }
    assert graph.number_of_edges() == len(cosine)
    for (small, large), c in cosine.items():
        assert np.float32(graph.edges[small, large]["cosine"]) == np.float32(c)
    assert len(list(nx.connected_components(graph))) == subgraphs.n_components


def test_the_graph_of_no_edge(tmp_path):
    found = from_matrix([[0.1]], 0.0)
    write_graph(found, connected_subgraphs(found, 0.5), tmp_path / "g.graphml")
    assert len(nx.read_graphml(tmp_path / "g.graphml")) == 0
