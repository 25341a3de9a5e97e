"""Datasets of the hub in the layouts that people give them, beside what their library reads."""

import csv
import gzip
import io
import json
import zipfile

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sae_stitching.hub.client import resolve
from sae_stitching.text.hub_dataset import hub_documents

NAME = "somebody/texts"
ONE, TWO, THREE = ["a one", "a two"], ["b one", "b, two", "b three"], ["c é"]
CONFIGURATIONS = b"""---
configs:
- config_name: small
  data_files:
  - {split: train, path: small/*.jsonl}
- config_name: large
  data_files:
  - {split: train, path: [large/b.jsonl, large/a.jsonl]}
  - {split: test, path: small/*.jsonl}
---
"""


def parquet(texts: list[str]) -> bytes:
    packed = io.BytesIO()
    pq.write_table(pa.table({"text": texts, "id": range(len(texts))}), packed)
    return packed.getvalue()


def jsonl(texts: list[str]) -> bytes:
    return "".join(json.dumps({"text": text, "id": 3}) + "\n" for text in texts).encode()


def table(texts: list[str]) -> bytes:
    written = io.StringIO()
    csv.writer(written).writerows([("text", "id"), *((text, 3) for text in texts)])
    return written.getvalue().encode()


def archive(**files: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        for name, content in files.items():
            file.writestr(f"{name}.jsonl", content)
    return packed.getvalue()


SPLITS = {
    "data/train-00000-of-00002.parquet": parquet(ONE),
    "data/train-00001-of-00002.parquet": parquet(TWO),
    "data/test-00000-of-00001.parquet": parquet(THREE),
}
CONFIGURED = {
    "README.md": CONFIGURATIONS,
    "small/x.jsonl": jsonl(ONE),
    "large/a.jsonl": jsonl(TWO),
    "large/b.jsonl": jsonl(THREE),
}
LAYOUTS = {
    "Parquet, train": (SPLITS, None, "train"),
    "Parquet, test": (SPLITS, None, "test"),
    "JSON lines": ({"train.jsonl": jsonl(ONE), "test.jsonl": jsonl(TWO)}, None, "train"),
    "packed": ({"train.jsonl.gz": gzip.compress(jsonl(ONE))}, None, "train"),
    "CSV": ({"train.csv": table(ONE), "test.csv": table(TWO)}, None, "test"),
    "plain text": ({"one.txt": b"x\ny\n", "two.txt": b"z\n"}, None, "train"),
    "names that say no split": ({"b.jsonl": jsonl(ONE), "a.jsonl": jsonl(TWO)}, None, "train"),
    "a configuration": (CONFIGURED, "small", "train"),
    "another one, in its own order": (CONFIGURED, "large", "train"),
    "another one's other split": (CONFIGURED, "large", "test"),
    "an archive": ({"data.zip": archive(b=jsonl(ONE), a=jsonl(TWO))}, None, "train"),
    "an archive a split": (
        {"train.zip": archive(a=jsonl(ONE)), "test.zip": archive(a=jsonl(TWO))},
        None,
        "test",
    ),
    "names with characters of patterns": (
        {"my data/train [1].jsonl": jsonl(ONE), "my data/train é {2}.jsonl": jsonl(TWO)},
        None,
        "train",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_documents_are_those_that_the_library_reads(hub, layout):
    files, name, split = LAYOUTS[layout]
    commit = hub.repository(NAME, "datasets").commit(files)
    library = datasets.load_dataset(NAME, name, split=split, revision=commit, streaming=True)
    expected = [row["text"] for row in library]
    hub.requests.clear()
    spec = {"path": NAME, "name": name, "split": split, "column": "text"}
    found = resolve("dataset", NAME, "main")
    assert list(hub_documents(found, {"dataset": spec})) == expected != []
    contents = hub.asked("GET (/-/cdn|/api/resolve-cache)/")
    assert len(contents) == len(set(contents))
