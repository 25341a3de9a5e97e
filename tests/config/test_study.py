"""The config: what is accepted, what it resolves to, and what is said of what is not."""

import json
import re
import string
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
from helpers.bad_configs import COMPLAINTS
from helpers.study_configs import (
    CONFIG,
    GREEDY,
    HUB,
    RANDOM,
    ROOT,
    SCHEMA,
    SCHEMA_PATH,
    STITCHED,
    changed,
    load,
)
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from sae_stitching.base.errors import StudyError
from sae_stitching.base.names import pair_name, split_pair_name
from sae_stitching.config.study import (
    is_jumprelu,
    load_study,
    own_stitched,
    sae_sizes,
    seed_groups,
    stitched_sources,
)
from snakemake.common.configfile import load_configfile
from snakemake.utils import update_config

PRESETS = sorted((ROOT / "presets").glob("*.yaml"))


@pytest.mark.parametrize(("changes", "message"), COMPLAINTS, ids=[m for _, m in COMPLAINTS])
def test_complaint(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError) as caught:
        load(changes)
    assert str(caught.value) == message


def test_config_that_is_no_mapping() -> None:
    with pytest.raises(StudyError, match=r"^config: this is a list, not a mapping"):
        load_study([], SCHEMA_PATH)  # type: ignore[arg-type]


def test_complaint_of_the_hook_names_the_key() -> None:
    with pytest.raises(StudyError) as caught:
        load({"model.hook": "nonsense"})
    assert str(caught.value).startswith("model.hook: ")
    assert "\n" not in str(caught.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
        max_leaves=4,
    ),
    st.sampled_from([*SCHEMA["properties"], "saes[1].d_sae", "saes[0]", "training.betas"]),
)
def test_any_value_is_accepted_or_complained_of_in_one_line(value: Any, path: str) -> None:
    try:
        study = load({"training.betas": [0.9, 0.99], path: value})
    except StudyError as error:
        assert re.fullmatch(r"[a-z]+[^\n]*: [^\n]+", str(error))
    else:
        json.dumps(study, allow_nan=False)


# What a config resolves to


def test_defaults_are_filled_in() -> None:
    study = load()
    assert list(study) == list(SCHEMA["properties"])
    for section, value in study.items():
        if isinstance(value, dict) and section != "sources":
            assert list(value) == list(SCHEMA["properties"][section]["properties"])
    assert study["cache"] == "cache"
    assert study["tokens"] == {
        "context": 32,
        "eval_fraction": 0.1,
        "max_train_sequences": None,
        "max_eval_sequences": None,
        "seed": 0,
    }
    assert study["text"]["dataset"] == {
        "path": None,
        "name": None,
        "split": "train",
        "column": "text",
        "revision": None,
    }
    assert study["sources"]["small"] == {**RANDOM, "architecture": "gpt2", "seed": 0}
    assert study["sources"]["wiki"]["platform"] is None


def test_each_sae_has_all_keys_of_training() -> None:
    study = load(
        {"training.steps": 700, "saes[1]": {"name": "wide", "d_sae": 128, "steps": 900, "k": 7}}
    )
    training = study["training"]
    assert study["saes"] == [
        {"name": "64", "d_sae": 64, **training},
        {"name": "wide", "d_sae": 128, **training, "steps": 900, "k": 7},
        {"name": "256", "d_sae": 256, **training},
    ]
    assert training["steps"] == 700
    assert training["lr"] == 1e-3
    assert all(list(sae) == ["name", "d_sae", *training] for sae in study["saes"])


def test_sae_does_not_depend_on_the_other_saes() -> None:
    alone = load({"saes": [{"d_sae": 64}, {"d_sae": 128, "lr": 2}]})
    among = load({"saes": [{"d_sae": 512}, {"lr": 2.0, "d_sae": 128}, {"d_sae": 64}]})
    assert repr(alone["saes"][1]) == repr(among["saes"][1])


def test_a_pretrained_sae_has_no_key_of_training() -> None:
    study = load({"saes[0]": {"d_sae": 64, "pretrained": HUB}})
    assert study["saes"][0] == {
        "name": "64",
        "d_sae": 64,
        "pretrained": {**HUB, "format": "auto", "trust": [], "published": None},
    }
    assert study["saes"][1] == {"name": "128", "d_sae": 128, **study["training"]}


@pytest.mark.parametrize(
    ("path", "there", "format"),
    [
        ("folder", ["cfg.json", "sae_weights.safetensors", "sparsity.safetensors"], "saelens"),
        ("folder", ["cfg.json", "sae.safetensors"], "sparsify"),
        ("folder", ["config.json", "ae.pt"], "dictionary-learning"),
        ("folder", ["params.npz"], "gemma-scope"),
        ("folder/params.npz", ["params.npz"], "gemma-scope"),
        ("folder/ae_100.pt", ["ae_100.pt", "config.json", "ae.pt"], "dictionary-learning"),
        ("folder/sae.safetensors", ["cfg.json", "sae.safetensors"], "sparsify"),
    ],
)
def test_the_format_goes_by_the_files(
    tmp_path: Path, path: str, there: list[str], format: str
) -> None:
    (tmp_path / "folder").mkdir()
    for name in there:
        (tmp_path / "folder" / name).write_text("not looked into")
    for wanted in ("auto", format):
        pretrained = {"path": path, "format": wanted}
        study = load({"saes[0].pretrained": pretrained}, base=tmp_path)
        assert study["saes"][0]["pretrained"] == {
            "repo": None,
            "revision": None,
            "path": str(tmp_path / path),
            "format": format,
            "trust": [],
            "published": None,
        }
        # Resolved once more, it stays as it is.
        assert load({"saes": study["saes"]}, base=tmp_path)["saes"] == study["saes"]


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/1", HUB["revision"]])
def test_a_revision_may_be_a_branch_or_a_tag(revision: str) -> None:
    study = load({"saes[0].pretrained": {**HUB, "revision": revision}})
    assert study["saes"][0]["pretrained"]["revision"] == revision


def test_files_of_two_formats_and_missing_ones_are_named(tmp_path: Path) -> None:
    def complaint(path: str, format: str = "auto") -> str:
        with pytest.raises(StudyError) as caught:
            load({"saes[0].pretrained": {"path": path, "format": format}}, base=tmp_path)
        return (
            str(caught.value).removeprefix("saes[0].pretrained.path: ").replace(str(tmp_path), "")
        )

    (tmp_path / "sae_weights.safetensors").touch()
    missing = (
        "/cfg.json: no such file, but saelens has it beside sae_weights.safetensors; get it too"
    )
    assert complaint("sae_weights.safetensors") == missing
    assert complaint(str(tmp_path)) == missing
    wrong = ": there is no ae.pt; name the folder of an SAE, or its file of weights"
    assert complaint(str(tmp_path), "dictionary-learning") == wrong
    for name in ("cfg.json", "params.npz", "mine.safetensors"):
        (tmp_path / name).write_text("not looked into")
    assert complaint(str(tmp_path)) == ": may be saelens and gemma-scope; name the format"
    unknown = "/mine.safetensors: its name does not tell whose format it is; name the format"
    assert complaint("mine.safetensors") == unknown


@pytest.mark.parametrize(
    ("stitching", "pairs", "transition"),
    [
        ({}, [["a", "b"], ["a", "c"], ["b", "c"]], ["a", "b", "c"]),
        ({"pairs": "adjacent"}, [["a", "b"], ["b", "c"]], ["a", "b", "c"]),
        ({"pairs": [["a", "c"]], "transition": ["a", "c"]}, [["a", "c"]], ["a", "c"]),
        ({"pairs": [["a", "c"]], "transition": []}, [["a", "c"]], []),
    ],
)
def test_pairs_go_by_size(
    stitching: dict[str, Any], pairs: list[list[str]], transition: list[str]
) -> None:
    sizes = [{"name": "c", "d_sae": 9}, {"name": "a", "d_sae": 2}, {"name": "b", "d_sae": 5}]
    study = load({"saes": sizes, "stitching": stitching})
    assert study["stitching"]["pairs"] == pairs
    assert study["stitching"]["transition"] == transition


def test_seeds_of_one_size_are_paired_in_config_order_without_transition() -> None:
    seeds = [{"name": name, "d_sae": 64, "seed": i} for i, name in enumerate("zxy")]
    study = load({"saes": seeds})
    assert study["stitching"]["pairs"] == [["z", "x"], ["z", "y"], ["x", "y"]]
    assert study["stitching"]["transition"] == []
    study = load({"saes": seeds, "stitching.pairs": [["x", "z"], ["z", "x"]]})
    assert study["stitching"]["pairs"] == [["x", "z"], ["z", "x"]]


def test_seeds_are_told_from_other_saes_of_one_size() -> None:
    saes = [
        {"d_sae": 64},
        {"name": "64-b", "d_sae": 64, "seed": 1},
        {"name": "64-k", "d_sae": 64, "seed": 2, "lr": 0.01},
        {"d_sae": 128},
        {"name": "64-c", "d_sae": 64, "seed": 7},
    ]
    assert seed_groups(load({"saes": saes})["saes"]) == [["64", "64-b", "64-c"]]
    assert seed_groups(load({"saes": saes[2:4]})["saes"]) == []


def test_jumprelu_saes_are_known_by_architecture_or_format() -> None:
    assert is_jumprelu({"architecture": "jumprelu"})
    assert is_jumprelu({"pretrained": {"format": "gemma-scope"}})
    assert not is_jumprelu({"architecture": "relu"})
    assert not is_jumprelu({"pretrained": {"format": "saelens"}})


def test_transition_takes_the_first_sae_of_each_size() -> None:
    saes = [{"d_sae": 64}, {"name": "64-b", "d_sae": 64}, {"d_sae": 128}]
    study = load({"saes": saes})
    assert study["stitching"]["transition"] == ["64", "128"]
    saes = [{"d_sae": 64}, {"name": "64-b", "d_sae": 64}, {"d_sae": 128}]
    with pytest.raises(StudyError, match="its step from 64 to 128 is no pair"):
        load({"saes": saes, "stitching.pairs": "adjacent"})


def test_stitched_saes_are_resolved() -> None:
    more = {
        "name": 7,
        "base": "mixed",
        "swap": [{"sae": 256, "threshold": 1, "components": [2, 0]}],
        "insert": [{**GREEDY, "n": 5}, {"sae": 256, "select": "effect"}],
    }
    stitching = {"pairs": [["7", 64], [64, "mixed"]], "transition": []}
    study = load({"stitched": [STITCHED, more], "stitching": stitching})
    novel = {"sae": "128", "select": "novel", "threshold": 0.7, "n": None}
    assert study["stitched"] == [
        {"name": "mixed", "base": "64", "swap": [], "insert": [novel]},
        {
            "name": "7",
            "base": "mixed",
            "swap": [{"sae": "256", "threshold": 1.0, "components": [2, 0]}],
            "insert": [
                {"sae": "128", "select": "greedy", "threshold": None, "n": 5},
                {"sae": "256", "select": "effect", "threshold": None, "n": None},
            ],
        },
    ]
    # Of a stitched SAE the size is not known, so that it can stand on either side.
    assert study["stitching"]["pairs"] == [["7", "64"], ["64", "mixed"]]
    assert load_study(study, SCHEMA_PATH, ROOT) == study
    assert [stitched_sources(recipe) for recipe in study["stitched"]] == [
        ["64", "128"],
        ["mixed", "256", "128"],
    ]
    # The most latents that there can be: none of an SAE twice.
    found = {"64": 64, "128": 128, "256": 256, "mixed": 192, "7": 192 + 5 + 256}
    assert sae_sizes(study) == found


def test_stitched_saes_are_no_pairs_unless_they_are_named() -> None:
    plain, stitched = load(), load({"stitched": [STITCHED]})
    assert stitched["stitching"] == plain["stitching"]
    for pairs in ("all", "adjacent", "family"):
        study = load({"stitched": [STITCHED], "stitching.pairs": pairs})
        assert not any("mixed" in pair for pair in study["stitching"]["pairs"])


def test_an_automatic_threshold_is_that_of_the_pair() -> None:
    study = load({"stitched": [STITCHED], "stitching.threshold": "auto"})
    assert study["stitched"][0]["insert"][0]["threshold"] is None
    assert load_study(study, SCHEMA_PATH, ROOT) == study


def test_the_default_stitched_saes_go_with_the_default_saes() -> None:
    default = changed({"stitched": [STITCHED]})
    assert own_stitched(default, default) == default
    others = {**default, "saes": [{"d_sae": 64}, {"d_sae": 256}]}
    assert own_stitched(others, default)["stitched"] == []
    enough = {**default, "saes": [{"d_sae": 128}, {"name": "64", "d_sae": 60}]}
    assert own_stitched(enough, default) == enough
    # What a study says itself stands, be it wrong.
    own = {**others, "stitched": [{**STITCHED, "name": "mine"}]}
    assert own_stitched(own, default) == own
    # So does what the default study itself says.
    wrong = changed({"stitched": [{**STITCHED, "base": 65}]})
    assert own_stitched(wrong, wrong) == wrong
    for broken in (5, [5], [{"name": "x"}], None):
        bad = {**others, "stitched": broken}
        assert own_stitched(bad, {**default, "stitched": broken}) == bad


def test_what_suffices_is_accepted() -> None:
    assert load({"tokens.context": 3})
    assert load({"tokens.context": 2, "evaluation.ce_tokens": 0})
    assert load({"tokens.context": 2, "activations.skip_first_position": False})
    assert load({"tokens.max_train_sequences": 50, "training.batch_size": 1550})
    assert load({"model.center_writing_weights": True})


def test_numbers_have_one_spelling() -> None:
    first = load({"training.steps": 1.0e3, "training.sparsity_coefficient": 2})
    second = load({"training.sparsity_coefficient": 2.0, "training.steps": 1000})
    assert json.dumps(first) == json.dumps(second)
    assert load({"stitching.threshold": 1})["stitching"]["threshold"] == 1.0
    assert load({"stitching.threshold": "auto"})["stitching"]["threshold"] == "auto"


def test_names_may_be_whole_numbers() -> None:
    study = load({"saes[0].name": 7, "stitching": {"pairs": [[7, 128]], "transition": [7, "128"]}})
    assert study["saes"][0]["name"] == "7"
    assert study["stitching"]["pairs"] == [["7", "128"]]


def test_config_is_left_alone_and_its_order_does_not_matter() -> None:
    config = changed({})
    study = load_study(config, SCHEMA_PATH, ROOT)
    assert config == CONFIG
    backwards = OrderedDict(reversed(config.items()))
    assert json.dumps(load_study(backwards, SCHEMA_PATH, ROOT)) == json.dumps(study)


def test_pair_name_splits_into_the_names() -> None:
    assert pair_name("576", "1152-b") == "576--1152-b"
    assert split_pair_name("576--1152-b") == ("576", "1152-b")


@given(st.lists(st.text(string.ascii_letters + "019._-", min_size=1), min_size=2, max_size=2))
def test_pair_name_of_accepted_names_is_unambiguous(names: list[str]) -> None:
    saes = [{"name": name, "d_sae": 4} for name in names]
    try:
        load({"saes": saes})
    except StudyError:
        return
    assert list(split_pair_name(pair_name(*names))) == names


# Files and folders


def test_text_files_are_matched_in_the_working_directory_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, base = tmp_path / "here", tmp_path / "base"
    for name in ("here/b.txt", "here/a.txt", "here/deep/c.txt", "base/a.txt", "base/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    (here / "odd[1].txt").write_text("text")
    monkeypatch.chdir(here)

    def files(*patterns: str) -> list[str]:
        return load({"text": {"source": "files", "files": list(patterns)}}, base)["text"]["files"]

    assert files("b.txt", "a.txt", "a.*") == ["a.txt", "b.txt"]
    assert files("**/c.txt", "d.txt") == [str(base / "d.txt"), "deep/c.txt"]
    assert files(str(here / "a.txt")) == [str(here / "a.txt")]
    assert files("odd[1].txt") == ["odd[1].txt"]
    with pytest.raises(StudyError) as caught:
        files("deep")
    assert str(caught.value) == "text.files[0]: deep is a folder; name its files: deep/*.txt"


def test_model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    with pytest.raises(StudyError, match=r"^model.name: ./models/mine holds no config.json; "):
        load({"model.name": "./models/mine"})
    (folder / "config.json").write_text("{}")
    assert load({"model.name": "models/mine/"})["model"]["name"] == "models/mine"
    assert load({"model.name": str(folder)}, ROOT)["model"]["name"] == str(folder)
    monkeypatch.chdir(ROOT)
    assert load({"model.name": "models/mine"}, tmp_path)["model"]["name"] == str(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load({"model.name": "~/models/mine"})["model"]["name"] == str(folder)
    assert load({"cache": "~/cache"})["cache"] == str(tmp_path / "cache")


def test_other_model_names_are_left_to_transformer_lens() -> None:
    assert load({"model.name": "gpt2"})["model"]["name"] == "gpt2"
    assert load({"model.name": "someone/small"})["model"]["name"] == "someone/small"


def test_keys_of_an_unused_kind_of_text_are_allowed() -> None:
    text = load({"text.files": ["none/*.txt"], "text.dataset.path": "some/data"})["text"]
    assert text["source"] == "wiki"
    assert load({"text.source": "dataset", "text.dataset.path": "some/data"})


# What is shipped


@pytest.mark.parametrize("preset", [None, *PRESETS], ids=lambda path: path.stem if path else "-")
def test_shipped_config(
    preset: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # as with snakemake --directory
    config = load_configfile(ROOT / "config.yaml")
    if preset:
        update_config(config, load_configfile(preset))
    config = own_stitched(config, load_configfile(ROOT / "config.yaml"))
    study = load_study(config, SCHEMA_PATH, ROOT)
    assert json.loads(json.dumps(study, allow_nan=False)) == study
    again = load_study(study, SCHEMA_PATH, ROOT)
    assert json.dumps(again) == json.dumps(study)


def test_studies_have_names_of_their_own() -> None:
    names = [load_configfile(path)["study"] for path in (ROOT / "config.yaml", *PRESETS)]
    assert len(set(names)) == len(names)


def test_tiny_needs_nothing_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_configfile(ROOT / "config.yaml")
    update_config(config, load_configfile(ROOT / "presets" / "tiny.yaml"))
    study = load_study(config, SCHEMA_PATH, ROOT)
    assert study["sources"][study["model"]["name"]]["kind"] == "random-model"
    assert study["text"]["files"] == [str(ROOT / "presets" / "tiny.txt")]
    documents = Path(study["text"]["files"][0]).read_text("utf-8").split(study["text"]["separator"])
    assert len(documents) >= 12


# The schema itself


def walk(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """List every key that a config may have, as (path, schema)."""
    found = []
    for key, sub in schema.get("properties", {}).items():
        found += [(f"{path}.{key}", sub), *walk(sub, f"{path}.{key}")]
    for keyword in ("items", "additionalProperties", "else", "then"):
        if isinstance(sub := schema.get(keyword), dict):
            found += walk(sub, f"{path}.{keyword}")
    for key, sub in schema.get("$defs", {}).items():
        found += [(f"$defs.{key}", sub), *walk(sub, f"$defs.{key}")]
    return found


KEYS = walk(SCHEMA)


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """Follow $ref; what stands beside it goes first."""
    target: Any = SCHEMA
    if "$ref" not in schema:
        return schema
    for part in schema["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return {**resolved(target), **schema}


def test_schema_is_valid() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_walk_finds_the_keys() -> None:
    paths = [path for path, _ in KEYS]
    assert {".training.lr", ".saes.items.d_sae", "$defs.gguf-model.sha256"} <= set(paths)


@pytest.mark.parametrize(("path", "sub"), KEYS, ids=[path for path, _ in KEYS])
def test_key_of_the_schema(path: str, sub: dict[str, Any]) -> None:
    full = resolved(sub)
    assert full["description"].endswith("."), path
    if full.get("type") == "object" and "kind" not in full.get("properties", {}):
        assert full["additionalProperties"] is not True
        assert "additionalProperties" in full
    if "pattern" in full:
        assert full["errorMessage"]
    if "default" in full:
        Draft202012Validator(SCHEMA).evolve(schema=sub).validate(full["default"])


def test_every_optional_key_has_a_default() -> None:
    def missing(schema: dict[str, Any], path: str) -> list[str]:
        required = schema.get("required", [])
        return [
            f"{path}.{key}"
            for key, sub in schema.get("properties", {}).items()
            if key not in required and "default" not in sub
        ]

    assert missing(SCHEMA, "") == []
    for path, sub in KEYS:
        assert missing(sub, path) == [], path


def test_sae_entries_may_set_every_key_of_training() -> None:
    keys = SCHEMA["properties"]["saes"]["items"]["properties"]
    training = SCHEMA["properties"]["training"]["properties"]
    own = ["name", "release", "sae_id", "l0", "d_sae", "pretrained"]
    assert list(keys) == [*own, *training]
    for key in SCHEMA["properties"]["training"]["properties"]:
        assert keys[key] == {"$ref": f"#/properties/training/properties/{key}"}
