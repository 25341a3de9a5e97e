"""The files and arguments that a study's config is written in, read so that nothing gets lost.

Snakemake's own reader takes the last of a repeated key without a word, turns a name such as 016
into 14, and of a file that it cannot read names neither the file nor the place in it. Here each
key knows where it was written, and each number how.
"""

import json
import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sae_stitching.base.errors import StudyError, unreadable


class WrittenInt(int):
    """A whole number that is written otherwise than Python would; its `str` is as it is written."""

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def misread(self) -> bool:
        """Whether YAML takes it for another number than a reader would: 010 for 8, 1:30 for 90."""
        return bool(re.match(r"[-+]?0\d", self.text)) or ":" in self.text


class WrittenFloat(float):
    """A number, see `WrittenInt`."""

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def misread(self) -> bool:
        """Whether YAML takes it for another number than a reader would, 1:30.5 for 90.5."""
        return ":" in self.text


@dataclass(frozen=True)
class Config:
    """What was written, and where.

    Attributes
    ----------
    values : dict
        Of YAML's types; numbers that are written in a way of their own know it (`WrittenInt`).
    places : dict
        By dotted path, such as ``saes[1].k``: file and line.
    """

    values: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)

    def over(self, below: "Config") -> "Config":
        """Lay this config over another: key by key, a list as a whole."""
        values, places = dict(below.values), dict(below.places)
        _lay_over(values, places, self.values, "")
        return Config(values, places | self.places)

    def place(self, message: str) -> str:
        """Where the key was written that a message begins with, or the nearest key around it."""
        key = message.partition(": ")[0]
        ends = [len(key), *(sign.start() for sign in re.finditer(r"[.\[]", key))]
        around = (key[:end] for end in sorted(ends, reverse=True))
        return next((self.places[path] for path in around if path in self.places), "")


def _lay_over(
    values: dict[str, Any], places: dict[str, str], over: Mapping[str, Any], path: str
) -> None:
    for key, value in over.items():
        inner, there = join_key(path, key), values.get(key)
        if isinstance(value, Mapping) and isinstance(there, Mapping):
            values[key] = dict(there)
            _lay_over(values[key], places, value, inner)
        else:
            values[key] = value
            for gone in [p for p in places if p.startswith((f"{inner}.", f"{inner}["))]:
                del places[gone]


def read_config(files: Iterable[str | Path], arguments: Iterable[str] = ()) -> Config:
    """Read config files, and arguments over them, each laid over those before it.

    Parameters
    ----------
    files
        In YAML or JSON.
    arguments
        ``KEY=VALUE`` with the value in YAML, as they follow ``--config`` on the command line.

    Raises
    ------
    StudyError
        For the first thing in them that cannot be understood, with file, line and remedy.
    """
    config, given = Config(), Config()
    for path in files:
        config = _read_file(Path(path)).over(config)
    for argument in arguments:
        one = _read_argument(argument)
        if twice := _leaves(one.values) & _leaves(given.values):
            raise StudyError(f"--config: {min(twice)} is given twice; remove one")
        given = one.over(given)
    return given.over(config)


def join_key(path: str, key: Any) -> str:
    """Dotted path of a key in what `path` leads to."""
    # A key may be any text, line breaks and colons among it.
    plain = isinstance(key, str) and re.fullmatch(r"[\w.-]+( [\w.-]+)*", key)
    shown = key if plain else shorten(repr(key))
    return f"{path}.{shown}" if path else shown


def shorten(text: str) -> str:
    """Leave out the middle of a long text."""
    return text if len(text) <= 80 else f"{text[:60]}...{text[-15:]}"


def _leaves(values: Mapping[str, Any], path: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in values.items():
        inner = join_key(path, key)
        found |= _leaves(value, inner) if isinstance(value, Mapping) else {inner}
    return found


def _read_file(path: Path) -> Config:
    name = str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise StudyError(f"{name}: no such file; check the path") from None
    except OSError as error:
        raise unreadable(name, error, f"cannot be read ({error})") from error
    values, places = _read_yaml(_decode(raw, name), name)
    if not isinstance(values, dict):
        kind = {list: "holds a list", type(None): "is empty"}.get(type(values), "holds no keys")
        raise StudyError(
            f"{name}: {kind}; write the config's keys there, each at the beginning of a line"
        )
    return Config(values, places)


def _decode(raw: bytes, name: str) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in raw[:4]:
        raise StudyError(f"{name}: is UTF-16 or UTF-32, not UTF-8; save it as UTF-8")
    try:
        return raw.decode("utf-8").removeprefix("\ufeff")  # byte order mark
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise StudyError(
            f"{name}, line {line}: byte 0x{raw[error.start]:02x} is not UTF-8; save the file as "
            "UTF-8"
        ) from error


def _read_argument(argument: str) -> Config:
    key, equals, text = argument.partition("=")
    if not equals or not key:
        raise StudyError(
            f"--config {shorten(argument)}: write KEY=VALUE, such as --config "
            "'training={steps: 9}'"
        )
    *sections, last = key.split(".")
    if sections and all(sections):
        inner = f"{{{last}: {text}}}"
        for section in reversed(sections[1:]):
            inner = f"{{{section}: {inner}}}"
        raise StudyError(
            f"--config {shorten(key)}: no key has a dot in it; write --config "
            f"'{shorten(f'{sections[0]}={inner}')}'"
        )
    name = f"--config {shorten(key)}"
    if not re.fullmatch(r"[A-Za-z_]\w+", key):
        raise StudyError(f"{name}: is no key of a config; schemas/config.schema.yaml names them")
    try:
        value, inside = _read_yaml(text, name)
    except StudyError:
        # What is no YAML is the text itself, unless it begins as a list or a mapping does.
        if text.lstrip().startswith(("[", "{")):
            raise
        value, inside = text, {}
    paths = (path if path.startswith("[") else f".{path}" for path in inside)
    return Config({key: value}, {key: name, **{f"{key}{path}": name for path in paths}})


# YAML

_REMEDIES = {
    r"'\t'": "indent with spaces, not with tabs",
    "cannot start any token": "put the text in quotes",
    "mapping values are not allowed": "put a text with a colon in quotes, or begin a new line",
    "another document": "keep one of them: remove the line ---",
    "alias": "put a text with * in quotes",
    "anchor": "put a text with & in quotes",
    "for the tag": "put a text with ! in quotes; other tags are not understood",
    "unexpected end of stream": "close the quotes",
    "for merging": "give << the name of a mapping (*name)",
}


def _written(number: Any, text: str) -> Any:
    if isinstance(number, bool) or str(number) == text:
        return number
    written = WrittenInt(number) if isinstance(number, int) else WrittenFloat(number)
    written.text = text
    return written


def _read_yaml(text: str, name: str) -> tuple[Any, dict[str, str]]:
    """Read YAML, or JSON, which is YAML but for its tabs and for numbers such as 1e-3."""
    try:
        value = json.loads(text, parse_float=lambda number: _written(float(number), number))
        is_json, text = True, text.replace("\t", " ")
    except (ValueError, RecursionError):
        value, is_json = None, False
    places: dict[str, str] = {}
    try:
        loader = yaml.SafeLoader(text)
        if node := loader.get_single_node():
            read = _Reading(loader, name, places).value(node, "", ())
            value = value if is_json else read
        return value, places
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise StudyError(
            f"{name}, line {line}: holds the character {chr(error.character)!r}, which YAML does "
            "not allow; remove it"
        ) from error
    except yaml.MarkedYAMLError as error:
        raise StudyError(_not_yaml(error, name)) from error
    except RecursionError as error:
        raise StudyError(f"{name}: is nested too deeply; write it flatter") from error


def _not_yaml(error: yaml.MarkedYAMLError, name: str) -> str:
    mark = error.problem_mark or error.context_mark
    where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
    problem = str(error.problem or error.context).removeprefix("but ")
    begun = error.context_mark
    if begun and mark and begun.line != mark.line and str(error.context).startswith("while"):
        problem += f" ({error.context} from line {begun.line + 1} on)"
    said = " ".join(f"{error.context} {problem}".split())
    remedy = next((text for sign, text in _REMEDIES.items() if sign in said), "correct it there")
    problem = " ".join(problem.split()).replace("tag:yaml.org,2002:", "!!")
    return f"{name}{where}: {problem}; {remedy}"


class _Reading:
    """Builds the values from YAML's nodes, and notes where each is written."""

    def __init__(self, loader: yaml.SafeLoader, name: str, places: dict[str, str]) -> None:
        self.loader, self.name, self.places = loader, name, places
        self.merged: set[int] = set()

    def place(self, node: Any) -> str:
        return f"{self.name}, line {node.start_mark.line + 1}"

    def value(self, node: Any, path: str, around: tuple[int, ...]) -> Any:
        if id(node) in around:
            raise StudyError(f"{self.place(node)}: {path} holds itself; write it out")
        around = (*around, id(node))
        if isinstance(node, yaml.SequenceNode) and node.tag == "tag:yaml.org,2002:seq":
            items = enumerate(node.value)
            return [self.noted(item, item, f"{path}[{i}]", around) for i, item in items]
        if isinstance(node, yaml.MappingNode) and node.tag == "tag:yaml.org,2002:map":
            return self.mapping(node, path, around)
        return self.scalar(node, path)

    def noted(self, node: Any, written: Any, path: str, around: tuple[int, ...]) -> Any:
        self.places[path] = self.place(written)
        return self.value(node, path, around)

    def mapping(self, node: Any, path: str, around: tuple[int, ...]) -> dict[Any, Any]:
        self.check_keys(node, path)
        values: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = self.key(key_node)
            values[key] = self.noted(value_node, key_node, join_key(path, key), around)
        return values

    def check_keys(self, node: Any, path: str) -> None:
        """Complain of a key that is given twice; take in what << refers to, which own keys hide."""
        if id(node) in self.merged:
            return
        self.merged.add(id(node))
        first: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            key = self.key(key_node)
            if (before := first.setdefault(key, key_node)) is not key_node:
                raise StudyError(
                    f"{self.place(key_node)}: {join_key(path, key)} is given twice, first in line "
                    f"{before.start_mark.line + 1}; remove one"
                )
            if key_node.tag == "tag:yaml.org,2002:merge":
                parts = value_node.value if isinstance(value_node, yaml.SequenceNode) else []
                for part in (value_node, *parts):
                    if isinstance(part, yaml.MappingNode):
                        self.check_keys(part, path)
        self.loader.flatten_mapping(node)

    def key(self, node: Any) -> Hashable:
        if not isinstance(node, yaml.ScalarNode):
            raise StudyError(f"{self.place(node)}: a list or mapping is no key; write text")
        return node.value if node.tag.endswith((":merge", ":value")) else self.scalar(node, "key")

    def scalar(self, node: Any, path: str) -> Any:
        try:
            value = self.loader.construct_object(node, deep=True)
        except (ValueError, OverflowError) as error:
            raise StudyError(
                f"{self.place(node)}: {path}: YAML cannot read {shorten(repr(node.value))} as "
                f"{node.tag.rpartition(':')[2]} ({error}); put it in quotes"
            ) from error
        if isinstance(value, int | float):
            return _written(value, node.value)
        return value
