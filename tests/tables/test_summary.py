"""Column order of the tables, and CSV that reads back exactly."""

import numpy as np
import pandas as pd
import pytest
from helpers.checkout import SCRIPTS
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sae_stitching.base.errors import StudyError
from sae_stitching.tables.summary import (
    NAME_COLUMNS,
    PAIR_COLUMNS,
    SAE_COLUMNS,
    families,
    pairs,
    read_csv,
    sae_properties,
    write_csv,
)

#: Names of SAEs that pandas would take for numbers, for one number, or for nothing.
NAMES = [
    "016",
    "032",
    "1e1",
    "1e2",
    "10",
    "10.0",
    "1_0",
    "0x10",
    "NaN",
    "nan",
    "null",
    "None",
    "NA",
]
NAMES += ["true", "inf", "Infinity", "N.A"]


def test_columns_come_in_the_fixed_order_then_any_others():
    row = {"extra": 1, "mse": 0.5, "d_sae": 8, "sae": "8", "fvu": 0.1, "more": "x"}
    assert list(sae_properties([row])) == ["sae", "d_sae", "mse", "fvu", "extra", "more"]
    row = {"auc": 0.9, "large": "8", "n_edges": 3, "small": "4", "theta": 0.7}
    assert list(pairs([row])) == ["small", "large", "theta", "auc", "n_edges"]


def test_all_columns_in_their_order():
    for build, columns in ((sae_properties, SAE_COLUMNS), (pairs, PAIR_COLUMNS)):
        assert list(build([dict.fromkeys(reversed(columns), 1)])) == list(columns)
        assert list(build([])) == list(columns)


def test_rows_keep_their_order_and_their_values():
    table = sae_properties([{"sae": "b", "mse": 0.25}, {"sae": "a", "mse": 0.5}])
    assert table["sae"].tolist() == ["b", "a"]
    assert table["mse"].tolist() == [0.25, 0.5]


def test_a_count_that_one_row_lacks_stays_a_whole_number(tmp_path):
    rows = [
        {"small": "4", "large": "8", "n_novel": np.int64(3), "auc": 0.5},
        {"small": "8", "large": "16", "n_novel": None, "auc": float("nan")},
    ]
    write_csv(pairs(rows), tmp_path / "pairs.csv")
    expected = "small,large,n_novel,auc\n4,8,3,0.5\n8,16,,\n"
    assert (tmp_path / "pairs.csv").read_bytes() == expected.encode()


def test_a_row_without_a_name_is_an_error():
    with pytest.raises(StudyError, match="table row 1: no 'large'"):
        pairs([{"small": "4", "large": "8"}, {"small": "4"}])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_floats_read_back_exactly(tmp_path, values):
    write_csv(pd.DataFrame({"x": values}), tmp_path / "x.csv")
    lines = (tmp_path / "x.csv").read_text().splitlines()[1:]
    assert [float(line) for line in lines] == values


def test_float32_reads_back_as_the_same_value(tmp_path):
    cosine = np.float32([0.7, 0.1, 1 / 3])
    write_csv(pd.DataFrame({"x": cosine}), tmp_path / "x.csv")
    lines = (tmp_path / "x.csv").read_text().splitlines()[1:]
    assert [float(line) for line in lines] == cosine.astype(float).tolist()


def test_writing_is_atomic_and_deterministic(tmp_path):
    frame = pd.DataFrame({"sae": ["ä,b"], "mse": [0.1]})
    path = tmp_path / "table.csv"
    write_csv(frame, path)
    first = path.read_bytes()
    assert first == 'sae,mse\n"ä,b",0.1\n'.encode()
    write_csv(frame, path)
    assert path.read_bytes() == first

    class Broken:
        def __str__(self):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_csv(pd.DataFrame({"x": [Broken()]}), path)
    assert path.read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


def test_names_mean_themselves_in_every_column(tmp_path):
    table = pd.DataFrame({column: NAMES for column in NAME_COLUMNS} | {"mse": 0.5})
    table.loc[2, "mse"] = np.nan
    table.loc[3, "stitched_from"] = None
    write_csv(table, tmp_path / "table.csv")
    again = read_csv(tmp_path / "table.csv")
    for column in NAME_COLUMNS:
        expected = [None if column == "stitched_from" and n == "1e2" else n for n in NAMES]
        assert [None if pd.isna(name) else name for name in again[column]] == expected
    assert again["mse"].isna().tolist() == [n == "1e1" for n in NAMES]
    assert again["mse"].dtype == "float64"


def test_families_find_names_that_look_like_numbers(tmp_path):
    row = {**dict.fromkeys(PAIR_COLUMNS, 0.5), "small": "016", "large": "1e1"}
    write_csv(pairs([row]), tmp_path / "pairs.csv")
    rows = [{"sae": name, "d_sae": 8, "l0": 1.0, "fvu": 0.1} for name in NAMES]
    write_csv(sae_properties(rows), tmp_path / "saes.csv")
    found = families(
        read_csv(tmp_path / "pairs.csv"),
        read_csv(tmp_path / "saes.csv"),
        {("relu", 0): ["016", "1e1", "NaN"]},
    )
    assert found[["small", "large"]].to_numpy().tolist() == [["016", "1e1"]]


def test_the_workflow_reads_tables_in_one_way():
    readers = {p.name for p in SCRIPTS.rglob("*.py") if "pd.read_csv(" in p.read_text("utf-8")}
    assert readers == {"summary.py"}
