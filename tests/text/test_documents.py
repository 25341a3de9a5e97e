"""Documents from MediaWiki dumps, text files and datasets."""

import bz2
import json
from pathlib import Path

import datasets
import pytest
from sae_stitching.base.errors import StudyError
from sae_stitching.text.documents import read_documents, strip_markup


class TestStripMarkup:
    @pytest.mark.parametrize(
        ("wikitext", "text"),
        [
            ("'''Bold''' and ''italic'' and '''''both'''''.", "Bold and italic and both."),
            ("A [[link]], a [[target|text]] and [[word]]s.", "A link, a text and words."),
            ("A [[:Category:Cats]] link.", "A Category:Cats link."),
            ("Text.[[Category:Cats]]\n[[de:Katze]]", "Text."),
            ("[[File:a.jpg|thumb|left|A [[cat]] sits.]]Text.", "Text."),
            ("See [http://example.org the site] or [http://example.org].", "See the site or."),
            ("Fact.<ref>Book, p. 1</ref> Another<ref name=x />.", "Fact. Another."),
            ("A<!-- hidden --> word.", "A word."),
            ("{{Infobox|name={{nested|x}}|b=2}}\nText.", "Text."),
            ("It is {{convert|5|km|mi}} long.", "It is 5 km long."),
            ("It is {{convert|5|to|7|km}} long.", "It is 5 to 7 km long."),
            ("5{{nbsp}}km&nbsp;x &amp; y&mdash;z", "5 km x & y—z"),
            ("{| class=wikitable\n|-\n! a\n| b\n|}\nText.", "Text."),
            ("| stray = cell\n|}\n! colspan=2\nText.", "Text."),
            ("Kant ({{IPA|x}}; {{lang-de|Kant}}; 1724) was", "Kant (Kant; 1724) was"),
            ("Kant ({{IPA|x}}) was , he said .", "Kant was, he said."),
            ("Mass <math>E=mc^2</math> is energy.", "Mass is energy."),
            ("H<sub>2</sub>O<br/>is", "H2O is"),
            ("One line\nof a paragraph.\n\nNext.", "One line of a paragraph.\n\nNext."),
            ("Of these:\n* one\n* two\nEnd.", "Of these:\n\none\ntwo\n\nEnd."),
            ("__NOTOC__\nText.", "Text."),
            ("A {{broken|template\n\nText.", "A\n\nText."),
            ("", ""),
        ],
    )
    def test_prose(self, wikitext, text):
        assert strip_markup(wikitext) == text

    def test_headings(self):
        wikitext = (
            "Lead.\n== History ==\n=== Early ===\nOld.\n=== Empty ===\n{{x}}\n== Bare ==\n"
            "== See also ==\n* [[Other]]\n=== Below ===\nGone.\n== ''Last'' ==\nEnd.\n"
            "==References==\n{{reflist}}"
        )
        assert strip_markup(wikitext) == "Lead.\n\nHistory\n\nEarly\n\nOld.\n\nLast\n\nEnd."

    def test_media_namespace_of_another_language(self):
        media = frozenset({"datei"})
        assert strip_markup("[[Datei:a.jpg|mini|Bild]]Text.", media) == "Text."


def page(title: str, text: str, ns: int = 0, extra: str = "") -> str:
    return (
        f"<page><title>{title}</title><ns>{ns}</ns>{extra}"
        f'<revision><text xml:space="preserve">{text}</text></revision></page>'
    )


PAGES = [
    page("One", "The ''first'' article."),
    page("Redirect", "#REDIRECT [[One]]", extra='<redirect title="One" />'),
    page("Old redirect", "#redirect [[One]]"),
    page("Talk:One", "Chatter.", ns=1),
    page("Bare", "{{infobox}}"),
    page("Two", "The second.&lt;ref&gt;Book&lt;/ref&gt; [[Bild:a.png|mini|x]]"),
    page("Three", "The third."),
]


def write_dump(path: Path, version: str = "0.10", pages: list[str] = PAGES) -> Path:
    namespaces = '<siteinfo><namespaces><namespace key="6">Bild</namespace></namespaces></siteinfo>'
    root = f"http://www.mediawiki.org/xml/export-{version}/"
    xml = f'<mediawiki xmlns="{root}">{namespaces}{"".join(pages)}</mediawiki>'
    raw = xml.encode()
    path.write_bytes(bz2.compress(raw) if path.suffix == ".bz2" else raw)
    return path


WIKI = {"source": "wiki"}
DUMP = {"kind": "mediawiki-dump"}


class TestDump:
    @pytest.mark.parametrize("version", ["0.10", "0.11"])
    @pytest.mark.parametrize("name", ["dump.xml.bz2", "dump.xml"])
    def test_articles(self, tmp_path, name, version):
        path = write_dump(tmp_path / name, version)
        expected = ["The first article.", "The second.", "The third."]
        assert list(read_documents(WIKI, DUMP, path)) == expected

    def test_max_documents(self, tmp_path):
        path = write_dump(tmp_path / "dump.xml.bz2")
        assert len(list(read_documents({**WIKI, "max_documents": 2}, DUMP, path))) == 2

    def test_truncated(self, tmp_path):
        path = write_dump(tmp_path / "dump.xml.bz2")
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(StudyError, match="not a whole MediaWiki XML export"):
            list(read_documents(WIKI, DUMP, path))

    def test_not_a_dump(self, tmp_path):
        (tmp_path / "dump.xml").write_text("plain text")
        with pytest.raises(StudyError, match="not a whole MediaWiki XML export"):
            list(read_documents(WIKI, DUMP, tmp_path / "dump.xml"))

    def test_no_article(self, tmp_path):
        path = write_dump(tmp_path / "dump.xml", pages=PAGES[1:4])
        with pytest.raises(StudyError, match="holds no article"):
            list(read_documents(WIKI, DUMP, path))

    def test_missing(self, tmp_path):
        with pytest.raises(StudyError, match="no such file"):
            read_documents(WIKI, DUMP, tmp_path / "dump.xml")

    def test_source_without_text(self, tmp_path):
        with pytest.raises(StudyError, match="holds no text"):
            read_documents(WIKI, {"kind": "random-model"}, tmp_path)

    def test_unknown_source(self):
        with pytest.raises(StudyError, match="'wiki' is not"):
            read_documents(WIKI)


def files(*patterns: str, separator: str | None = None) -> dict:
    return {"source": "files", "files": list(patterns), "separator": separator}


class TestFiles:
    def test_sorted_and_once(self, tmp_path):
        for name in ("b.txt", "a.txt", "c.md"):
            (tmp_path / name).write_text(f"text of {name} é", encoding="utf-8")
        text = files(f"{tmp_path}/*.txt", f"{tmp_path}/b.*", f"{tmp_path}/c.md")
        expected = ["text of a.txt é", "text of b.txt é", "text of c.md é"]
        assert list(read_documents(text)) == expected

    def test_separator(self, tmp_path):
        (tmp_path / "a.txt").write_text("one\n---\ntwo\n---\n\n---\nthree")
        text = files(f"{tmp_path}/a.txt", separator="\n---\n")
        assert list(read_documents(text)) == ["one", "two", "three"]

    def test_byte_order_mark(self, tmp_path):
        (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfone\r\ntwo")
        assert list(read_documents(files(f"{tmp_path}/a.txt"))) == ["one\ntwo"]

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ("Müller".encode("latin-1"), r"a\.txt: not UTF-8 at byte position 1 \(0xfc\)"),
            (b"\xef\xbb\xbfM\xfcller", r"a\.txt: not UTF-8 at byte position 4"),
            (b"PK\x00\x01", r"a\.txt: zero byte at position 2"),
            (b"", r"a\.txt: is empty"),
            (b" \n", r"a\.txt: is empty"),
        ],
    )
    def test_not_text(self, tmp_path, content, message):
        (tmp_path / "a.txt").write_bytes(content)
        with pytest.raises(StudyError, match=message):
            list(read_documents(files(f"{tmp_path}/*.txt")))

    def test_no_match(self, tmp_path):
        with pytest.raises(StudyError, match=r"\*\.txt' matches no file"):
            read_documents(files(f"{tmp_path}/*.txt"))


TEXTS = ["first", "second", "", "third"]


def dataset(
    path: Path, column: str = "text", split: str = "train", name: str | None = None
) -> dict:
    spec = {"path": str(path), "name": name, "split": split, "column": column, "revision": None}
    return {"source": "dataset", "dataset": spec}


@pytest.fixture(params=["folder", "dict", "parquet", "jsonl", "csv", "parquet-folder"])
def local_dataset(request, tmp_path):
    """Write the same dataset in one of the forms in which people have them."""
    rows = datasets.Dataset.from_dict({"text": TEXTS, "id": range(4)})
    match request.param:
        case "folder":
            rows.save_to_disk(path := tmp_path / "data")
        case "dict":
            datasets.DatasetDict(train=rows).save_to_disk(path := tmp_path / "data")
        case "parquet":
            rows.to_parquet(path := tmp_path / "data.parquet")
        case "jsonl":
            rows.to_json(path := tmp_path / "data.jsonl")
        case "csv":
            rows.to_csv(path := tmp_path / "data.csv")
        case _:
            (path := tmp_path / "data").mkdir()
            rows.to_parquet(path / "train-00000-of-00001.parquet")
    return path


class TestDataset:
    def test_column(self, local_dataset):
        assert list(read_documents(dataset(local_dataset))) == ["first", "second", "third"]

    def test_missing_column(self, local_dataset):
        with pytest.raises(StudyError, match=r"has no column 'content'; it has text, id"):
            list(read_documents(dataset(local_dataset, column="content")))

    def test_column_of_numbers(self, local_dataset):
        with pytest.raises(StudyError, match="column 'id' holds int at record 0"):
            list(read_documents(dataset(local_dataset, column="id")))

    def test_missing_split(self, tmp_path):
        rows = datasets.Dataset.from_dict({"text": TEXTS})
        datasets.DatasetDict(train=rows).save_to_disk(tmp_path / "data")
        with pytest.raises(StudyError, match="no split 'test'; it has train"):
            read_documents(dataset(tmp_path / "data", split="test"))

    def test_missing_path(self, tmp_path):
        with pytest.raises(
            StudyError,
            match=r"text\.dataset\.path: .*nothing: no such file or folder; check the path",
        ):
            read_documents(dataset(tmp_path / "nothing"))

    def test_damaged_record(self, tmp_path):
        good = json.dumps({"text": "a" * 100})
        (tmp_path / "data.jsonl").write_text(f"{good}\n" * 5 + '{"text": "b\n')
        with pytest.raises(StudyError, match=r"data\.jsonl"):
            list(read_documents(dataset(tmp_path / "data.jsonl")))
