"""SAEs of different ages side by side: which are of one age, their table and figure."""

import numpy as np
import pandas as pd
import pytest
from sae_stitching.config.study import longest_series, series
from sae_stitching.figures.convergence import convergence_figure
from sae_stitching.stitching.transitions import Transition
from sae_stitching.tables.convergence import CONVERGENCE_COLUMNS, convergence, overshoot
from sae_stitching.tables.summary import PAIR_COLUMNS

SHARED = ("share_max_cosine", "share_matched", "pw_mcc")


def entries(steps=(100, 400), seeds=(0, 1), sizes=(16, 8)):
    return [
        {"name": f"{seed}-{d}-{n}", "d_sae": d, "architecture": "relu", "seed": seed, "steps": n}
        for n in steps
        for seed in seeds
        for d in sizes
    ]


def walk(*mse, kinds="sii"):
    kind = np.array([{"s": 0, "i": 1, "w": 2, "d": 3}[k] for k in kinds], np.int8)
    mse = np.array(mse, float)
    return Transition(np.arange(len(mse)), mse, mse, kind, mse[-1], 1.0, 10)


def test_saes_of_the_same_steps_are_a_series_in_order_of_size():
    assert series(entries()) == {
        ("relu", seed, n): [f"{seed}-8-{n}", f"{seed}-16-{n}"]
        for n in (100, 400)
        for seed in (0, 1)
    }


def test_sizes_that_need_different_steps_are_of_one_age_all_the_same():
    saes = [*entries((100,), (0,), (8,)), *entries((400,), (0,), (16,))]
    assert series(saes) == {("relu", 0, None): ["0-8-100", "0-16-400"]}


def test_an_age_of_one_architecture_does_not_split_another():
    other = [
        {**sae, "name": f"topk-{sae['name']}", "architecture": "topk"} for sae in entries((100,))
    ]
    found = series([*entries(), *other])
    assert {key[2] for key in found if key[0] == "topk"} == {None}


def test_the_longest_series_are_compared():
    assert longest_series(entries((400, 100))) == {
        ("relu", seed): [f"{seed}-8-400", f"{seed}-16-400"] for seed in (0, 1)
    }


@pytest.mark.parametrize(
    ("mse", "kinds", "expected"),
    [
        ((4, 3, 2), "sii", 0),
        ((4, 3, 5), "sii", 0.5),
        ((4, 6, 5), "sii", 0.25),
        ((4, 3, 3.5, 1, 9), "siiwd", 0.125),
        ((4, 1), "sw", 0),
    ],
)
def test_overshoot_is_the_rise_after_the_lowest_while_inserting(mse, kinds, expected):
    assert overshoot(walk(*mse, kinds=kinds)) == expected


def tables():
    """Every number of its own."""
    generator = np.random.default_rng(0)
    saes = entries()
    properties = pd.DataFrame(
        [{"sae": s["name"], "d_sae": s["d_sae"], "l0": generator.random(),
          "fvu": generator.random()}
         for s in saes]
    )  # fmt: skip
    together = [
        {"architecture": "relu", "seed": seed, "steps": n, "tokens": 10 * n,
         "small": f"{seed}-8-{n}", "large": f"{seed}-16-{n}"}
        for n in (100, 400) for seed in (0, 1)
    ]  # fmt: skip
    pairs = pd.DataFrame([{"small": c["small"], "large": c["large"]} for c in together])
    for column in PAIR_COLUMNS[2:]:
        pairs[column] = generator.random(len(pairs))
    curves = {s["name"]: pd.DataFrame({"settled": [np.nan, generator.random()]}) for s in saes}
    agreement = pd.DataFrame(
        [{"sae": f"0-{d}-{n}", "other": f"1-{d}-{n}",
          **{column: generator.random() for column in SHARED}}
         for n in (100, 400) for d in (8, 16)]
    )  # fmt: skip
    walks = {(c["small"], c["large"]): walk(4, 3, 3 + generator.random()) for c in together}
    return together, pairs, properties, curves, agreement, walks


def test_the_table_has_every_number_of_every_pair():
    together, pairs, properties, curves, agreement, walks = tables()
    table = convergence(together, pairs, properties, curves, agreement, walks)
    assert tuple(table.columns) == CONVERGENCE_COLUMNS
    assert len(table) == len(together)
    of_seeds = agreement.set_index("sae")
    for row, pair in zip(table.to_dict("records"), pairs.to_dict("records"), strict=True):
        assert {key: row[key] for key in ("auc", "share_novel")} == {
            key: pair[key] for key in ("auc", "share_novel")
        }
        for side, d in (("small", 8), ("large", 16)):
            assert row[f"d_{side}"] == d
            assert row[f"settled_{side}"] == curves[row[side]]["settled"].iloc[-1]
            assert row[f"fvu_{side}"] == properties.set_index("sae").loc[row[side], "fvu"]
            for column in SHARED:
                # Whichever of the two seeds the row is of.
                expected = of_seeds.loc[f"0-{d}-{row['steps']}", column]
                assert row[f"{column}_{side}"] == pytest.approx(expected, rel=1e-15)


def test_without_a_second_seed_what_seeds_share_is_missing():
    together, pairs, properties, curves, _, walks = tables()
    table = convergence(together, pairs, properties, curves, None, walks)
    assert table[[f"{column}_small" for column in SHARED]].isna().all(axis=None)
    convergence_figure(table)


def test_the_figure_draws_every_number():
    table = convergence(*tables())
    figure = convergence_figure(table)
    lines = {}
    for axes in figure.axes:
        for line in axes.lines:
            lines.setdefault(line.get_gid(), []).append(line)
    for column in ("auc", "overshoot", "fvu_small", "fvu_large", "pw_mcc_large"):
        drawn = lines[f"{column} relu"]
        for seed, line in enumerate(drawn):
            rows = table[table["seed"] == seed]
            np.testing.assert_array_equal(line.get_xdata(), rows["tokens"] / 1e6)
            np.testing.assert_array_equal(line.get_ydata(), rows[column])
        assert len(drawn) == 2
