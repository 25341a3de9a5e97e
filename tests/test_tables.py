"""Column order of the tables, and CSV that reads back exactly."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sae_stitching.errors import StudyError
from sae_stitching.tables import PAIR_COLUMNS, SAE_COLUMNS, pairs, sae_properties, write_csv


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
