"""Pages of the report, and that every result that it shows has a caption."""

import re
from html import unescape

import numpy as np
import pandas as pd
from helpers.checkout import ROOT
from sae_stitching.base.store import write_hdf5
from sae_stitching.tables.report import settings_table, table_page, versions_table, write_page


def cells(page):
    """Rows of the first table: (exact value, what is shown) of every cell."""
    rows = re.findall(r"<tr>(.*?)</tr>", page.partition("<tbody>")[2], re.DOTALL)
    found = [re.findall(r'data-value="([^"]*)"[^>]*>([^<]*)</td>', row) for row in rows]
    return [[(unescape(value), unescape(shown)) for value, shown in row] for row in found]


def test_a_table_keeps_exact_values_beside_rounded_ones():
    frame = pd.DataFrame(
        {"sae": ["576", "<b>"], "mse": [4.636912345, np.nan], "n": [576, 1152], "d": [-1e-5, 3.0]}
    )
    page = table_page("A & B", [("Table <1>", frame)])
    assert cells(page) == [
        [("576", "576"), ("4.636912345", "4.637"), ("576", "576"), ("-1e-05", "−1e−05")],
        [("<b>", "<b>"), ("", "–"), ("1152", "1152"), ("3.0", "3")],
    ]
    assert "<title>A &amp; B</title>" in page
    assert "Table &lt;1&gt;" in page
    assert "<b>" not in page
    # Numbers are sorted as such, names as text.
    heads = re.findall(r"<th ([^>]*)><button>(\w+)</button>", page)
    assert [name for attributes, name in heads if "number" in attributes] == ["mse", "n", "d"]
    assert not re.search(r"(src|href)=", page)


def test_settings_are_listed_key_by_key():
    table = settings_table({"model": {"hook": "a", "dtype": {"x": 1}}, "list": [1, None]})
    assert table.to_numpy().tolist() == [
        ["model.hook", "a"],
        ["model.dtype.x", "1"],
        ["list", "[1, null]"],
    ]


def test_versions_are_gathered_from_the_files(tmp_path):
    for i, versions in enumerate(({"torch": "2"}, {"torch": "3", "numpy": "1"}, {})):
        with write_hdf5(
            tmp_path / f"{i}.h5", format="x", study="s", provenance={"versions": versions}
        ):
            pass
    table = versions_table([tmp_path / f"{i}.h5" for i in range(3)])
    assert table.to_numpy().tolist() == [["numpy", "1"], ["torch", "2, 3"]]


def test_a_page_is_written_as_it_is(tmp_path):
    write_page("θ\n", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_bytes() == "θ\n".encode()


def test_every_result_of_the_report_has_a_caption():
    rules = "".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    sections = re.search(r"^SECTIONS = .*?^}", rules, re.DOTALL | re.MULTILINE)
    assert sections
    captions = {path.stem for path in (ROOT / "report").glob("*.rst")}
    used = set(re.findall(r'figure\(\s*"(\w+)"\)', rules))
    used |= set(re.findall(r'(?:in_report|figure)\([^,()]*, "(\w+)"', rules))
    used |= set(re.findall(r"report/(\w+)\.rst", rules))
    assert {"figure5", "plot_figure4", "table_page", "training_curve"} <= used
    assert used <= captions
    tables = re.findall(r'table == "(\w+)"', (ROOT / "report/table_page.rst").read_text())
    assert set(tables) <= set(re.findall(r'"(\w+)"', sections[0]))
    for path in (ROOT / "report").glob("*.rst"):
        assert path.read_text().strip(), path
