"""The paper's numbers beside a study's: what is published, the table, the figure."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from sae_stitching.base.errors import StudyError
from sae_stitching.figures.reproduction import plot_reproduction
from sae_stitching.figures.style import save_figure
from sae_stitching.matching.subgraphs import Subgraphs
from sae_stitching.tables.published import PROPERTIES, PUBLISHED, published
from sae_stitching.tables.reproduction import COLUMNS, reproduction, subgraph_sizes
from sae_stitching.tables.summary import read_csv, write_csv

GPT2 = PUBLISHED["gpt2-small"]


def of(table, quantity):
    return table[table["quantity"] == quantity]


def study_of(numbers, *, without=()):
    """The tables of a study that finds what the paper found, and a little more or less."""
    saes = pd.DataFrame(
        [
            {"sae": sae, **dict(zip(PROPERTIES, values, strict=True))}
            for sae, values in numbers.properties.items()
        ]
    ).drop(columns=list(without))
    rows = []
    for small, large in combinations(numbers.saes, 2):
        auc = numbers.auc.get((small, large), 0.5) + 0.01
        n = round(1000 * numbers.share_reconstruction.get((small, large), 0.5))
        row = {"small": small, "large": large, "auc": auc, "auc_low": auc - 0.02}
        rows.append({**row, "auc_high": auc + 0.03, "n_reconstruction": n, "n_novel": 1000 - n})
    return saes, pd.DataFrame(rows)


def subgraphs_of(counts, *, unmatched_small, unmatched_large):
    """Subgraphs of these sizes, latents in a random order."""
    sizes = [size for size, count in counts.items() for _ in range(count)]
    sides = []
    for side, alone in ((0, unmatched_small), (1, unmatched_large)):
        component = np.repeat(np.arange(len(sizes)), [size[side] for size in sizes])
        component = np.append(component, np.full(alone, -1)).astype(np.int32)
        sides.append(np.random.default_rng(side).permutation(component))
    return Subgraphs(*sides, theta=0.7, n_components=len(sizes))


# What is published


def test_the_published_numbers_agree_with_each_other():
    # 727 subgraphs hold 749 latents of the smaller SAE and 879 of the larger, and the others of
    # both stand alone; the 879 are also the share in Figure 16b.
    (pair,) = GPT2.subgraphs
    counts = GPT2.subgraphs[pair]
    small, large = (sum(size[side] * count for size, count in counts.items()) for side in (0, 1))
    assert (small, large) == (749, 879)
    assert counts[0, 0] == (768 - small) + (1536 - large)
    assert round(large / 1536, 3) == GPT2.share_reconstruction[pair]


def test_published_pairs_are_of_published_saes_the_smaller_first():
    for numbers in PUBLISHED.values():
        sizes = [int(sae) for sae in numbers.saes]
        assert sizes == sorted(sizes)
        assert list(numbers.auc) == list(zip(numbers.saes, numbers.saes[1:], strict=False))
        assert set(numbers.subgraphs) <= set(numbers.auc)
        assert all(len(values) == len(PROPERTIES) for values in numbers.properties.values())
    seven = GPT2.saes[:7]
    assert set(GPT2.share_reconstruction) == set(combinations(seven, 2))
    # Of a larger SAE less is new, the nearer the smaller one comes to it.
    for large in seven[2:]:
        shares = [
            GPT2.share_reconstruction[small, large] for small in seven if int(small) < int(large)
        ]
        assert shares == sorted(shares)


def test_a_study_that_is_none_of_the_papers():
    assert published("gemma-2-2b") is PUBLISHED["gemma-2-2b"]
    for name in (None, "gpt2"):
        with pytest.raises(StudyError, match=r"paper: .*choose gpt2-small or gemma-2-2b"):
            published(name)


# The table


def test_subgraph_sizes_count_latents_that_stand_alone_together():
    counts = {(1, 1): 3, (1, 2): 2, (4, 6): 1}
    found = subgraph_sizes(subgraphs_of(counts, unmatched_small=5, unmatched_large=7))
    assert found == {**counts, (0, 0): 12}
    assert subgraph_sizes(subgraphs_of({}, unmatched_small=1, unmatched_large=2)) == {(0, 0): 3}


def test_a_study_that_finds_the_same():
    saes, pairs = study_of(GPT2)
    counts = {size: count for size, count in GPT2.subgraphs["768", "1536"].items() if any(size)}
    own = subgraphs_of(counts, unmatched_small=19, unmatched_large=657)
    table = reproduction(GPT2, saes, pairs, {("768", "1536"): own})
    assert list(table) == list(COLUMNS)
    assert table["study"].notna().all()
    np.testing.assert_allclose(of(table, "auc")["difference"], 0.01)
    np.testing.assert_allclose(of(table, "auc")["study_high"], of(table, "auc")["published"] + 0.04)
    others = table[table["quantity"] != "auc"]
    np.testing.assert_allclose(others["study"], others["published"], atol=5e-4)
    assert table["source"].value_counts().to_dict() == {
        "Table 2": 32,
        "Figure 13": 7,
        "Figure 16b": 21,
        "Figure 12": 15,
    }
    row = of(table, "subgraphs").set_index("subgraph").loc["1-2"]
    assert (row["small"], row["large"], row["published"], row["study"]) == ("768", "1536", 102, 102)


def test_subgraphs_that_the_paper_does_not_have_are_counted():
    own = subgraphs_of({(1, 1): 2, (9, 9): 3, (1, 8): 1}, unmatched_small=0, unmatched_large=4)
    table = of(reproduction(GPT2, *study_of(GPT2), {("768", "1536"): own}), "subgraphs")
    found = table.set_index("subgraph")["study"]
    assert (found["single"], found["1-1"], found["1-2"], found["other"]) == (4, 2, 0, 4)


def test_what_the_study_lacks_is_missing():
    saes, pairs = study_of(GPT2, without=["ce_recovered_zero", "ce_recovered_mean"])
    saes, pairs = saes[saes["sae"] != "3072"], pairs[pairs["large"] == "6144"]
    table = reproduction(GPT2, saes, pairs, {})
    assert table["published"].notna().all()
    assert of(table, "ce_recovered_zero")["study"].isna().all()
    assert of(table, "mse").set_index("sae")["study"].isna().sum() == 1
    assert of(table, "auc")["study"].notna().sum() == 1
    assert of(table, "share_reconstruction")["study"].notna().sum() == 3
    assert of(table, "subgraphs")["study"].isna().all()
    assert set(of(table, "subgraphs")["subgraph"]) >= {"single", "1-1"}


def test_the_table_reads_back(tmp_path):
    numbers = PUBLISHED["gemma-2-2b"]
    table = reproduction(numbers, *study_of(numbers), {})
    write_csv(table, tmp_path / "table.csv")
    pd.testing.assert_frame_equal(read_csv(tmp_path / "table.csv"), table, check_dtype=False)


# The figure


def draw(table):
    figure = plot_reproduction(table)
    FigureCanvasAgg(figure).draw()  # warnings of a layout that fails are errors
    return figure


def points(figure, gid):
    (_,) = {type(line) for line in figure.findobj(lambda artist: artist.get_gid() == gid)}
    return np.concatenate(
        [line.get_xdata() for line in figure.findobj(lambda artist: artist.get_gid() == gid)]
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("paper", PUBLISHED)
@pytest.mark.parametrize("without", [(), ("ce_recovered_zero", "ce_recovered_mean")])
def test_the_figure_shows_every_number_once(paper, without, tmp_path):
    numbers = PUBLISHED[paper]
    own = subgraphs_of({(1, 1): 3, (7, 7): 1}, unmatched_small=2, unmatched_large=9)
    subgraphs = dict.fromkeys(numbers.subgraphs, own)
    table = reproduction(numbers, *study_of(numbers, without=without), subgraphs)
    figure = draw(table)
    for gid in ("published", "study"):
        np.testing.assert_array_equal(np.sort(points(figure, gid)), np.sort(table[gid]))
    shown = [axes for axes in figure.findobj() if getattr(axes, "axison", False)]
    assert len(shown) == table["quantity"].nunique()
    for axes in shown:
        low, high = axes.get_xlim()
        assert all(low < x < high for line in axes.lines for x in line.get_xdata() if x == x)
    save_figure(figure, table, tmp_path / "reproduction", dpi=50)
    assert len(pd.read_csv(tmp_path / "reproduction.csv")) == len(table)


@pytest.mark.filterwarnings("error")
def test_the_figure_of_a_study_that_has_nothing_to_compare():
    empty = pd.DataFrame({"sae": pd.Series(dtype=str)})
    pairs = pd.DataFrame({name: pd.Series(dtype=str) for name in ("small", "large")})
    table = reproduction(GPT2, empty, pairs, {})
    assert np.isnan(points(draw(table), "study")).all()
