"""The numbers that figures show, against known data, and their looks, against stored pictures."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.drawings import artists, latents, render, roc_of, step, texts
from helpers.pictures import GREATEST, MEAN, check_picture, check_titles_fit, differences, drawn
from matplotlib.colors import to_rgb
from sae_stitching.figures import style as look
from sae_stitching.figures.figure3 import example_component, figure3, figure3_table
from sae_stitching.figures.figure4 import figure4, figure4_table
from sae_stitching.figures.figure5 import figure5, figure5_table
from sae_stitching.figures.figure7 import (
    figure7,
    figure7_table,
    random_max_cosine_cdf,
    random_max_cosine_quantile,
)
from sae_stitching.figures.figure8 import figure8, figure8_table
from sae_stitching.figures.figure12 import drawn_types, figure12, figure12_table
from sae_stitching.figures.figure13 import figure13
from sae_stitching.figures.figure14 import figure14, figure14_table
from sae_stitching.figures.figure15 import figure15, figure15_table
from sae_stitching.figures.figure16 import figure16, figure16_table
from sae_stitching.figures.figure17 import figure17, figure17_table
from sae_stitching.figures.orders import orders, orders_curves, orders_table
from sae_stitching.figures.selection import selection, selection_curves, selection_table
from sae_stitching.figures.significance import significance, significance_table
from sae_stitching.figures.stitched import stitched, stitched_table
from sae_stitching.figures.style import save_figure
from sae_stitching.matching.activation_similarity import ActivationSimilarity
from sae_stitching.matching.decoder_similarity import similarity
from sae_stitching.matching.latent_families import component_types, family
from sae_stitching.matching.subgraphs import connected_subgraphs
from sae_stitching.stitching.insertions import Insertions
from sae_stitching.stitching.random_insertion import RandomInsertion
from sae_stitching.stitching.selection_orders import ORDERS, InsertionOrder, Selection
from sae_stitching.stitching.significance import p_values, significance_rows
from sae_stitching.stitching.swaps import Swaps
from sae_stitching.stitching.transition_orders import TransitionOrders
from sae_stitching.tables.summary import read_csv

PAIRS = [("576", "1152"), ("576", "2304"), ("1152", "2304")]


def check(figure, table, name, folder):
    """The figure looks as stored, and is written with a row of CSV for every row of its table."""
    check_picture(figure, name)
    save_figure(figure, table, [folder / f"{name}.csv"])
    assert len(pd.read_csv(folder / f"{name}.csv")) == len(table)


# Figure 3


def dictionaries(seed=0, d_model=6, d_small=12, extra=14):
    """Two decoders: of each latent of the smaller one, the larger has near copies or none."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.randn(d_small, d_model, generator=generator)
    copies = small[: d_small // 2].repeat_interleave(2, 0)
    large = torch.cat([copies + 0.25 * torch.randn(copies.shape, generator=generator),
                       torch.randn(extra, d_model, generator=generator)])  # fmt: skip
    cosines = similarity(small, large, floor=0.3)
    return cosines, connected_subgraphs(cosines, 0.8)


def swaps_of(graph, seed=0):
    generator = np.random.default_rng(seed)
    n = graph.n_components
    sizes = [np.bincount(side[side >= 0], minlength=n)
             for side in (graph.component_small, graph.component_large)]  # fmt: skip
    delta = generator.normal(0.002, 0.002, n)
    return Swaps(delta, np.abs(delta) / 5, generator.normal(-0.01, 0.01, n), *sizes,
                 mse_small=4.0, l0_small=20.0, n_tokens=1000)  # fmt: skip


def test_figure3(tmp_path):
    cosines, graph = dictionaries()
    swaps, component = swaps_of(graph), example_component(graph)
    shown = family(component, graph, cosines)
    table = figure3_table(shown, swaps)
    for row in table.itertuples():
        assert graph.component_small[row.latent_small] == component
        assert graph.component_large[row.latent_large] == component
    edges = set(zip(cosines.edge_small, cosines.edge_large, cosines.edge_cosine, strict=True))
    found = set(zip(table["latent_small"], table["latent_large"], table["cosine"], strict=True))
    assert found == {edge for edge in edges if edge[2] >= np.float32(0.8)
                     and graph.component_small[edge[0]] == component}  # fmt: skip
    assert set(table["delta_mse"]) == {swaps.delta_mse[component]}
    figure = figure3(shown, swaps, ("12", "26"), (12, 26), 0.8)
    assert len(artists(figure, "edge")) == len(table)
    assert f"{12 - len(shown.small)} others of" in texts(figure)
    check(figure, table, "figure3", tmp_path)


def test_figure3_without_a_subgraph(tmp_path):
    cosines, _ = dictionaries()
    graph = connected_subgraphs(cosines, 1.0)
    assert example_component(graph) is None
    swaps = swaps_of(graph)
    figure = figure3(None, swaps, ("a", "b"), (12, 26), 1.0)
    assert "no two latents" in texts(figure)
    save_figure(figure, figure3_table(None, swaps), tmp_path / "figure3")


# Figure 7


@pytest.mark.parametrize(("d_model", "d_small"), [(1, 3), (2, 5), (3, 7), (16, 40)])
def test_random_directions_have_the_computed_max_cosine(d_model, d_small):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(4000, 1, d_model))
    W = generator.normal(size=(4000, d_small, d_model))
    cosine = (x * W).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(W, axis=-1)
    cosine = np.clip(cosine.max(1), -1, 1)
    at = np.linspace(-0.9, 0.95, 9)
    expected = random_max_cosine_cdf(at, d_model, d_small)
    np.testing.assert_allclose([(cosine <= c).mean() for c in at], expected, atol=0.03)
    if d_model > 1:
        quantile = random_max_cosine_quantile(0.9, d_model, d_small)
        assert random_max_cosine_cdf(quantile, d_model, d_small) == pytest.approx(0.9)


def cosines_of(seed, n):
    generator = np.random.default_rng(seed)
    return np.minimum(generator.beta(4, 3, n), 1).astype(np.float32)


def test_figure7_counts_every_latent_on_its_side_of_theta(tmp_path):
    cosines = {pair: cosines_of(i, 400 + i) for i, pair in enumerate(PAIRS)}
    cosines[PAIRS[0]][:2] = 1.0, 1.0000001  # rounding
    thetas = dict(zip(PAIRS, (0.7, 0.65, 0.713), strict=True))
    sizes = dict(zip(PAIRS, (100, 100, 200), strict=True))
    table = figure7_table(cosines, thetas, sizes, 64)
    for pair, cosine in cosines.items():
        rows = look.of_pair(table, pair)
        assert rows["n_novel"].sum() == (cosine < np.float32(thetas[pair])).sum()
        assert (rows["n_novel"] + rows["n_reconstruction"]).sum() == len(cosine)
        assert rows["n_random"].sum() == pytest.approx(len(cosine))
        for row in rows.itertuples():
            inside = (cosine > row.low) & (cosine <= row.high)
            last = (cosine > row.high) & (row.high == 1)
            assert row.n_novel + row.n_reconstruction == (inside | last).sum()
        assert rows["random_99"].iloc[0] == random_max_cosine_quantile(0.99, 64, sizes[pair])
    figure = figure7(table)
    heights = sum(patch.get_height() for patch in figure.axes[1].patches[:100])
    assert heights == len(cosines[PAIRS[1]])
    check(figure, table, "figure7", tmp_path)


def test_figure7_of_one_pair_of_opposite_directions(tmp_path):
    table = figure7_table({PAIRS[0]: np.float32([-0.95, -0.2, 0.3])}, {PAIRS[0]: 0.5},
                          {PAIRS[0]: 2}, 3)  # fmt: skip
    assert (table["n_novel"] + table["n_reconstruction"]).sum() == 3
    assert table["low"].iloc[0] == -1
    save_figure(figure7(table), table, tmp_path / "figure7")


# Figure 8


def test_figure8_measures_r_squared_above_one_half(tmp_path):
    generator = np.random.default_rng(0)
    found = {}
    for pair, n in zip(PAIRS[:2], (700, 2), strict=True):
        x = generator.uniform(0.3, 1, n).astype(np.float32)
        y = np.clip(1.6 * x - 0.6 + generator.normal(0, 0.08, n), 0, 1)
        y[0] = np.nan  # a latent that never fires
        index = np.arange(n, dtype=np.int32)
        found[pair] = ActivationSimilarity(index, index + 1, x, y)
    table = figure8_table(found)
    rows = look.of_pair(table, PAIRS[0])
    assert len(rows) == 699 and set(rows["n_pairs"]) == {699}
    chosen = rows[rows["decoder_cosine"] > 0.5]
    slope, shift = np.polyfit(chosen["decoder_cosine"], chosen["activation_cosine"], 1)
    left = chosen["activation_cosine"] - slope * chosen["decoder_cosine"] - shift
    explained = 1 - left.var(ddof=0) / chosen["activation_cosine"].var(ddof=0)
    assert rows["r_squared"].iloc[0] == pytest.approx(explained)
    assert rows["n_fitted"].iloc[0] == len(chosen)
    assert look.of_pair(table, PAIRS[1])["r_squared"].isna().all()
    figure = figure8(table, PAIRS)
    assert f"R² {explained:.2f}" in texts(figure) and "no pair of latents" in texts(figure)
    check(figure, table, "figure8", tmp_path)


def test_figure8_of_many_pairs_says_how_many_are_drawn():
    x = np.random.default_rng(0).uniform(0.3, 1, 13_608).astype(np.float32)
    index = np.arange(len(x), dtype=np.int32)
    found = dict.fromkeys(PAIRS, ActivationSimilarity(index, index, x, x.astype(np.float64)))
    figure = figure8(figure8_table(found), PAIRS)
    assert "6,804 of 13,608 drawn" in texts(figure)
    drawn(figure)
    check_titles_fit(figure)


# Figure 12


def test_figure12_counts_the_types_of_subgraphs(tmp_path):
    graphs, cosines = {}, {}
    for seed, pair in enumerate(PAIRS[:2]):
        cosines[pair], graphs[pair] = dictionaries(seed)
    table = component_types(graphs)
    for pair, graph in graphs.items():
        rows = look.of_pair(table, pair)
        assert (rows["n_small"] * rows["count"]).sum() == len(graph.component_small)
        assert (rows["n_large"] * rows["count"]).sum() == len(graph.component_large)
        connected = rows[rows["example"].notna()]
        assert connected["count"].sum() == graph.n_components
        for row in connected.itertuples():
            shown = family(row.example, graph, cosines[pair])
            assert (len(shown.small), len(shown.large)) == (row.n_small, row.n_large)
            for (i, j), cosine in zip(shown.edges, shown.cosine, strict=True):
                whole = cosines[pair]
                at = (whole.edge_small == shown.small[i]) & (whole.edge_large == shown.large[j])
                assert whole.edge_cosine[at] == [cosine]
    edges, shown = figure12_table(table, graphs, cosines)
    drawn_edges = edges[edges["cosine"].notna()]
    assert (drawn_edges["cosine"] >= np.float32(0.8)).all()
    figure = figure12(table, shown, dict.fromkeys(graphs, 0.8))
    assert len(artists(figure, "edge")) == len(drawn_edges)
    counts = [int(text.get_text()) for text in artists(figure, "count")]
    assert sorted(counts) == sorted(table["count"])
    check(figure, edges, "figure12", tmp_path)


def test_figure12_leaves_out_what_is_too_large():
    table = pd.DataFrame(
        {"small": "a", "large": "b", "n_small": [1, 40, 2], "n_large": [2, 90, 1], "count": 1,
         "example": pd.array([0, 1, 2], dtype="Int64")}
    )  # fmt: skip
    assert drawn_types(table)["example"].tolist() == [0, 2]


# Figures 14 to 17


def test_figure14_gives_the_change_of_every_swap_in_percent(tmp_path):
    swaps = {}
    for i, pair in enumerate(PAIRS):
        n = (60, 40, 0)[i]
        generator = np.random.default_rng(i)
        delta = generator.normal(0.002, 0.002, n)
        swaps[pair] = Swaps(delta, delta, generator.normal(-0.01, 0.01, n), np.full(n, 1),
                            np.full(n, 2), mse_small=4.0, l0_small=20.0, n_tokens=1000)  # fmt: skip
    table = figure14_table(swaps)
    assert len(table) == 100
    rows = look.of_pair(table, PAIRS[0])
    np.testing.assert_allclose(rows["mse_percent"], 25 * swaps[PAIRS[0]].delta_mse)
    np.testing.assert_allclose(rows["l0_percent"], 5 * swaps[PAIRS[0]].delta_l0)
    figure = figure14(table, PAIRS)
    (mse, l0) = artists(figure, "median 1152 → 576")
    for line, name in ((mse, "mse_percent"), (l0, "l0_percent")):
        np.testing.assert_allclose(line.get_xdata(), np.median(rows[name]))
    assert "0 swaps" in texts(figure)
    check(figure, table, "figure14", tmp_path)


def walks(n, end, orders=5, seed=0):
    steps = np.random.default_rng(seed).exponential(1, (orders, n))
    return 4 * (1 + np.pad(steps.cumsum(1), ((0, 0), (1, 0))) * end / max(n, 1))


def test_figure15_gives_mean_and_range_of_the_orders(tmp_path):
    found = {
        PAIRS[0]: RandomInsertion(walks(700, -0.08), walks(300, 0.5)),
        PAIRS[1]: RandomInsertion(walks(30, -0.02), walks(0, 0.0)),
        PAIRS[2]: RandomInsertion(walks(1800, 0.02), walks(400, 2.5)),
    }
    table = figure15_table(found, dict.fromkeys(found, 0.7))
    rows = look.of_pair(table, PAIRS[0])
    rows = rows[rows["group"] == "novel"]
    assert len(rows) == 500 and rows["n_added"].iloc[[0, -1]].tolist() == [0, 700]
    percent = 100 * (found[PAIRS[0]].novel[:, rows["n_added"]] / 4 - 1)
    for name, expected in (("mean", percent.mean(0)), ("low", percent.min(0)),
                           ("high", percent.max(0))):  # fmt: skip
        np.testing.assert_allclose(rows[f"percent_{name}"], expected, atol=1e-12)
    figure = figure15(table)
    assert len(artists(figure, "novel")) == 3
    end = 100 * (found[PAIRS[2]].reconstruction[:, -1].mean() / 4 - 1)
    assert f"ends at {end:+,.0f} %" in texts(figure)
    check(figure, table, "figure15", tmp_path)


def test_figure16_counts_across_sizes_and_seeds(tmp_path):
    sizes = {"12": 12, "12-b": 12, "26": 26}
    graph = dictionaries()[1]
    generator = torch.Generator().manual_seed(5)
    W = torch.randn(12, 6, generator=generator)
    moved = W + 0.3 * torch.randn(12, 6, generator=generator)
    twins = connected_subgraphs(similarity(moved, W, floor=0.3), 0.8)
    graphs = {("12", "12-b"): twins, ("12", "26"): graph, ("12-b", "26"): graph}
    table = figure16_table(graphs, sizes, [["12", "12-b"]])
    cells = table.set_index(["sae", "compared_with"])
    assert len(cells) == 4
    assert cells.loc[("26", "12"), "share"] == (graph.component_large >= 0).mean()
    assert cells.loc[("12-b", "12"), "share"] == (twins.component_large >= 0).mean()
    assert cells.loc[("12", "12-b"), "share"] == (twins.component_small >= 0).mean()
    assert table.groupby("panel").size().to_dict() == {"seeds of 12": 2, "sizes": 2}
    figure = figure16(table, list(sizes))
    shown = sorted(text.get_text() for text in artists(figure, "cell"))
    across = table["panel"] == "sizes"
    assert shown == sorted(f"{share:.3f}" for share in table["share"][across])
    (dots,) = artists(figure, "seeds")
    assert sorted(dots.get_xdata()) == sorted(table["share"][~across])
    check(figure, table, "figure16", tmp_path)


def test_figure17_shows_every_exchange(tmp_path):
    names = ["576", "1152", "2304"]
    rows = [{"sae": a, "bias_of": b, "mse": 4 - i + 0.1 * abs(i - j),
             "change_percent": 10 * abs(i - j) / (4 - i), "cosine": 0.99, "norm_ratio": 1.0}
            for i, a in enumerate(names) for j, b in enumerate(names)]  # fmt: skip
    table = figure17_table(rows)
    figure = figure17(table)
    shown = [text.get_text() for text in artists(figure, "cell")]
    assert shown == [f"{row['mse']:#.4g}" for row in rows]
    check(figure, table, "figure17", tmp_path)


# Order of insertion


def orders_of(seed=0, n=(120, 50, 20), random=6):
    generator = np.random.default_rng(seed)
    kind = np.repeat([0, 1, 2, 3], [1, *n]).astype(np.int8)
    ends = np.array([5.0, 4.6, 4.2, 4.0])

    def walk():
        parts = [np.array([5.0])]
        for size, start, end in zip(n, ends, ends[1:], strict=False):
            if size == 0:
                continue
            steps = generator.normal(0, 0.01, size).cumsum()
            line = np.linspace(0, 1, size + 1)[1:]
            parts.append(start + (end - start) * line + steps - line * steps[-1])
        return np.concatenate(parts)

    return TransitionOrders(kind, walk(), walk(), np.stack([walk() for _ in range(random)]))


def test_orders_are_summed_up_by_phase(tmp_path):
    found = {PAIRS[0]: orders_of(0), PAIRS[2]: orders_of(1, n=(900, 300, 0))}
    table = orders_table(found)
    assert len(table) == 3 * (3 + 2)
    row = table[(table["phase"] == "swap") & (table["order"] == "random")].iloc[0]
    mse = found[PAIRS[0]].random[:, 120:171]
    assert row["n_operations"] == 50 and row["n_orders"] == 6
    assert row["mse_mean"] == pytest.approx(mse[:, 1:].mean())
    assert row["mse_mean_sd"] == pytest.approx(mse[:, 1:].mean(1).std(ddof=1))
    assert row["mse_lowest"] == pytest.approx(mse.min(1).mean())
    assert row["n_at_lowest"] == pytest.approx(mse.argmin(1).mean())
    assert row["share_lowering"] == pytest.approx((np.diff(mse) < 0).mean())
    curves = orders_curves(found)
    rows = look.of_pair(curves, PAIRS[0])
    np.testing.assert_array_equal(rows["given"], found[PAIRS[0]].given)
    np.testing.assert_allclose(rows["random_sd"], found[PAIRS[0]].random.std(0, ddof=1))
    rows = look.of_pair(curves, PAIRS[2])
    assert {0, 900, 1200} <= set(rows["operation"]) and len(rows) <= 804
    check(orders(curves), curves, "orders", tmp_path)


# Selection


def selection_of(n=900, seed=0):
    generator = np.random.default_rng(seed)

    def path(gain, loss):
        # Insertions that help less and less, then harm.
        steps = np.linspace(-gain, loss, n) + generator.normal(0, 2e-4, n)
        mse = 4 + np.append(0, steps.cumsum()) / n
        l0 = 20 + np.append(0, generator.exponential(0.03, n).cumsum())
        return InsertionOrder(generator.permutation(n), mse, l0)

    orders = {"cosine": path(1.5, 3), "effect": path(2.0, 4), "greedy": path(3.0, 2.0)}
    return Selection(orders, 0.7, n // 3, n // 2, 5000)


def test_selections_are_compared_at_theta(tmp_path):
    found = {PAIRS[0]: selection_of(), PAIRS[2]: selection_of(2000, seed=1)}
    table = selection_table(found)
    assert len(table) == 2 * 3 * 3
    orders, n = found[PAIRS[0]].orders, 300
    rows = look.of_pair(table, PAIRS[0]).set_index(["compared_at", "order"])
    for order, path in orders.items():
        row = rows.loc[("count", order)]
        assert (row["n_inserted"], row["mse"], row["l0"]) == (n, path.mse[n], path.l0[n])
        assert row["gain_percent"] == pytest.approx(
            100 * (1 - path.mse[n] / orders["cosine"].mse[n])
        )
        assert row["change_percent"] == pytest.approx(100 * (path.mse[n] / 4 - 1))
        row = rows.loc[("l0", order)]
        at = row["n_inserted"]
        assert path.l0[at] <= orders["cosine"].l0[n] < path.l0[at + 1]
        row = rows.loc[("lowest", order)]
        assert row["mse"] == path.mse.min() == path.mse[row["n_inserted"]]
    assert rows.loc[("l0", "cosine"), "n_inserted"] == n
    curves = selection_curves(found)
    marks = curves[curves["mark"] != ""]
    assert marks[["order", "n_inserted", "mark"]].to_numpy().tolist() == [
        ["cosine", 300, "theta"], ["greedy", 450, "stop"],
        ["cosine", 666, "theta"], ["greedy", 1000, "stop"],
    ]  # fmt: skip
    rows = look.of_pair(curves, PAIRS[2])
    for order, path in found[PAIRS[2]].orders.items():
        curve = rows[rows["order"] == order]
        assert {0, 2000} <= set(curve["n_inserted"]) and len(curve) <= 801
        np.testing.assert_array_equal(curve["mse"], path.mse[curve["n_inserted"]])
        np.testing.assert_array_equal(curve["l0"], path.l0[curve["n_inserted"]])
    figure = selection(curves)
    assert len(artists(figure, "greedy")) == 4 and len(artists(figure, "theta")) == 12
    check(figure, curves, "selection", tmp_path)


def test_a_selection_of_nothing_is_drawn(tmp_path):
    flat = InsertionOrder(np.arange(3), np.full(4, 2.0), np.full(4, 5.0))
    found = {PAIRS[0]: Selection(dict.fromkeys(ORDERS, flat), 0.7, 0, 0, 50)}
    table, curves = selection_table(found), selection_curves(found)
    # No latent is novel, and those that there are change nothing: all of them have the same L0.
    assert set(table["mse"]) == {2.0} and set(table["gain_percent"]) == {0.0}
    save_figure(selection(curves), curves, tmp_path / "selection")


# Stitched SAEs


def properties_of(*, ce=True):
    rows = [
        ("576", "relu", None, 576, 24.0, 4.6), ("1152", "relu", None, 1152, 34.0, 4.2),
        ("2304", "relu", None, 2304, 33.0, 3.7), ("t", "topk", None, 1152, 32.0, 1.0),
        ("mixed", "relu", "576 + 1152", 1369, 30.0, 4.0),
        ("twice", "jumprelu", "mixed + 2304", 3000, 50.0, 3.5),
    ]  # fmt: skip
    names = ["sae", "architecture", "stitched_from", "d_sae", "l0", "mse"]
    table = pd.DataFrame(rows, columns=pd.Index(names)).assign(fvu=0.2)
    recovered = [0.9, 0.92, 0.94, 0.99, 0.93, 0.95]
    return table.assign(ce_recovered_zero=recovered) if ce else table


def test_stitched_saes_stand_beside_those_next_to_them(tmp_path):
    table = stitched_table(properties_of(), {"mixed": "576", "twice": "576"})
    assert list(table["sae"]) == ["576", "1152", "2304", "t", "mixed", "twice"]
    rows = table.set_index("sae")
    assert rows.loc["576", ["next_in_size", "mse_at_size", "mse_at_l0"]].isna().all()
    mixed = rows.loc["mixed"]
    assert mixed["next_in_size"] == "1152" and mixed["next_in_size_mse"] == 4.2
    # Of those of its base's architecture, by L0: 576, 2304, 1152.
    assert mixed["next_in_l0"] == "2304" and mixed["next_in_l0_l0"] == 33.0
    share = np.log2(1369 / 1152)
    assert mixed["mse_at_size"] == pytest.approx(4.2 + share * (3.7 - 4.2))
    assert mixed["mse_at_l0"] == pytest.approx(4.6 + (30 - 24) / (33 - 24) * (3.7 - 4.6))
    twice = rows.loc["twice"]
    assert twice["next_in_size"] == "2304" and twice["next_in_l0"] == "1152"
    assert np.isnan(twice["mse_at_size"]) and np.isnan(twice["mse_at_l0"])
    figure = stitched(table)
    assert len(artists(figure, "stitched")) == 2 * 3
    # A line an architecture.
    lines = artists(figure, "trained")[:2]
    assert [line.get_xdata().tolist() for line in lines] == [[576, 1152, 2304], [1152]]
    check(figure, table, "stitched", tmp_path)


def test_stitched_saes_without_a_cross_entropy(tmp_path):
    table = stitched_table(properties_of(ce=False), {"mixed": "576", "twice": "576"})
    figure = stitched(table)
    assert len(figure.axes) == 2
    save_figure(figure, table, tmp_path / "stitched")
    again = read_csv(tmp_path / "stitched.csv")
    assert again["next_in_l0"].tolist()[-2:] == ["2304", "1152"]


# Significance


def test_p_values():
    p = p_values(np.array([0.0, 1.96, -1.96, 1.0, 0.0]), np.array([1.0, 1.0, 1.0, 0.0, 0.0]))
    np.testing.assert_allclose(p, [1, 0.05, 0.05, 0, 1], atol=1e-4)


def test_significance_finds_what_was_planted(tmp_path):
    generator = np.random.default_rng(0)
    rows = []
    for i, pair in enumerate(PAIRS):
        n = 600
        cosine = generator.uniform(0, 1, n).astype(np.float32)
        true = np.where(cosine < 0.5, -1.0, 1.0) * (np.arange(n) % 3 > 0)  # a third has none
        error = np.full(n, 0.1)
        delta = 1e-3 * (true + error * generator.normal(size=n))
        n_active = np.where(np.arange(n) < 40, 0, 5)
        insertions = Insertions(delta, 1e-3 * error, n_active, cosine, 4.0, 3.5, 1000)
        settings = {"confidence": 0.95, "bootstrap_samples": 50, "seed": 0}
        found = significance_rows(*pair, insertions, cosine < 0.5, **settings)
        rows += found
        if i:
            continue
        by_test = {row["test"]: row for row in found}
        active, novel = n_active > 0, cosine < 0.5
        null = active & (true == 0)
        for group, members in (("novel", active & novel), ("reconstruction", active & ~novel)):
            right, wrong = ("lower", "raise")[:: 1 if group == "novel" else -1]
            real, empty = (members & ~null).sum(), (members & null).sum()
            for row in by_test.values():
                parts = [row[f"n_{group}_{kind}"] for kind in ("lower", "uncertain", "raise")]
                assert sum(parts) == row[f"n_{group}"] == members.sum()
            assert by_test["none"][f"n_{group}_uncertain"] == 0
            single = by_test["single"]
            assert real <= single[f"n_{group}_{right}"] <= real + 0.08 * empty
            assert single[f"n_{group}_{wrong}"] <= 0.08 * empty
            assert by_test["fdr"][f"n_{group}_uncertain"] >= single[f"n_{group}_uncertain"]
        aucs = [by_test[test]["auc"] for test in ("none", "single", "fdr")]
        assert aucs[0] < 0.9 and min(aucs[1:]) > 0.99
    table = significance_table(rows)
    shares = table["share_novel_certain"]
    assert (shares.where(table["test"] != "none", 1) <= 1).all()
    figure = significance(table)
    bar = artists(figure, "novel lower")[0]
    single = table[table["test"] == "single"].iloc[0]
    assert bar.get_width() == pytest.approx(100 * single["n_novel_lower"] / single["n_novel"])
    assert len(artists(figure, "auc")) == 9
    check(figure, table, "significance", tmp_path)


def test_significance_of_one_sequence_and_of_an_empty_group():
    nan = np.full(4, np.nan)
    cosine = np.float32([0.1, 0.2, 0.3, 0.4])
    insertions = Insertions(np.array([-1.0, 1, 2, 3]), nan, np.ones(4, int), cosine, 4.0, 3.0, 9)
    rows = significance_rows("a", "b", insertions, np.ones(4, bool), confidence=0.95,
                             bootstrap_samples=10, seed=0)  # fmt: skip
    assert [row["n_novel_uncertain"] for row in rows] == [0, 4, 4]
    assert rows[0]["auc"] == 1.0 and np.isnan(rows[1]["auc"])
    render(significance(significance_table(rows)))


# The figures that are drawn already: 4, 5 and 13, and 18 and 19, which are 4 and 5 otherwise


def test_figures_4_and_18_look_as_stored(tmp_path):
    table = figure4_table(latents(), theta=0.7)
    settings = {"theta": 0.7, "small": "576", "large": "1152"}
    check(figure4(latents(), **settings), table, "figure4", tmp_path)
    figure = figure4(latents(), **settings, symlog=True)
    (inside,) = artists(figure, "latents")
    assert len(inside.get_offsets()) == len(table)  # nothing lies beyond
    assert inside.axes.get_yscale() == "symlog"
    right = next(a for a in figure.axes if a is not inside.axes and a.get_shared_y_axes().joined(
        a, inside.axes))  # fmt: skip
    assert sum(patch.get_width() for patch in right.patches) == len(table)
    for patch in right.patches:
        lowers = patch.get_facecolor()[:3] == to_rgb(look.DECREASES_MSE)
        if patch.get_width():
            assert (patch.get_y() + patch.get_height() / 2 < 0) == lowers
    check(figure, table, "figure18", tmp_path)


def test_figures_5_and_19_look_as_stored(tmp_path):
    table = figure5_table(step(4, 8, novel=4) | step(8, 12, novel=4, swaps=[]))
    check(figure5(table), table, "figure5", tmp_path)
    figure = figure5(table, mse_only=True)
    assert len(figure.axes) == 1 and "Mean L0" not in texts(figure)
    marked = {line.get_ydata()[0] for line in artists(figure, "SAE MSE")}
    ends = table.groupby("step")["mse"].agg(["first", "last"])
    assert marked == set(ends.to_numpy().ravel())
    check(figure, table, "figure19", tmp_path)


def test_figure13_looks_as_stored():
    rocs = {("576", "1152"): roc_of(0), ("1152", "2304"): roc_of(1)}
    check_picture(figure13(rocs, dict.fromkeys(rocs, 0.7)), "figure13")


# The comparison, and the colours


def test_the_comparison_tells_figures_apart():
    settings = {"small": "576", "large": "1152"}
    first = drawn(figure4(latents(), 0.7, **settings))
    assert differences(first, first) == (0, 0)
    for other in (figure4(latents(), 0.5, **settings), figure4(latents(360), 0.7, **settings)):
        mean, greatest = differences(first, drawn(other))
        assert mean > MEAN or greatest > GREATEST


# Machado et al. (2009): what is seen without one of the three kinds of cones, in linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def seen(colour, vision):
    """The colour in CIELAB, where distances are how different two colours look."""
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    linear = np.clip(np.array(vision) @ linear, 0, 1)
    to_xyz = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    t = np.array(to_xyz) @ linear / [0.9505, 1, 1.089]
    x, y, z = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize(
    "pair",
    [("DECREASES_MSE", "INCREASES_MSE"), ("NOVEL", "RECONSTRUCTION"),
     ("SMALLER_SAE", "LARGER_SAE")],
)  # fmt: skip
def test_colours_of_opposite_meaning_are_told_apart(vision, pair):
    one, other = (seen(getattr(look, name), VISION[vision]) for name in pair)
    assert np.linalg.norm(one - other) > 40
