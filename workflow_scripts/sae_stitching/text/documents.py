"""Documents: plain texts from a MediaWiki dump, from text files or from a dataset.

Each of the three yields one string per document, in a fixed order, and holds one document in
memory at a time (a dataset: one record). A dataset of the hub is read once, by
`hub_dataset.hub_documents`; what is kept of it is then read like a dump.
"""

import bz2
import glob
import hashlib
import html
import itertools
import logging
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import mwparserfromhell
from mwparserfromhell.nodes import (
    ExternalLink,
    Heading,
    HTMLEntity,
    Tag,
    Template,
    Text,
    Wikilink,
)
from mwparserfromhell.wikicode import Wikicode

from sae_stitching.base.errors import StudyError, in_the_way, unreadable
from sae_stitching.base.progress import Progress
from sae_stitching.text.text_file import read_text

logger = logging.getLogger(__name__)


def read_documents(
    text: Mapping[str, Any], source: Mapping[str, Any] | None = None, path: Path | None = None
) -> Iterator[str]:
    """Read the documents of the study's text.

    Parameters
    ----------
    text
        Section `text` of the config: `source` ("files", "dataset" or the name of a source) with
        `files` and `separator`, or `dataset`; `max_documents` stops after that many.
    source
        The source that `text.source` names, where it names one.
    path
        The fetched file of that source, or of a dataset of the hub.

    Returns
    -------
    Iterator of str
        Never an empty document.

    Raises
    ------
    StudyError
        If a file or dataset is missing, empty, or not what the config says. What can be known
        without reading the text is raised here, the rest while iterating.
    """
    if text["source"] == "files":
        documents = _read_files(text["files"], text.get("separator"))
    elif text["source"] == "dataset" and path is not None:
        documents = read_text(path)
    elif text["source"] == "dataset":
        documents = _read_dataset(text["dataset"])
    else:
        if source is None or path is None:
            raise StudyError(
                f"text.source: {text['source']!r} is not 'files', 'dataset' or a name in sources"
            )
        if source["kind"] != "mediawiki-dump":
            raise StudyError(
                f"text.source: source {text['source']!r} is of kind {source['kind']!r}, "
                "which holds no text; choose one of kind 'mediawiki-dump'"
            )
        documents = read_mediawiki_dump(path, source.get("sha256"))
    return itertools.islice(documents, text.get("max_documents"))


# Text files


def _read_files(patterns: list[str], separator: str | None) -> Iterator[str]:
    paths: list[str] = []
    for pattern in patterns:
        # A name that is there is that file, also where it has characters of a pattern in it.
        matches = [pattern] if Path(pattern).is_file() else glob.glob(pattern, recursive=True)
        found = sorted(match for match in matches if Path(match).is_file())
        if not found:
            raise StudyError(f"text.files: {pattern!r} matches no file; correct it")
        paths += found
    return _documents_of_files(list(dict.fromkeys(paths)), separator)


def _documents_of_files(paths: list[str], separator: str | None) -> Iterator[str]:
    progress = Progress(len(paths), "read text", unit="files")
    for path in paths:
        content = _decode(path)
        parts = content.split(separator) if separator else [content]
        yield from (part for part in parts if part.strip())
        progress.update(1)


def _decode(path: str) -> str:
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise unreadable(f"text.files: {path}", error, f"cannot be read ({error})") from error
    if (position := raw.find(b"\0")) >= 0:
        raise StudyError(
            f"text.files: {path}: zero byte at position {position}, so it is a binary file or "
            "not UTF-8; give plain UTF-8 text"
        )
    try:
        content = raw.decode("utf-8").removeprefix("\ufeff")  # byte order mark
    except UnicodeDecodeError as error:
        raise StudyError(
            f"text.files: {path}: not UTF-8 at byte position {error.start} "
            f"(0x{raw[error.start]:02x}); convert it to UTF-8"
        ) from error
    if not content.strip():
        raise StudyError(f"text.files: {path}: is empty; remove it from text.files")
    return content.replace("\r\n", "\n")


# Datasets

_BUILDERS = {
    ".parquet": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "text",
    ".arrow": "arrow",
}


def _read_dataset(spec: Mapping[str, Any]) -> Iterator[str]:
    # What can be known without reading is known now.
    opened = _open_dataset(spec)
    return documents_of_dataset([opened], spec["column"], spec["path"])


def documents_of_dataset(parts: Iterable[Any], column: str, path: str) -> Iterator[str]:
    """Documents in one column of a dataset, which may be in parts.

    Parameters
    ----------
    parts
        Of the datasets library, streamed or not, one after the other.
    column
    path
        What complaints call the dataset.

    Raises
    ------
    StudyError
        While iterating, if the column is missing or no text, or a part cannot be read.
    """
    return _documents_of_column(_column(parts, column, path), column, path)


def _column(parts: Iterable[Any], column: str, path: str) -> Iterator[Any]:
    for part in parts:
        # A streamed dataset without declared features tells its columns only by its first row.
        names = part.column_names
        if names is None:
            first = _next_row(iter(part), 0, path)
            names = list(first) if first is not None else [column]
        if column not in names:
            raise StudyError(
                f"text.dataset.column: {path} has no column {column!r}; it has {', '.join(names)}"
            )
        yield from part.select_columns(column)


def _documents_of_column(rows: Iterator[Any], column: str, path: str) -> Iterator[str]:
    for index in itertools.count():
        row = _next_row(rows, index, path)
        if row is None:
            return
        document = row[column]
        if document is not None and not isinstance(document, str):
            raise StudyError(
                f"text.dataset.column: {path}: column {column!r} holds "
                f"{type(document).__name__} at record {index}, expected text"
            )
        if document and document.strip():
            yield document


def _next_row(iterator: Iterator[Any], index: int, path: str) -> Any:
    try:
        return next(iterator, None)
    except StudyError:
        raise
    except Exception as error:  # every file format and file system raises its own
        raise StudyError(
            f"text.dataset: {path}: cannot be read at or after record {index} ({_one_line(error)})"
        ) from error


def _open_dataset(spec: Mapping[str, Any]) -> Any:
    """Open the split of a dataset without reading it whole."""
    import datasets  # slow to import, and needed for this kind of text only

    datasets.disable_progress_bars()
    path, name, split = spec["path"], spec.get("name"), spec["split"]
    local = Path(path)
    try:
        if (local / "dataset_dict.json").is_file() or (local / "state.json").is_file():
            opened = datasets.load_from_disk(str(local))
            if isinstance(opened, datasets.DatasetDict):
                if split not in opened:
                    raise StudyError(
                        f"text.dataset.split: {path} has no split {split!r}; "
                        f"it has {', '.join(map(str, opened))}"
                    )
                opened = opened[split]
            return opened
        if local.is_file():
            builder = _BUILDERS.get(local.suffix.lower())
            if builder is None:
                raise StudyError(
                    f"text.dataset.path: {path}: a file must end in {', '.join(_BUILDERS)}"
                )
            options: dict[str, Any] = {"data_files": {split: str(local)}}
            if local.suffix.lower() == ".tsv":
                options["delimiter"] = "\t"
            # A file on its own has one split, whatever the config calls it.
            return datasets.load_dataset(builder, split=split, streaming=True, **options)
        if not local.is_dir():
            raise StudyError(f"text.dataset.path: {path}: no such file or folder; check the path")
        return datasets.load_dataset(str(local), name, split=split, streaming=True)
    except StudyError:
        raise
    except Exception as error:  # each builder raises its own
        raise StudyError(
            f"text.dataset: {path} (name {name!r}, split {split!r}) cannot be opened as a local "
            f"folder: {_one_line(error)}"
        ) from error


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


# MediaWiki dumps

# Tags whose content is not prose.
_DROPPED_TAGS = frozenset(
    {
        "categorytree",
        "ce",
        "chem",
        "gallery",
        "graph",
        "hiero",
        "imagemap",
        "inputbox",
        "mapframe",
        "maplink",
        "math",
        "pre",
        "ref",
        "references",
        "score",
        "script",
        "source",
        "style",
        "syntaxhighlight",
        "table",
        "templatedata",
        "timeline",
    }
)
# Sections that hold lists of works and links, not prose.
_DROPPED_SECTIONS = frozenset(
    {
        "bibliography",
        "citations",
        "external links",
        "footnotes",
        "further reading",
        "notes",
        "notes and references",
        "references",
        "references and notes",
        "references and sources",
        "see also",
        "sources",
        "works cited",
    }
)
# Templates that stand for a part of the sentence: which of their positional arguments to keep.
_INLINE_TEMPLATES: dict[str, tuple[int, ...]] = {
    "convert": (1, 2),
    "cvt": (1, 2),
    "lang": (2,),
    "transl": (2,),
    "transliteration": (2,),
    "nowrap": (1,),
    "nobr": (1,),
    "small": (1,),
    "abbr": (1,),
    "mvar": (1,),
    "var": (1,),
    "quote": (1,),
    "cquote": (1,),
    "blockquote": (1,),
    "quotation": (1,),
    "sic": (1,),
    "as of": (1,),
    "ill": (1,),
    "interlanguage link": (1,),
    "circa": (1,),
    "c.": (1,),
    "ship": (1, 2),
    "uss": (1,),
    "hms": (1,),
}
_PREFIXES = {"as of": "as of ", "circa": "c. ", "c.": "c. ", "uss": "USS ", "hms": "HMS "}
_SYMBOL_TEMPLATES = {
    "nbsp": " ",
    "spaces": " ",
    "ndash": "–",
    "snd": " – ",
    "spaced ndash": " – ",
    "spnd": " – ",
    "mdash": "—",
    "'": "'",
    "'s": "'s",
    "!": "|",
    "=": "=",
    "pi": "π",
    "bce": "BCE",
    "ce": "CE",
}
# Between the two numbers of {{convert|5|to|7|km}}.
_RANGE_WORDS = {"to": "to", "and": "and", "or": "or", "-": "–", "–": "–", "by": "by", "x": "×"}

_LANGUAGE_LINK = re.compile(r"[a-z]{2,3}(-[a-z-]+)?$|simple$")
_DEBRIS_LINE = re.compile(r"^\s*(\{\||\|[-+}]?|!(?=\s)).*$", re.MULTILINE)
_UNCLOSED = re.compile(
    r"\{\{[^{}\n]*(?:\}\}|$)|\[\[(?:File|Image):(?:[^\[\]|\n]*\|)*|\[(?:https?:)?//[^\]\s]*\]?",
    re.MULTILINE | re.IGNORECASE,
)
_DEBRIS = re.compile(r"\{\{|\}\}|\[\[|\]\]|\{\||\|\}|'{2,}|__[A-Z]+__|</?[a-zA-Z][^<>]*>")
_EMPTY_BRACKETS = re.compile(r"\s*[(\[]\s*(?:[^\w()\[\]]|\bor\b|\band\b)*[)\]]")
_BRACKET_START = re.compile(r"\([ \t,;:]+(?=\S)")
_BRACKET_END = re.compile(r"[ \t,;:]+\)")
_BEFORE_PUNCTUATION = re.compile(r"[ \t]+([,.;:!?)](?=\s|$|[,.;:!?)]))")
_DOUBLED_COMMA = re.compile(r",(?:\s*,)+")
_SPACES = re.compile(r"[ \t\u00a0\u2002-\u200b\u202f]+")


def read_mediawiki_dump(path: Path, sha256: str | None = None) -> Iterator[str]:
    """Read the articles of a MediaWiki XML export (`.bz2` or plain) as plain text.

    Pages outside the article namespace and redirects are left out. See `strip_markup` for what
    remains of a page. With the checksum that the file should have, a damaged one is told from one
    that never was such an export.

    Raises
    ------
    StudyError
        If the file is missing, damaged, or holds no article.
    """
    if not path.is_file():
        raise StudyError(f"{path}: no such file; fetch the source again")
    return _articles(path, sha256)


def _articles(path: Path, sha256: str | None) -> Iterator[str]:
    progress = Progress(path.stat().st_size, f"read {path.name}", unit="bytes")
    media = {"file", "image", "media", "category"}
    n_articles = 0
    with open(path, "rb") as raw:
        packed = raw.read(3) == b"BZh"
        raw.seek(0)
        stream = bz2.BZ2File(raw) if packed else raw
        try:
            root = None
            for event, element in ElementTree.iterparse(stream, events=("start", "end")):
                if event == "start":
                    root = element if root is None else root
                    continue
                tag = element.tag.rpartition("}")[2]
                if tag == "namespace" and element.get("key") in ("-2", "6", "14"):
                    media.add((element.text or "").lower())
                if tag != "page":
                    continue
                document = _article(element, frozenset(media))
                # What the root holds of pages already read would grow to the whole dump.
                if root is not None:
                    root.clear()
                if (advance := raw.tell() - progress.done) > 0:  # by blocks of many pages
                    progress.update(advance, partial("{} articles".format, n_articles))
                if document:
                    n_articles += 1
                    yield document
        except (ElementTree.ParseError, EOFError, OSError) as error:
            sound = sha256 and not in_the_way(error) and _sha256(path) == sha256.lower()
            remedy = "correct the source" if sound else "delete it and fetch the source again"
            otherwise = f"not a whole MediaWiki XML export ({_one_line(error)}); {remedy}"
            raise unreadable(path, error, otherwise) from error
    if not n_articles:
        raise StudyError(f"{path}: holds no article; is it a MediaWiki XML export?")
    logger.info("%s: %d articles", path.name, n_articles)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _article(page: ElementTree.Element, media: frozenset[str]) -> str:
    wikitext = page.findtext("{*}revision/{*}text") or ""
    redirect = page.find("{*}redirect") is not None or wikitext[:9].lower() == "#redirect"
    if redirect or page.findtext("{*}ns", "0") != "0":
        return ""
    return strip_markup(wikitext, media)


def strip_markup(
    wikitext: str, media: frozenset[str] = frozenset({"file", "image", "media", "category"})
) -> str:
    """Turn wikitext into plain text: headings, paragraphs and list items.

    Templates (but for a few that stand for words of the sentence, such as ``{{convert}}``),
    tables, references, formulas, galleries, comments, links to files and categories, and
    sections of mere references are dropped.

    Parameters
    ----------
    wikitext
        Source of a page.
    media
        Names, in lower case, of the namespaces to which a link shows no text.

    Returns
    -------
    str
        Blocks separated by an empty line, list items by a line break.
    """
    rendered = _render(mwparserfromhell.parse(wikitext), media)
    sections: list[tuple[int, str, str]] = []
    dropped_below = 0  # level of the dropped section that we are in, 0 outside
    for number, part in enumerate(_HEADING_MARK.split(rendered)):
        level, title, body = (0, "", part) if number == 0 else _split_heading(part)
        if dropped_below and (level > dropped_below):
            continue
        dropped_below = level if title.lower() in _DROPPED_SECTIONS else 0
        if not dropped_below:
            sections.append((level, title, _tidy(body)))
    # From the end, so that a heading is kept if anything below it is.
    blocks: list[str] = []
    kept_level = 0  # level of the heading that follows and was kept, 0 where none
    for level, title, body in reversed(sections):
        if not body and level >= kept_level:
            continue
        blocks += [block for block in (body, title) if block]
        kept_level = level
    return "\n\n".join(reversed(blocks))


# Headings and list items are marked by control characters, which XML forbids in a page.
_ITEM = "\x03"
_HEADING_MARK = re.compile("\x01")


def _split_heading(part: str) -> tuple[int, str, str]:
    title, _, body = part.partition("\x02")
    return int(title[0]), _tidy(title[1:]), body


def _render(code: Wikicode | None, media: frozenset[str]) -> str:
    return "".join(_render_node(node, media) for node in code.nodes) if code is not None else ""


def _render_node(node: object, media: frozenset[str]) -> str:
    if isinstance(node, Text):
        return str(node.value)
    if isinstance(node, Wikilink):
        title = html.unescape(str(node.title)).strip()
        prefix = title.partition(":")[0].strip().lower() if ":" in title else ""
        if prefix in media or (node.text is None and _LANGUAGE_LINK.match(prefix)):
            return ""
        return _render(node.text, media) if node.text is not None else title.lstrip(":")
    if isinstance(node, ExternalLink):
        if node.title is not None:
            return _render(node.title, media)
        return "" if node.brackets else str(node.url)
    if isinstance(node, HTMLEntity):
        return node.normalize() or ""
    if isinstance(node, Heading):
        title = " ".join(_render(node.title, media).split())
        return f"\x01{node.level}{title}\x02"
    if isinstance(node, Tag):
        return _render_tag(node, media)
    if isinstance(node, Template):
        return _render_template(node, media)
    return ""  # comments and template arguments


def _render_tag(tag: Tag, media: frozenset[str]) -> str:
    name = str(tag.tag).strip().lower()
    if name in _DROPPED_TAGS:
        return ""
    if name == "br":
        return " "
    if name in ("li", "dd", "dt", "hr"):
        # In wikitext the mark of a list item begins a line; the tag may be anywhere.
        return ("" if tag.wiki_markup else "\n") + _ITEM + _render(tag.contents, media)
    content = _render(tag.contents, media)
    if name in ("blockquote", "div", "p", "center", "poem"):
        return f"\n\n{content}\n\n"
    return content


def _render_template(template: Template, media: frozenset[str]) -> str:
    name = " ".join(str(template.name).replace("_", " ").split()).lower()
    if name in _SYMBOL_TEMPLATES:
        return _SYMBOL_TEMPLATES[name]
    if name.startswith("lang-"):
        name, kept = "lang-", (1,)
    elif name in _INLINE_TEMPLATES:
        kept = _INLINE_TEMPLATES[name]
    else:
        return ""
    values = [_render(p.value, media).strip() for p in template.params if not p.showkey]
    if name in ("convert", "cvt") and len(values) > 3 and values[1] in _RANGE_WORDS:
        words = [values[0], _RANGE_WORDS[values[1]], values[2], values[3]]
    else:
        words = [values[i - 1] for i in kept if i <= len(values)]
    text = " ".join(word for word in words if word)
    return _PREFIXES.get(name, "") + text if text else ""


def _tidy(text: str) -> str:
    """Remove what dropped markup leaves behind, and join the lines of a paragraph."""
    text = _DEBRIS_LINE.sub("", text)
    text = _UNCLOSED.sub("", text)
    text = _DEBRIS.sub("", text)
    text = _SPACES.sub(" ", text)
    text = _EMPTY_BRACKETS.sub("", text)
    text = _BRACKET_START.sub("(", text)
    text = _BRACKET_END.sub(")", text)
    text = _DOUBLED_COMMA.sub(",", text)
    text = _BEFORE_PUNCTUATION.sub(r"\1", text)
    tidy = ""
    previous = "blank"
    for line in text.split("\n"):
        words = _SPACES.sub(" ", line.replace(_ITEM, " ")).lstrip(" *#:;,").rstrip()
        if not any(c.isalnum() for c in words):
            previous = "blank"
            continue
        kind = "item" if line.startswith(_ITEM) else "line"
        if previous == kind:
            tidy += " " if kind == "line" else "\n"
        elif tidy:
            tidy += "\n\n"
        tidy += words
        previous = kind
    return tidy
