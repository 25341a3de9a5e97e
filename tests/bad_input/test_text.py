"""Texts, data sets and dumps that cannot be read: one line, and nothing half-written."""

import bz2
from collections.abc import Callable
from typing import Any

import pytest
from helpers.rule_calls import (
    dataset,
    dump,
    text,
)
from helpers.sound_study import LONG
from helpers.spoiling import (
    PAGE,
    nothing,
    save_dataset,
    write,
)

# What is said, what is wrong, and which rule finds it.
CASES: list[tuple[str, Callable[[], Any], Callable[[], Any]]] = [
    ("text.files: a.txt: is empty; remove it from text.files", nothing, lambda: text("")),
    ("text.files: a.txt: is empty; remove it from text.files", nothing, lambda: text("  \n\n \n")),
    (
        "text.files: a.txt: is empty; remove it from text.files",
        nothing,
        lambda: text(b"\xef\xbb\xbf"),
    ),
    (
        (
            "text.files: a.txt: zero byte at position 6, so it is a binary file or not "
            "UTF-8; give plain UTF-8 text"
        ),
        nothing,
        lambda: text(b"\x7fELF\x02\x01\x00" + bytes(50)),
    ),
    (
        "text.files: a.txt: not UTF-8 at byte position 5 (0xe4); convert it to UTF-8",
        nothing,
        lambda: text("Ein Jäger".encode("latin-1")),
    ),
    (
        (
            "text.files: a.txt: zero byte at position 3, so it is a binary file or not "
            "UTF-8; give plain UTF-8 text"
        ),
        nothing,
        lambda: text("Zwei Worte".encode("utf-16")),
    ),
    (
        "text.files: a.txt: not UTF-8 at byte position 1 (0xc3); convert it to UTF-8",
        nothing,
        lambda: text("Jä".encode()[:-1]),
    ),
    (
        (
            "text: has 1 document, of which none fills a sequence of 16 tokens; train and "
            "eval need one each: give more or longer documents (text.separator splits a "
            "file), or lower tokens.context"
        ),
        nothing,
        lambda: text("Short."),
    ),
    (
        (
            "text: has 1 document, of which only one fills a sequence of 16 tokens; train "
            "and eval need one each: give more or longer documents (text.separator splits a "
            "file), or lower tokens.context"
        ),
        nothing,
        lambda: text(LONG),
    ),
    (
        (
            "text: has 3 documents, of which only one fills a sequence of 16 tokens; train "
            "and eval need one each: give more or longer documents (text.separator splits a "
            "file), or lower tokens.context"
        ),
        nothing,
        lambda: text(LONG + "|short|shorter", separator="|"),
    ),
    (
        (
            "text: has 0 documents, of which none fills a sequence of 16 tokens; train and "
            "eval need one each: give more or longer documents (text.separator splits a "
            "file), or lower tokens.context"
        ),
        nothing,
        lambda: text("||||", separator="|"),
    ),
    (
        "text.files: 'gone/*.txt' matches no file; correct it",
        nothing,
        lambda: text(files=["gone/*.txt"]),
    ),
    ("text.files: 'gpt2' matches no file; correct it", nothing, lambda: text(files=["gpt2"])),
    (
        "text.source: 'w' is not 'files', 'dataset' or a name in sources",
        nothing,
        lambda: text(source="w"),
    ),
    (
        "model.name: ./nowhere: no such folder; check the path (a model of the hub is fetched to a "
        "folder first)",
        nothing,
        lambda: text(LONG, model="./nowhere"),
    ),
    (
        (
            "text.dataset.path: a.txt.gz: a file must end in .parquet, .json, .jsonl, .csv, "
            ".tsv, .txt, .arrow"
        ),
        lambda: write("a.txt.gz", "x"),
        lambda: dataset("a.txt.gz"),
    ),
    (
        "text.dataset.column: a.jsonl has no column 'text'; it has content, id",
        lambda: write("a.jsonl", '{"content": "x", "id": 1}\n'),
        lambda: dataset("a.jsonl"),
    ),
    (
        "text.dataset.column: a.jsonl: column 'id' holds int at record 0, expected text",
        lambda: write("a.jsonl", '{"text": "x", "id": 1}\n'),
        lambda: dataset("a.jsonl", column="id"),
    ),
    (
        "text.dataset.column: a.csv has no column 'text'; it has title",
        lambda: write("a.csv", "title\nOne\n"),
        lambda: dataset("a.csv"),
    ),
    (
        "text.dataset.split: kept has no split 'test'; it has train",
        lambda: save_dataset("kept"),
        lambda: dataset("kept", split="test"),
    ),
    (
        (
            "a.bz2: not a whole MediaWiki XML export (Invalid data stream); delete it and "
            "fetch the source again"
        ),
        nothing,
        lambda: dump(b"BZh9 and no more"),
    ),
    (
        (
            "a.bz2: not a whole MediaWiki XML export (Compressed file ended before the "
            "end-of-stream marker was reached); delete it and fetch the source again"
        ),
        nothing,
        lambda: dump(bz2.compress(PAGE.format(LONG).encode())[:-30]),
    ),
    (
        "a.bz2: holds no article; is it a MediaWiki XML export?",
        nothing,
        lambda: dump(PAGE.format("#REDIRECT [[Elsewhere]]").encode()),
    ),
    (
        "a.bz2: holds no article; is it a MediaWiki XML export?",
        nothing,
        lambda: dump(b"<html><body>Not found</body></html>"),
    ),
]


@pytest.mark.parametrize(("message", "spoil", "rule"), CASES)
def test_bad_input_ends_with_one_line(ends_with_one_line, message, spoil, rule):
    ends_with_one_line(message, spoil, rule)
