"""The config of a study: check it, fill in its defaults, resolve its names.

The schema (schemas/config.schema.yaml) holds what one key alone can show: its type, range and
default. Here is what several keys show together, and the wording of every complaint.
"""

import datetime
import difflib
import glob
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from itertools import combinations, groupby, pairwise
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, ValidationError, validators

from sae_stitching import formats
from sae_stitching.activations import language_model
from sae_stitching.base.errors import StudyError
from sae_stitching.config import by_name
from sae_stitching.config.files import WrittenFloat, WrittenInt, join_key, read_config, shorten
from sae_stitching.tables.published import PUBLISHED

MODEL_KINDS = ("gguf-model", "random-model")
TEXT_KINDS = ("mediawiki-dump",)
#: Files of activations of a split at most; their names have four digits.
MOST_SHARDS = 10_000
#: Values of text.source that are no names of sources.
TEXT_WITHOUT_SOURCE = ("files", "dataset")


def read_study(
    base: str | Path, files: Iterable[str | Path], arguments: Iterable[str], *, alone: bool = False
) -> dict[str, Any]:
    """Read the config of a command line, check it and resolve it.

    Parameters
    ----------
    base
        Folder of the Snakefile, which has ``config.yaml`` and ``schemas/`` in it.
    files, arguments
        What follows ``--configfile`` and ``--config``.
    alone
        Leave ``config.yaml`` out where files or arguments are given.

    Returns
    -------
    dict
        As of `load_study`.

    Raises
    ------
    StudyError
        For the first problem found; with the place where the key was written, if it was.
    """
    base = Path(base)
    default = read_config([base / "config.yaml"])
    given = read_config(files, arguments)
    config = given if alone and given.values else given.over(default)
    try:
        values = by_name.own_model(config.values, given.values)
        return load_study(
            own_stitched(values, default.values),
            base / "schemas" / "config.schema.yaml",
            base,
        )
    except StudyError as error:
        place = config.place(str(error))
        raise StudyError(f"{place}: {error}" if place else str(error)) from error


def load_study(
    config: Mapping[str, Any], schema_path: str | Path, base: str | Path = "."
) -> dict[str, Any]:
    """Check a config and resolve it.

    Parameters
    ----------
    config
        The default study with presets and command line over it.
    schema_path
        The JSON schema of the config, as YAML.
    base
        Folder where relative paths of texts and models are looked up if the working directory
        does not have them; the folder of the Snakefile.

    Returns
    -------
    dict
        Of plain JSON types, with every key of the schema in the schema's order, whatever the
        order in `config`. Further:

        - every entry of ``saes`` has ``name``, and all keys of ``training`` or ``pretrained``; the
          latter with the path and the format that were found, where the files are local, and those
          of an SAE that is named by its release;
        - ``stitching.pairs`` is a list of ``[small, large]`` names and ``stitching.transition`` a
          list of names, empty where there is no transition;
        - every θ that an entry of ``stitched`` leaves open is ``stitching.threshold``, unless that
          is ``auto``;
        - ``text.files`` is the sorted list of the matched files, where the text is files.

        Resolving the result again leaves it as it is.

    Raises
    ------
    StudyError
        For the first problem found, with the key's dotted path and the remedy.
    """
    schema = _read_schema(str(schema_path))
    plain = _named_saes(_plain(config, ""), schema)
    validator = _Validator(schema)
    # A misspelt key often makes others look missing or wrong, so it is named first.
    errors = sorted(
        validator.iter_errors(plain), key=lambda error: error.validator != "additionalProperties"
    )
    if errors:
        raise StudyError(_complaint(errors[0], schema))
    study = _fill(plain, schema, validator)

    study["cache"] = str(_expand(study["cache"]))
    _check_sources(study["sources"])
    _resolve_model(study, Path(base))
    _resolve_text(study, Path(base))
    _check_documents(study["text"])
    _check_shards(study)
    _check_positions(study)
    _resolve_saes(study, Path(base))
    _check_batches(study)
    _check_paper(study)
    _resolve_stitched(study)
    _resolve_stitching(study)
    _resolve_thetas(study)
    return study


def _named_saes(config: dict[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Write out what the registry tells of SAEs that are named by their release."""
    if not (isinstance(config, dict) and by_name.names_any(config)):
        return config
    keys = schema["properties"]
    pin = {key: rule["default"] for key, rule in keys["registry"]["properties"].items()}
    given, cache = config.get("registry", {}), config.get("cache", keys["cache"]["default"])
    if not isinstance(given, dict):
        return config  # the schema says what is wrong
    pin |= given
    if not all(isinstance(value, str) for value in (cache, *pin.values())):
        return config
    if (version := given.get("version", "")) and "sha256" not in given:
        default = keys["registry"]["properties"]["version"]["default"]
        if version != default:
            raise StudyError(
                f"registry.sha256: this key is missing; sae-lens {version} has another registry "
                f"than {default}, give the checksum of its sae_lens/pretrained_saes.yaml"
            )
    return by_name.write_out(config, pin, str(_expand(cache)))


def own_stitched(config: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the default study's stitched SAEs in a study that has not the SAEs for them.

    A study is laid over the default one key by key, so that one with other ``saes`` and without
    ``stitched`` would have those of the default study, which are made of SAEs that it has not.

    Parameters
    ----------
    config
        As Snakemake has it after merging.
    default
        The default study, ``config.yaml``.
    """
    given: Any = config.get("stitched")
    if given != default.get("stitched") or config.get("saes") == default.get("saes"):
        return dict(config)
    try:
        known = {str(entry.get("name", entry.get("d_sae", ""))) for entry in config["saes"]}
        known |= {str(recipe["name"]) for recipe in given}
        parts = [{"swap": [], "insert": [], **recipe} for recipe in given]
        needed = {str(name) for recipe in parts for name in stitched_sources(recipe)}
    except (AttributeError, KeyError, TypeError):
        # Not even of the right form: `load_study` says so.
        return dict(config)
    return dict(config) if needed <= known else {**config, "stitched": []}


def is_jumprelu(sae: Mapping[str, Any]) -> bool:
    """Whether a resolved entry of ``saes`` is known to be a JumpReLU SAE; Gemma Scope's all are."""
    format = sae.get("pretrained", {}).get("format")
    return sae.get("architecture") == "jumprelu" or format == "gemma-scope"


def stitched_sources(recipe: Mapping[str, Any]) -> list[str]:
    """Names of the SAEs that a resolved entry of ``stitched`` is made of, its base first."""
    parts = [*recipe["swap"], *recipe["insert"]]
    return list(dict.fromkeys([recipe["base"], *(part["sae"] for part in parts)]))


def sae_sizes(study: Mapping[str, Any]) -> dict[str, int]:
    """Number of latents of every SAE; of a stitched one, as many as it may have.

    How many a stitched SAE really has is known only when it is made.
    """
    found = {sae["name"]: sae["d_sae"] for sae in study["saes"]}
    for recipe in study["stitched"]:
        coming: dict[str, int] = {}
        for part in (*recipe["swap"], *recipe["insert"]):
            name = part["sae"]
            most = coming.get(name, 0) + (part.get("n") or found[name])
            coming[name] = min(most, found[name])
        found[recipe["name"]] = found[recipe["base"]] + sum(coming.values())
    return found


def seed_groups(saes: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """Names of SAEs that differ in their seed alone, a list for each two or more of them."""
    groups: dict[str, list[str]] = {}
    for sae in saes:
        rest = json.dumps(_without(sae, "name", "seed"), sort_keys=True)
        groups.setdefault(rest, []).append(str(sae["name"]))
    return [names for names in groups.values() if len(names) > 1]


def series(saes: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int, int | None], list[str]]:
    """Trained SAEs of different sizes that share architecture, seed and steps, in order of size.

    In the config, and in the names of tables and figures, such a series is a ``family``; in the
    code families are those of latents, as in the paper.

    Parameters
    ----------
    saes
        Resolved ``saes`` entries; of one size in a series the first counts.

    Returns
    -------
    dict
        Names of the SAEs by (architecture, seed, steps), in the config's order. Where no size of an
        architecture and seed is trained for different numbers of steps, all are of one series,
        whatever steps each size needs, and the last is None.
    """
    trained = [sae for sae in saes if "pretrained" not in sae]
    steps_of: dict[tuple[str, int, int], set[int]] = {}
    for sae in trained:
        key = (sae["architecture"], sae["seed"], sae["d_sae"])
        steps_of.setdefault(key, set()).add(sae.get("steps", 0))
    several = {key[:2] for key, steps in steps_of.items() if len(steps) > 1}
    found: dict[tuple[str, int, int | None], dict[int, str]] = {}
    for sae in trained:
        kind = (sae["architecture"], sae["seed"])
        sizes = found.setdefault((*kind, sae["steps"] if kind in several else None), {})
        sizes.setdefault(sae["d_sae"], sae["name"])
    return {key: [sizes[d_sae] for d_sae in sorted(sizes)] for key, sizes in found.items()}


def longest_series(saes: Iterable[Mapping[str, Any]]) -> dict[tuple[str, int], list[str]]:
    """Of each architecture and seed the series that was trained for the most steps.

    Returns
    -------
    dict
        Names of the SAEs by (architecture, seed), in order of size.
    """
    found = series(saes)
    by_steps = sorted(found.items(), key=lambda item: item[0][2] or 0)
    longest = {(architecture, seed): names for (architecture, seed, _), names in by_steps}
    return {key: longest[key] for key in {key[:2]: None for key in found}}


# The schema: reading it, and filling in its defaults


@cache
def _read_schema(path: str) -> dict[str, Any]:
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


def _whole_pattern(
    _validator: Any, pattern: str, instance: Any, _schema: Any
) -> Iterator[ValidationError]:
    # Python's $ also matches before a final newline, which no name may have.
    text = _as_text(instance)
    if text is not None and not re.fullmatch(pattern, text):
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _whole_length(
    _validator: Any, most: int, instance: Any, _schema: Any
) -> Iterator[ValidationError]:
    text = _as_text(instance)
    if text is not None and len(text) > most:
        yield ValidationError(f"{instance!r} is too long")


def _as_text(instance: Any) -> str | None:
    """A text, or a number that stands for one: the name of an SAE, say."""
    is_text = isinstance(instance, str | int) and not isinstance(instance, bool)
    return str(instance) if is_text else None


def _type_as_written(
    validator: Any, kinds: Any, instance: Any, schema: Any
) -> Iterator[ValidationError]:
    yield from Draft202012Validator.VALIDATORS["type"](validator, kinds, instance, schema)
    # A whole number may be a name, but 1.0 would be called 1.
    if isinstance(instance, float) and "string" in _kinds(schema):
        yield ValidationError(f"{instance!r} is no text")
    if _misread(instance) and "string" not in _kinds(schema):
        yield ValidationError(f"{instance!r} is not the number that is written")


def _misread(value: Any) -> bool:
    return isinstance(value, WrittenInt | WrittenFloat) and value.misread


_Validator: Any = validators.extend(
    Draft202012Validator,
    {"pattern": _whole_pattern, "maxLength": _whole_length, "type": _type_as_written},
)


def _plain(value: Any, path: str) -> Any:
    """Copy as plain JSON types; complain of what YAML can hold and JSON cannot."""
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise StudyError(f"{join_key(path, key)}: the key is not text; put it in quotes")
        return {str(key): _plain(item, join_key(path, key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise StudyError(f"{path}: {value} is not a finite number; give one")
    if isinstance(value, int) and abs(value) >= 2**63:
        raise StudyError(f"{path}: the number has too many digits; give a smaller one")
    if isinstance(value, datetime.date):  # datetime.datetime too
        raise StudyError(f'{path}: YAML reads {value} as a date; put it in quotes: "{value}"')
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise StudyError(f"{path}: {type(value).__name__} is no type for a config; give text or number")


def _fill(value: Any, schema: Mapping[str, Any], validator: Any) -> Any:
    """Copy a valid `value` with all defaults and in the order and number types of the schema."""
    rules = list(_rules(value, schema, validator))
    if isinstance(value, dict):
        # The default is looked for in the property itself, not behind its $ref: entries of saes
        # refer to the keys of training for their types and take what they lack from training.
        known = {key: sub for rule in rules for key, sub in rule.get("properties", {}).items()}
        other = next((r["additionalProperties"] for r in rules if "additionalProperties" in r), {})
        filled = {
            key: value.get(key, sub.get("default"))
            for key, sub in known.items()
            if key in value or "default" in sub
        }
        filled |= {key: item for key, item in value.items() if key not in known}
        return {key: _fill(item, known.get(key, other), validator) for key, item in filled.items()}
    if isinstance(value, list):
        items = next((rule["items"] for rule in rules if "items" in rule), {})
        return [_fill(item, items, validator) for item in value]
    # One spelling for one number: a parameter that went from 2 to 2.0 would count as changed.
    kinds = {kind for rule in rules for kind in _kinds(rule)}
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if "string" in kinds:
        return str(value)
    if "integer" in kinds:
        return int(value)
    return float(value) if "number" in kinds else _plain_number(value)


def _rules(value: Any, schema: Mapping[str, Any], validator: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the schemas that hold for a valid `value`: `schema` and all that it leads to."""
    yield schema
    if "$ref" in schema:
        target = validator.schema
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        yield from _rules(value, target, validator)
    if "if" in schema:
        branch = "then" if validator.evolve(schema=schema["if"]).is_valid(value) else "else"
        yield from _rules(value, schema.get(branch, {}), validator)
    for part in schema.get("allOf", []):
        yield from _rules(value, part, validator)


def _kinds(schema: Mapping[str, Any]) -> list[str]:
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else list(kinds)


# Complaints: what the validator found, in the words of someone who writes a config

_KIND_NAMES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping (key: value)",
}


def _complaint(error: ValidationError, schema: Mapping[str, Any]) -> str:
    """Say in one line which key is wrong and what to do."""
    path = _path(error.absolute_path)
    rule: Any = error.schema
    value: Any = error.instance
    wanted: Any = error.validator_value
    if "propertyNames" in error.absolute_schema_path:
        path = join_key(path, value)
    if error.validator == "additionalProperties":
        key = next(key for key in value if key not in rule["properties"])
        return f"{join_key(path, key)}: unknown key; {_known_key(key, rule, schema)}"
    if error.validator == "required":
        key = next(key for key in wanted if key not in value)
        return f"{join_key(path, key)}: this key is missing, and it has no default; give it"
    where = path or "config"
    if error.validator == "type":
        return f"{where}: {_type_complaint(value, rule)}"
    remedy = rule.get("errorMessage")
    if error.validator == "enum":
        number = _as_number(value) if remedy and "number" in remedy else None
        if number is not None:
            return f"{where}: {_number_complaint(value, number, 'number')}"
        return f"{where}: {_show(value)} is unknown; {remedy or 'choose ' + _or(rule['enum'])}"
    if error.validator == "pattern":
        return f"{where}: {_show(value)} is not allowed; {remedy}"
    if error.validator == "maxLength":
        return f"{where}: the text has {len(str(value))} characters; give at most {wanted}"
    if error.validator == "minLength":
        return f"{where}: the text is empty; give one or remove the key"
    if error.validator in ("minItems", "maxItems"):
        low, high = rule.get("minItems"), rule.get("maxItems")
        count = f"exactly {low}" if low == high else f"at least {low}"
        entries = "1 entry" if len(value) == 1 else f"{len(value)} entries"
        return f"{where}: the list has {entries}; give {count}"
    return f"{where}: {_show(value)} is out of range; give {_range(rule)}"


def _known_key(key: str, rule: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    elsewhere = [
        f"{section}.{key}"
        for section, sub in schema["properties"].items()
        if key in sub.get("properties", {})
    ]
    if near := _close(key, rule["properties"]) or _or(elsewhere):
        return f"did you mean {near}?"
    return f"the keys here are {', '.join(rule['properties'])}"


def _type_complaint(value: Any, rule: Mapping[str, Any]) -> str:
    kinds = [kind for kind in _kinds(rule) if kind != "null"]
    wanted = _or(_KIND_NAMES[kind] for kind in kinds)
    if value is None:
        remedy = ", or remove the key for its default" if "default" in rule else ""
        return f"nothing is given; give {wanted}{remedy}"
    if isinstance(value, bool):
        remedy = "put it in quotes" if "string" in kinds else f"give {wanted}"
        return (
            f"{_show(value)} is not {wanted}; {remedy} "
            "(YAML reads yes, no, on and off as true and false)"
        )
    if isinstance(value, str):
        number = _as_number(value)
        if number is not None and ("number" in kinds or "integer" in kinds):
            return _number_complaint(value, number, kinds[0])
        if kinds == ["array"]:
            return f"{_show(value)} is text, not a list; write [{_show(value)}]"
        return f"{_show(value)} is text, not {wanted}; give {wanted}"
    if isinstance(value, int | float):
        if _misread(value) and "string" not in kinds:
            return f"YAML reads {value} as {_plain_number(value)}; write the number that is meant"
        if "string" in kinds:
            return f'{value} is a number, not text; put it in quotes: "{value}"'
        if "integer" in kinds:
            return f"{value} is not a whole number; give one"
        return f"{value} is a number, not {wanted}; give {wanted}"
    if isinstance(value, dict):
        remedy = "begin each entry with '- '" if kinds == ["array"] else f"give {wanted}"
        return f"this is a mapping, not {wanted}; {remedy}"
    return f"this is a list, not {wanted}; give {wanted}"


def _plain_number(value: float) -> float:
    return int(value) if isinstance(value, int) else float(value)


def _as_number(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _number_complaint(text: str, number: float, kind: str) -> str:
    """Say how to write a number that YAML takes for text, be it quoted or like 1e-3."""
    found = f"{_show(text)} is text, not {_KIND_NAMES[kind]}"
    if kind == "integer" and number.is_integer():
        return f"{found}; write {int(number)} without quotes"
    scientific = re.fullmatch(r"([-+]?\d+)(\.\d*)?[eE]([-+]?)(\d+)", text)
    if not scientific:
        return f"{found}; write {text.strip()} without quotes"
    mantissa, point, sign, exponent = scientific.groups()
    wanting = [] if point else ["a decimal point"]
    wanting += [] if sign else ["a sign on the exponent"]
    right = f"{mantissa}{point or '.0'}e{sign or '+'}{exponent}"
    if not wanting:
        return f"{found}; write {right} without quotes"
    return f"{found}; YAML needs {' and '.join(wanting)}: {right}"


def _range(rule: Mapping[str, Any]) -> str:
    words = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    bounds = " and ".join(f"{text} {rule[key]}" for key, text in words.items() if key in rule)
    return f"{'a whole number' if 'integer' in _kinds(rule) else 'a number'} {bounds}"


def _path(parts: Iterable[str | int]) -> str:
    path = ""
    for part in parts:
        path = f"{path}[{part}]" if isinstance(part, int) else join_key(path, part)
    return path


def _show(value: Any) -> str:
    if value is None or isinstance(value, bool | dict | list):
        return shorten(json.dumps(value))
    return shorten(str(value) if isinstance(value, WrittenInt | WrittenFloat) else repr(value))


def _or(choices: Iterable[str]) -> str:
    *most, last = list(choices) or [""]
    return f"{', '.join(most)} or {last}" if most else last


def _close(word: str, choices: Iterable[str]) -> str:
    """Return the choice that `word` may be a misspelling of, or an empty string."""
    by_lower = {choice.lower(): choice for choice in choices}
    return next((by_lower[m] for m in difflib.get_close_matches(word.lower(), by_lower, 1)), "")


def _did_you_mean(word: str, choices: Iterable[str], otherwise: str) -> str:
    near = _close(word, choices)
    return f"did you mean {near}?" if near else otherwise


# What several keys show together


def _check_name(name: str, key: str) -> None:
    # Snakemake takes what ends in twenty repetitions for a rule that calls itself without end.
    if repeated := re.search(r"(.+?)\1{19}$", name):
        raise StudyError(
            f"{key}: {shorten(name)} repeats {repeated[1]!r} 20 times at its end, which Snakemake "
            "does not allow; choose another name"
        )


def _check_sources(sources: Mapping[str, Any]) -> None:
    for name, source in sources.items():
        _check_name(name, f"sources.{shorten(name)}")
        if name in TEXT_WITHOUT_SOURCE:
            raise StudyError(
                f"sources.{name}: text.source has its own meaning for this name; choose another"
            )
        if source["kind"] != "random-model":
            continue
        if source["d_model"] % (2 * source["n_heads"]):
            raise StudyError(
                f"sources.{name}.d_model: {source['d_model']} does not suit {source['n_heads']} "
                f"heads; give a multiple of {2 * source['n_heads']}"
            )


def _resolve_model(study: dict[str, Any], base: Path) -> None:
    """Find out what `model.name` is, and whether hook and context lie within the model."""
    model, sources = study["model"], study["sources"]
    name, local = model["name"], True
    layer = _with_key("model.hook", language_model.parse_hook, model["hook"])[0]
    if name in sources:
        facts = sources[name]
        # Of the random ones GPT-2 alone has LayerNorm.
        if model["center_writing_weights"] and facts.get("architecture", "gpt2") != "gpt2":
            raise StudyError(
                f"model.center_writing_weights: {name} normalises by RMS, which sees the mean, so "
                "centring would change the model; only LayerNorm models allow it"
            )
        if facts["kind"] not in MODEL_KINDS:
            raise StudyError(
                f"model.name: {name} is a source of kind {facts['kind']}, not a model; "
                f"name a source of kind {_or(MODEL_KINDS)}"
            )
    else:
        folder = _lookup(name, base)
        if folder is not None:
            if not (folder / "config.json").is_file():
                raise StudyError(
                    f"model.name: {name} holds no config.json; name a folder that "
                    "save_pretrained wrote"
                )
            model["name"] = str(folder)
        elif name.startswith((".", "/", "~")) or name.endswith("/"):
            raise StudyError(
                f"model.name: there is no folder {name}; check the path (a relative one starts "
                "from the working directory)"
            )
        local = folder is not None
        if not local:
            _check_hub_name("model.name", name)
        facts = _with_key("model.name", language_model.model_facts, model["name"])
        models = [key for key, source in sources.items() if source["kind"] in MODEL_KINDS]
        if not facts and (near := _close(name, models)) and "/" not in name:
            raise StudyError(f"model.name: {name!r} is unknown; did you mean {near}?")
    if local and model["revision"] is not None:
        raise StudyError(
            f"model.revision: {name} is a source or a local folder, which has no revision; remove "
            "it or name a model of the hub"
        )
    n_layers, context = facts.get("n_layers"), facts.get("context")
    if n_layers is not None and layer >= n_layers:
        raise StudyError(
            f"model.hook: {model['hook']} is beyond {name}, which has {n_layers} layers "
            f"(0 to {n_layers - 1})"
        )
    wanted = study["tokens"]["context"]
    if context is not None and wanted > context:
        raise StudyError(
            f"tokens.context: {wanted} tokens are more than {name} can read at once; "
            f"give {context} or less"
        )


def _check_hub_name(key: str, name: str) -> None:
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name, re.ASCII) or "--" in name or ".." in name:
        raise StudyError(
            f"{key}: {_show(name)} is no source, no file or folder here, and no name on the hub; "
            "write the latter as owner/name"
        )


def hub_references(study: Mapping[str, Any]) -> dict[str, tuple[str, str, str]]:
    """What a resolved study reads from the hub: kind, name and revision of a repository.

    Returns
    -------
    dict
        Of ``"model"``, ``"text"`` and names of SAEs, after ``"saes/"``, as far as they come from
        there.
    """
    found: dict[str, tuple[str, str, str]] = {}
    model, text = study["model"], study["text"]
    if model["name"] not in study["sources"] and not os.path.isdir(model["name"]):
        found["model"] = ("model", model["name"], model["revision"] or "main")
    if text["source"] == "dataset" and not os.path.exists(text["dataset"]["path"]):
        dataset = text["dataset"]
        found["text"] = ("dataset", dataset["path"], dataset["revision"] or "main")
    for sae in study["saes"]:
        source = sae.get("pretrained", {})
        if source.get("repo") is not None:
            found[f"saes/{sae['name']}"] = ("model", source["repo"], source["revision"])
    return found


def _with_key(key: str, function: Any, argument: str) -> Any:
    """Call `function`, and see to it that its complaint names the key."""
    try:
        return function(argument)
    except StudyError as error:
        message = str(error)
        raise StudyError(message if message.startswith(key) else f"{key}: {message}") from error


def _lookup(name: str, base: Path) -> Path | None:
    """Find a file or folder in the working directory or else in `base`."""
    path = _expand(name)
    return next((found for found in (path, base / path) if os.path.exists(found)), None)


def _expand(name: str) -> Path:
    # Unlike Path.expanduser, this leaves the ~ of an unknown user as it is; and unlike
    # Path.exists, os.path.exists has no complaint of its own about a name that cannot be.
    return Path(os.path.expanduser(name))


def _resolve_text(study: dict[str, Any], base: Path) -> None:
    """Find the text that `text.source` means, and the files that it matches."""
    text, sources = study["text"], study["sources"]
    source = text["source"]
    if source == "files":
        if not text["files"]:
            raise StudyError("text.files: no file is named; give some, such as [corpus/*.txt]")
        found = {
            path
            for i, pattern in enumerate(text["files"])
            for path in _match(pattern, base, f"text.files[{i}]")
        }
        text["files"] = sorted(found)
    elif source == "dataset":
        if text["dataset"]["path"] is None:
            raise StudyError(
                "text.dataset.path: this key is missing; name the dataset, as for load_dataset"
            )
        _check_dataset(text["dataset"])
    elif source not in sources:
        texts = [key for key, entry in sources.items() if entry["kind"] in TEXT_KINDS]
        choices = [*texts, *TEXT_WITHOUT_SOURCE]
        remedy = _did_you_mean(source, choices, f"choose {_or(choices)}")
        raise StudyError(f"text.source: {source!r} is unknown; {remedy}")
    elif (kind := sources[source]["kind"]) not in TEXT_KINDS:
        raise StudyError(
            f"text.source: {source} is a source of kind {kind}, not a text; "
            f"name a source of kind {_or(TEXT_KINDS)}"
        )


def _check_dataset(dataset: Mapping[str, Any]) -> None:
    path = dataset["path"]
    if not os.path.exists(path):
        _check_hub_name("text.dataset.path", path)
    elif dataset["revision"] is not None:
        raise StudyError(
            f"text.dataset.revision: {path} is local, which has no revision; remove it or name a "
            "dataset of the hub"
        )


def _match(pattern: str, base: Path, key: str) -> list[str]:
    # A path that exists is taken as it is: a file's own name may hold brackets.
    path = _lookup(pattern, base)
    if path is not None and path.is_dir():
        raise StudyError(f"{key}: {pattern} is a folder; name its files: {path / '*.txt'}")
    if path is not None:
        return [str(path)]
    expanded = _expand(pattern)
    for place in (expanded, base / expanded):
        found = [hit for hit in glob.glob(str(place), recursive=True) if Path(hit).is_file()]
        if found:
            return found
    raise StudyError(
        f"{key}: no file matches {pattern}; check the path (a relative one starts from the "
        "working directory)"
    )


def _check_documents(text: Mapping[str, Any]) -> None:
    # Each document is held out as a whole or not at all.
    if text["max_documents"] == 1:
        raise StudyError(
            "text.max_documents: of 1 document none is left to train on, or none to evaluate on; "
            "give 2 or more"
        )


def _check_positions(study: Mapping[str, Any]) -> None:
    """See that a sequence has positions to measure at, and to predict from."""
    context, skips = study["tokens"]["context"], study["activations"]["skip_first_position"]
    # Predicted are the tokens after the first position that is not skipped.
    if study["evaluation"]["ce_tokens"] and context - skips < 2:
        raise StudyError(
            f"tokens.context: of {context} tokens, the first of which "
            "activations.skip_first_position leaves out, none can be predicted; give 3 or more, or "
            "evaluation.ce_tokens: 0"
        )


def _check_batches(study: Mapping[str, Any]) -> None:
    """See that the training tokens are enough for a batch, where the config limits them."""
    sequences = study["tokens"]["max_train_sequences"]
    if sequences is None:
        return
    skips = study["activations"]["skip_first_position"]
    n_tokens = sequences * (study["tokens"]["context"] - skips)
    for sae in study["saes"]:
        if sae.get("batch_size", 0) > n_tokens:
            raise StudyError(
                f"training.batch_size: {sae['batch_size']} tokens a batch of SAE {sae['name']} are "
                f"more than the {n_tokens} that tokens.max_train_sequences leaves; give {n_tokens} "
                "or less"
            )


def _check_shards(study: Mapping[str, Any]) -> None:
    for split in ("train", "eval"):
        shards = study["activations"][f"{split}_shards"]
        sequences = study["tokens"][f"max_{split}_sequences"]
        if shards > MOST_SHARDS:
            raise StudyError(
                f"activations.{split}_shards: {shards} files are too many, each with a job of its "
                f"own; give {MOST_SHARDS} or less"
            )
        if sequences is not None and shards > sequences:
            raise StudyError(
                f"activations.{split}_shards: {shards} shards are more than the {sequences} "
                f"sequences that tokens.max_{split}_sequences keeps; give {sequences} or less"
            )


def _resolve_saes(study: dict[str, Any], base: Path) -> None:
    """Complete each SAE with a name and the keys of training, and check it."""
    first: dict[str, int] = {}
    saes: list[dict[str, Any]] = []
    for i, entry in enumerate(study["saes"]):
        name = str(entry.get("name", entry["d_sae"]))
        _check_name(name, f"saes[{i}].name")
        # Case aside: the names become file names, and some file systems ignore case.
        if (j := first.setdefault(name.casefold(), i)) != i:
            raise StudyError(
                f"saes[{i}].name: saes[{j}] is named {saes[j]['name']} too; give each its own "
                f"name, such as {name}-b"
            )
        if "pretrained" in entry:
            rest = {"pretrained": _resolve_pretrained(entry, f"saes[{i}]", base)}
        else:
            rest = _without({**study["training"], **entry}, "name", "d_sae")
            for key in ("release", "sae_id", "l0"):
                if key in entry:
                    raise StudyError(
                        f"saes[{i}].{key}: a published SAE has a release and an sae_id, both as "
                        "text; give them, or remove this key to train one"
                    )
            _check_training(i, name, entry, rest)
        called = {key: entry[key] for key in ("release", "sae_id") if key in entry}
        saes.append({"name": name, **called, "d_sae": entry["d_sae"], **rest})
    study["saes"] = saes


def _check_paper(study: Mapping[str, Any]) -> None:
    paper, names = study["paper"], {sae["name"] for sae in study["saes"]}
    if paper is not None and not names & set(PUBLISHED[paper].saes):
        raise StudyError(
            f"paper: no SAE of the study is named as one of {paper} "
            f"({', '.join(PUBLISHED[paper].saes)}); name them after their sizes or remove the key"
        )


def _check_training(
    index: int, name: str, entry: Mapping[str, Any], training: Mapping[str, Any]
) -> None:
    if training["architecture"] in ("topk", "batchtopk") and training["k"] > entry["d_sae"]:
        raise StudyError(
            f"{_origin(index, entry, 'k')}: {training['k']} is more than the {entry['d_sae']} "
            f"latents of SAE {name}; give {entry['d_sae']} or less"
        )
    if training["lr_warmup_steps"] > training["steps"]:
        raise StudyError(
            f"{_origin(index, entry, 'lr_warmup_steps')}: {training['lr_warmup_steps']} is more "
            f"than the {training['steps']} steps of SAE {name}; give fewer"
        )


def _resolve_pretrained(entry: Mapping[str, Any], key: str, base: Path) -> dict[str, Any]:
    """Check where an SAE comes from; find the path and the format of local files."""
    for unused in _without(entry, "name", "d_sae", "pretrained", "release", "sae_id"):
        raise StudyError(
            f"{key}.{unused}: this SAE is not trained but read from files; remove this key or "
            "pretrained"
        )
    key, pretrained = f"{key}.pretrained", dict(entry["pretrained"])
    path = pretrained["path"]
    if pretrained["repo"] is not None:
        if pretrained["revision"] is None:
            raise StudyError(
                f"{key}.revision: this key is missing; give the commit of {pretrained['repo']}, "
                "all 40 digits"
            )
        if path.startswith(("/", "~")) or ".." in path.split("/"):
            raise StudyError(f"{key}.path: {path} is no path inside a repository; give one")
        return pretrained
    if pretrained["revision"] is not None:
        raise StudyError(f"{key}.revision: a local path has no revision; remove it or name a repo")
    found = _lookup(path, base)
    if found is None:
        raise StudyError(
            f"{key}.path: there is no file or folder {path}; check the path (a relative one starts "
            "from the working directory), or name the repo that holds it"
        )
    layout = _with_key(
        f"{key}.path", lambda local: formats.find_local(local, pretrained["format"]), str(found)
    )
    return {**pretrained, "path": str(found), "format": layout.format}


def _without(mapping: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in mapping.items() if key not in keys}


def _origin(index: int, entry: Mapping[str, Any], key: str) -> str:
    """Dotted path of a training key of an SAE, where the config sets it."""
    return f"saes[{index}].{key}" if key in entry else f"training.{key}"


def _resolve_stitched(study: dict[str, Any]) -> None:
    """Check what the stitched SAEs are made of; their names become text."""
    saes = study["saes"]
    first = {sae["name"].casefold(): f"saes[{i}]" for i, sae in enumerate(saes)}
    # Of all, those further down too, to tell a wrong order from a wrong name.
    places = {str(recipe["name"]): i for i, recipe in enumerate(study["stitched"])}
    for i, recipe in enumerate(study["stitched"]):
        key, name = f"stitched[{i}]", str(recipe["name"])
        recipe["name"] = name
        _check_name(name, f"{key}.name")
        if (before := first.setdefault(name.casefold(), key)) != key:
            raise StudyError(
                f"{key}.name: {before} is named {name} too; give each its own name, such as "
                f"{name}-stitched"
            )
        known = [sae["name"] for sae in saes] + [r["name"] for r in study["stitched"][:i]]

        recipe["base"] = _source(recipe["base"], name, known, places, f"{key}.base")
        if not recipe["swap"] and not recipe["insert"]:
            raise StudyError(f"{key}: nothing is stitched to {recipe['base']}; give swap or insert")
        for kind in ("swap", "insert"):
            for j, part in enumerate(recipe[kind]):
                place = f"{key}.{kind}[{j}]"
                part["sae"] = _source(part["sae"], name, known, places, f"{place}.sae")
                if part["sae"] == recipe["base"]:
                    raise StudyError(
                        f"{place}.sae: all latents of {part['sae']}, the base, are in already; "
                        "name another SAE"
                    )
                check = _check_swap if kind == "swap" else _check_insert
                check(part, recipe[kind][:j], place)
        d_sae = sae_sizes({**study, "stitched": study["stitched"][:i]})
        for j, swap in enumerate(recipe["swap"]):
            _check_components(swap, d_sae, f"{key}.swap[{j}].components")
        for j, insert in enumerate(recipe["insert"]):
            _check_count(insert["n"], insert["sae"], d_sae, f"{key}.insert[{j}].n")


def _source(
    given: Any, name: str, known: Iterable[str], places: Mapping[str, int], key: str
) -> str:
    """Name of an SAE that the stitched SAE `name` can be made of."""
    if str(given) == name:
        raise StudyError(f"{key}: {name} cannot be stitched from itself; name another SAE")
    if str(given) not in known and str(given) in places:
        raise StudyError(
            f"{key}: {given} is stitched only after {name}; put stitched[{places[str(given)]}] "
            "before it"
        )
    return _sae_name(given, known, key)


def _check_swap(swap: Mapping[str, Any], before: list[Any], key: str) -> None:
    if swap["sae"] in [other["sae"] for other in before]:
        raise StudyError(f"{key}.sae: {swap['sae']} is swapped twice; make it one entry")
    components = swap["components"]
    if isinstance(components, list) and len(set(components)) < len(components):
        twice = next(c for c in components if components.count(c) > 1)
        raise StudyError(f"{key}.components: {twice} is given twice; remove one")


def _check_components(swap: Mapping[str, Any], d_sae: Mapping[str, int], key: str) -> None:
    """See that there can be so many connected subgraphs, which have latents of both SAEs."""
    if isinstance(swap["components"], str):
        return
    most, beyond = d_sae[swap["sae"]], max(swap["components"])
    if beyond >= most:
        raise StudyError(
            f"{key}: there can be no connected subgraph {beyond} with SAE {swap['sae']}, which has "
            f"{most} latents; give {most - 1} or less"
        )


def _check_insert(insert: Mapping[str, Any], _before: list[Any], key: str) -> None:
    if insert["select"] == "novel" and insert["n"] is not None:
        raise StudyError(
            f"{key}.n: novel latents are as many as there are below the threshold; remove n, or "
            "select by effect or greedy"
        )
    if insert["select"] != "novel" and insert["threshold"] is not None:
        raise StudyError(
            f"{key}.threshold: to select by {insert['select']} takes no threshold; remove it, or "
            "select novel"
        )


def _check_count(n: int | None, name: str, d_sae: Mapping[str, int], key: str) -> None:
    if n is not None and n > d_sae[name]:
        raise StudyError(
            f"{key}: {n} is more than the {d_sae[name]} latents of SAE {name}; give {d_sae[name]} "
            "or less"
        )


def _resolve_thetas(study: dict[str, Any]) -> None:
    """Fill in the θ of the stitched SAEs, or see that the pair has one."""
    theta, pairs = study["stitching"]["threshold"], study["stitching"]["pairs"]
    for i, recipe in enumerate(study["stitched"]):
        for kind in ("swap", "insert"):
            for j, part in enumerate(recipe[kind]):
                if part["threshold"] is not None or part.get("select", "novel") != "novel":
                    continue
                pair = [recipe["base"], part["sae"]]
                if theta != "auto":
                    part["threshold"] = theta
                elif pair not in pairs:
                    raise StudyError(
                        f"stitched[{i}].{kind}[{j}].threshold: nothing is given, and "
                        f"stitching.threshold is auto, but [{', '.join(pair)}] is no pair that "
                        "would have one; give a number, or add it to stitching.pairs"
                    )


def _resolve_stitching(study: dict[str, Any]) -> None:
    """Spell out pairs and transition, and check them and the threshold."""
    stitching = study["stitching"]
    stitched = {recipe["name"] for recipe in study["stitched"]}
    # What is meant by all, adjacent and the default transition are the SAEs of one kind.
    sizes = {sae["name"]: sae["d_sae"] for sae in study["saes"]}
    by_size = sorted(sizes, key=sizes.__getitem__)  # stable: the config's order among equals
    if stitching["pairs"] == "all":
        pairs = list(combinations(by_size, 2))
    elif stitching["pairs"] == "family":
        pairs = [
            pair for names in series(study["saes"]).values() for pair in combinations(names, 2)
        ]
        if not pairs:
            raise StudyError(
                "stitching.pairs: no two SAEs of one architecture and one seed differ in size; "
                "choose all, or train more sizes"
            )
    elif stitching["pairs"] == "adjacent":
        pairs = list(pairwise(by_size))
    else:
        pairs = _check_pairs(stitching["pairs"], {**sizes, **dict.fromkeys(stitched)})
    stitching["pairs"] = [list(pair) for pair in pairs]

    theta, floor = stitching["threshold"], study["similarity"]["floor"]
    if theta != "auto" and theta < floor:
        raise StudyError(
            f"stitching.threshold: {theta} is below similarity.floor ({floor}), and edges "
            "under the floor are not kept; lower similarity.floor"
        )

    if stitching["transition"] is None:
        names = [next(group) for _, group in groupby(by_size, key=sizes.__getitem__)]
        # SAEs of one size, such as seeds of one training, have no transition.
        names = names if len(names) > 1 else []
    else:
        for i, name in enumerate(stitching["transition"]):
            if str(name) in stitched:
                raise StudyError(
                    f"stitching.transition[{i}]: {name} is a stitched SAE, whose size is known "
                    "only when it is made; name SAEs of saes"
                )
        names = [
            _sae_name(name, sizes, f"stitching.transition[{i}]")
            for i, name in enumerate(stitching["transition"])
        ]
    if len(names) == 1:
        raise StudyError(
            "stitching.transition: one SAE is named; name two or more, or none ([]) for no "
            "transition"
        )
    for small, large in pairwise(names):
        if sizes[small] >= sizes[large]:
            raise StudyError(
                f"stitching.transition: {large} ({sizes[large]} latents) comes after {small} "
                f"({sizes[small]}); order the SAEs by growing size"
            )
        if [small, large] not in stitching["pairs"]:
            raise StudyError(
                f"stitching.transition: its step from {small} to {large} is no pair; add "
                f"[{small}, {large}] to stitching.pairs or name other SAEs"
            )
    stitching["transition"] = names


def _check_pairs(given: list[list[Any]], sizes: Mapping[str, int | None]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for i, entry in enumerate(given):
        key = f"stitching.pairs[{i}]"
        small, large = (_sae_name(name, sizes, f"{key}[{j}]") for j, name in enumerate(entry))
        if small == large:
            raise StudyError(f"{key}: {small} cannot be paired with itself; name two SAEs")
        # Of a stitched SAE the size is not known yet.
        d_small, d_large = sizes[small], sizes[large]
        if d_small is not None and d_large is not None and d_small > d_large:
            raise StudyError(
                f"{key}: {small} ({d_small} latents) is larger than {large} "
                f"({d_large}); put the smaller first: [{large}, {small}]"
            )
        if (small, large) in pairs:
            raise StudyError(
                f"{key}: [{small}, {large}] is given twice, first as "
                f"stitching.pairs[{pairs.index((small, large))}]; remove one"
            )
        pairs.append((small, large))
    return pairs


def _sae_name(given: str | int, known: Iterable[str], key: str) -> str:
    name, known = str(given), list(known)
    if name not in known:
        remedy = _did_you_mean(name, known, f"choose {_or(known)}")
        raise StudyError(f"{key}: there is no SAE named {name}; {remedy}")
    return name
