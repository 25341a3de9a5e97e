"""Families of SAEs side by side: which SAEs make one, their table, their figures."""

import numpy as np
import pandas as pd
import pytest
from sae_stitching.base.errors import StudyError
from sae_stitching.config.study import longest_series
from sae_stitching.figures.families import (
    PANELS,
    families_figure,
    family_transitions_figure,
    family_transitions_table,
)
from sae_stitching.figures.figure5 import figure5_table
from sae_stitching.stitching.transitions import Transition
from sae_stitching.tables.summary import FAMILY_COLUMNS, families

SIZES = (8, 16, 32)


def saes(architectures=("relu", "topk"), seeds=(0, 1), sizes=SIZES):
    return [
        {
            "name": f"{architecture}-{seed}-{d}",
            "d_sae": d,
            "architecture": architecture,
            "seed": seed,
        }
        for architecture in architectures
        for seed in seeds
        for d in sizes
    ]


def tables(entries):
    """A pair table and a property table with a number of its own in every cell."""
    generator = np.random.default_rng(0)
    properties = pd.DataFrame(
        [
            {
                "sae": e["name"],
                "d_sae": e["d_sae"],
                "l0": generator.random(),
                "fvu": generator.random(),
            }
            for e in entries
        ]
    )
    names = [entry["name"] for entry in entries]
    pairs = pd.DataFrame(
        [{"small": a, "large": b} for i, a in enumerate(names) for b in names[i + 1 :]]
    )
    for column in (*FAMILY_COLUMNS[10:],):
        pairs[column] = generator.random(len(pairs))
    return pairs, properties


def test_a_family_is_of_one_architecture_and_one_seed_in_order_of_size():
    entries = saes(sizes=(32, 8, 16))
    assert longest_series(entries) == {
        (architecture, seed): [f"{architecture}-{seed}-{d}" for d in SIZES]
        for architecture in ("relu", "topk")
        for seed in (0, 1)
    }


def test_a_family_has_each_size_once_and_no_imported_sae():
    entries = [
        {"name": "a", "d_sae": 8, "architecture": "relu", "seed": 0},
        {"name": "b", "d_sae": 8, "architecture": "relu", "seed": 0},
        {"name": "c", "d_sae": 16, "pretrained": {"path": "elsewhere"}},
    ]
    assert longest_series(entries) == {("relu", 0): ["a"]}


def test_the_table_has_the_pairs_inside_families_and_their_saes():
    entries = saes()
    pairs, properties = tables(entries)
    table = families(pairs, properties, longest_series(entries))
    assert tuple(table.columns) == FAMILY_COLUMNS
    assert len(table) == 4 * 3
    by_pair = pairs.set_index(["small", "large"])
    by_sae = properties.set_index("sae")
    for row in table.to_dict("records"):
        assert row["small"].rsplit("-", 1)[0] == f"{row['architecture']}-{row['seed']}"
        assert row["auc"] == by_pair.loc[(row["small"], row["large"]), "auc"]
        assert row["l0_large"] == by_sae.loc[row["large"], "l0"]
        assert (row["d_small"], row["d_large"]) == tuple(
            by_sae.loc[[row["small"], row["large"]], "d_sae"]
        )


def test_names_that_are_numbers_are_names():
    pairs = pd.DataFrame([{"small": 8, "large": 16, **dict.fromkeys(FAMILY_COLUMNS[10:], 0.5)}])
    properties = pd.DataFrame([{"sae": d, "d_sae": d, "l0": 1.0, "fvu": 0.1} for d in (8, 16)])
    table = families(pairs, properties, {("relu", 0): ["8", "16"]})
    assert table[["small", "large"]].to_numpy().tolist() == [["8", "16"]]


def test_the_figure_shows_each_number_once():
    entries = saes()
    table = families(*tables(entries), longest_series(entries))
    figure = families_figure(table)
    assert len(figure.axes) == len(PANELS)
    for panel, column in zip(figure.axes, PANELS, strict=True):
        for architecture in ("relu", "topk"):
            drawn = [
                y
                for line in panel.lines
                if line.get_gid() == architecture
                for y in line.get_ydata()
            ]
            expected = table.loc[table["architecture"] == architecture, column]
            assert sorted(drawn) == sorted(expected)
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["ReLU", "TopK", "seed 0", "seed 1"]


def test_no_family_no_figure():
    with pytest.raises(StudyError, match=r"stitching\.pairs"):
        families_figure(pd.DataFrame(columns=FAMILY_COLUMNS))
    with pytest.raises(StudyError, match=r"stitching\.pairs"):
        family_transitions_table({})


def test_transitions_are_drawn_relative_to_their_start():
    step = Transition(
        n_latents=np.array([2, 3, 4, 4]),
        mse=np.array([2.0, 1.0, 3.0, 0.5]),
        l0=np.array([1.0, 2.0, 3.0, 4.0]),
        kind=np.array([0, 1, 1, 2], dtype=np.int8),
        mse_large=0.5,
        l0_large=4.0,
        n_tokens=9,
    )
    one = figure5_table({("a", "b"): step})
    table = family_transitions_table({("relu", 0): [one], ("topk", 3): [one]})
    assert table[["architecture", "seed"]].drop_duplicates().to_numpy().tolist() == [
        ["relu", 0],
        ["topk", 3],
    ]
    assert len(table) == 8
    figure = family_transitions_figure(table)
    assert [panel.get_title() for panel in figure.axes] == ["ReLU", "TopK"]
    for panel in figure.axes:
        lines = {line.get_gid(): line for line in panel.lines}
        line = next(line for gid, line in lines.items() if gid.startswith("seed"))
        np.testing.assert_allclose(line.get_ydata(), [1.0, 0.5, 1.5, 0.25])
        np.testing.assert_allclose(lines["all novel latents inserted"].get_ydata(), [1.5])
