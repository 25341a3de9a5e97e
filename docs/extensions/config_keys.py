"""The reference of config keys, made from the schema: by section, with type, default, meaning."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Rule = dict[str, Any]
Row = tuple[str, Rule, bool]

#: What an array holds is an entry of its own below it, in these sections.
LISTED = ("saes", "stitched", "swap", "insert")


def reference(schema: Rule) -> str:
    """Markdown with a section for each section of the config, and one for keys in none."""
    alone, sections = [], []
    for name, rule in schema["properties"].items():
        rule = resolved(rule, schema)
        required = name in schema["required"]
        if "properties" in rule or name in LISTED:
            rows = list(keys(name, rule, required, schema))
            sections += [f"## `{name}`", marked(rule["description"]), table(rows)]
        elif name == "sources":
            sections += [f"## `{name}`", marked(rule["description"]), *kinds(name, schema)]
        else:
            alone.append((name, rule, required))
    return "\n\n".join(["## The study", table(alone), *sections]) + "\n"


def keys(path: str, rule: Rule, required: bool, schema: Rule) -> Iterator[Row]:
    """Yield path, rule and whether it must be given, of each key at or below a path."""
    rule = resolved(rule, schema)
    if rule.get("type") == "array" and path.rpartition(".")[2] in LISTED:
        yield from keys(f"{path}[]", rule["items"], False, schema)
    elif "properties" not in rule:
        yield path, rule, required
    else:
        for key, below in rule["properties"].items():
            # What an entry of saes sets for itself is told in training.
            if below.get("$ref", "").startswith("#/properties/"):
                continue
            yield from keys(f"{path}.{key}", below, key in rule.get("required", ()), schema)


def kinds(section: str, schema: Rule) -> Iterator[str]:
    """Yield a heading and a table for each kind of source."""
    entry = schema["properties"][section]["additionalProperties"]
    for kind in entry["properties"]["kind"]["enum"]:
        rule = schema["$defs"][kind]
        yield f"### `kind: {kind}`"
        yield marked(rule["description"])
        yield table(list(keys(f"{section}.<name>", rule, True, schema)))


def table(rows: list[Row]) -> str:
    """Make a Markdown table, with a row a key."""
    lines = ["| Key | Type | Default | Meaning |", "|---|---|---|---|"]
    for path, rule, required in rows:
        cells = (f"`{path}`", typed(rule), default(rule, required), marked(rule["description"]))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def marked(description: str) -> str:
    """Description with paths, names with an underscore and keys of the config as code."""
    words = r"[^\s,;:()]*(?:[_/*<]|(?<=[a-z]{2})\.(?=[a-z]{2}))[^\s,;:()]*[^\s,;:().]"
    return re.sub(words, lambda match: f"`{match[0]}`", description)


def default(rule: Rule, required: bool) -> str:
    """Default of a key, in YAML."""
    if "default" not in rule:
        return "required" if required else "–"
    written = yaml.safe_dump(rule["default"], default_flow_style=True, allow_unicode=True)
    return f"`{written.splitlines()[0]}`"


def typed(rule: Rule) -> str:
    """Say what a value may be."""
    if "const" in rule:
        return f"`{rule['const']}`"
    if "enum" in rule:
        return either([f"`{'null' if value is None else value}`" for value in rule["enum"]])
    if "then" in rule and "else" in rule:
        return either([typed(rule["then"]), typed(rule["else"])])
    types = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
    first = types[0] + limits(rule)
    if types[0] == "array":
        first = f"list of {typed(rule['items'])}" if "enum" in rule["items"] else "list"
    return either([first, *("`null`" if kind == "null" else kind for kind in types[1:])])


def either(choices: list[str]) -> str:
    """Choices as a list in words."""
    *most, last = choices
    return f"{', '.join(most)} or {last}" if most else last


def limits(rule: Rule) -> str:
    """Range of a number."""
    words = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    return " and".join(f" {sign} {rule[key]}" for key, sign in words.items() if key in rule)


def resolved(rule: Rule, schema: Rule) -> Rule:
    """Rule with what its reference points at; its own keys win."""
    while "$ref" in rule:
        rest = {key: value for key, value in rule.items() if key != "$ref"}
        target: Any = schema
        for step in rule["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        rule = {**target, **rest}
    return rule


def setup(app: Any) -> dict[str, bool]:
    """Make ``config-keys`` a directive; its argument is the schema, from the page on."""
    from sphinx.util.docutils import SphinxDirective

    class ConfigKeys(SphinxDirective):
        required_arguments = 1

        def run(self) -> list[Any]:
            path = Path(self.get_source_info()[0]).parent / self.arguments[0]
            self.env.note_dependency(str(path.resolve()))
            schema = yaml.safe_load(path.read_text(encoding="utf-8"))
            return self.parse_text_to_nodes(reference(schema), allow_section_headings=True)

    app.add_directive("config-keys", ConfigKeys)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
