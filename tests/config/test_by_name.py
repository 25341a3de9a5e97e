"""SAEs that a config names by their release."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.checkout import ROOT
from helpers.registry import CENTRED, PIN, registry, write_index
from helpers.study_configs import CONFIG, SCHEMA_PATH
from sae_stitching.base.errors import StudyError
from sae_stitching.config import by_name
from sae_stitching.config.study import load_study, read_study

SPLITTING = "gpt2-small-res-jb-feature-splitting"
CANONICAL = "gemma-scope-2b-pt-res-canonical"


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch):
    monkeypatch.setattr(by_name, "read_registry", lambda *_: registry())


def gpt2(*sizes: int) -> list[dict[str, Any]]:
    return [{"release": SPLITTING, "sae_id": f"blocks.8.hook_resid_pre_{n}"} for n in sizes]


def gemma(*widths: str) -> list[dict[str, Any]]:
    return [{"release": CANONICAL, "sae_id": f"layer_12/width_{w}/canonical"} for w in widths]


def load(saes: list[Any], model: dict[str, Any] | None = None, **others: Any) -> dict[str, Any]:
    config = {**copy.deepcopy(CONFIG), "model": model or {}, "saes": saes, **others}
    del config["sources"]["small"]
    return load_study(config, SCHEMA_PATH, ROOT)


def test_two_names_are_a_study():
    study = load(gpt2(768, 1536))
    assert study["model"]["name"] == "gpt2-small"
    assert study["model"]["hook"] == "blocks.8.hook_resid_pre"
    assert study["model"]["center_writing_weights"] is True
    assert study["stitching"]["pairs"] == [["768", "1536"]]
    first = study["saes"][0]
    assert (first["name"], first["d_sae"]) == ("768", 768)
    assert (first["release"], first["sae_id"]) == (SPLITTING, "blocks.8.hook_resid_pre_768")
    assert first["pretrained"] == {
        "repo": "jbloom/GPT2-Small-Feature-Splitting-Experiment-Layer-8",
        "revision": "main",
        "path": "blocks.8.hook_resid_pre_768",
        "format": "saelens",
        "trust": [],
        "published": {
            "model": "gpt2-small",
            "l0": 35.0,
            "variance_explained": 0.7,
            "neuronpedia": "gpt2-small/8-res_fs768-jb",
            "settings": CENTRED,
        },
    }


def test_resolving_again_changes_nothing():
    study = load(gpt2(768, 1536))
    assert load_study(study, SCHEMA_PATH, ROOT) == study


def test_a_family_in_one_line():
    study = load([{"release": SPLITTING, "sae_id": "blocks.8.*"}])
    assert [sae["d_sae"] for sae in study["saes"]] == [768 * 2**i for i in range(8)]
    study = load([{"release": "gemma-scope-2b-pt-res", "sae_id": "layer_12/*", "l0": 45}])
    assert [sae["sae_id"][9:] for sae in study["saes"]] == [
        "width_16k/average_l0_41", "width_32k/average_l0_40", "width_1m/average_l0_58",
    ]  # fmt: skip


def test_beside_trained_ones():
    model = {"hook": "blocks.8.hook_resid_pre"}
    study = load([*gpt2(768), {"d_sae": 1536, "name": "ours"}], model)
    assert [sae["name"] for sae in study["saes"]] == ["768", "ours"]
    assert "pretrained" not in study["saes"][1]


def test_what_is_written_goes_before():
    commit = "0123456789" * 4
    entry = {**gpt2(768)[0], "name": "mine", "d_sae": 769, "pretrained": {"revision": commit}}
    study = load([entry, *gpt2(1536)], {"name": "gpt2", "center_writing_weights": False})
    first = study["saes"][0]
    assert (first["name"], first["d_sae"]) == ("mine", 769)
    assert first["pretrained"]["revision"] == commit and first["pretrained"]["repo"]
    assert study["model"]["name"] == "gpt2" and not study["model"]["center_writing_weights"]


def test_a_place_by_its_other_name():
    # What leaves block 7 enters block 8.
    study = load(gpt2(768, 1536), {"hook": "blocks.7.hook_resid_post"})
    assert study["model"]["hook"] == "blocks.7.hook_resid_post"


NAMED = {"release": "gemma-scope-2b-pt-res", "sae_id": "layer_12/width_16k/average_l0_22"}


@pytest.mark.parametrize(
    ("saes", "model", "complaint"),
    [
        ([{**NAMED, "release": "gemma"}], {}, r"saes\[0\]\.release: no release of SAELens"),
        ([NAMED, {**NAMED, "sae_id": "x"}], {}, r"saes\[1\]\.sae_id: there is no x in this"),
        (
            [NAMED, {**NAMED, "sae_id": "layer_12/width_32k/*"}], {},
            r"saes\[1\]\.sae_id: of 32768 latents there are .*; give l0, or write the id in full",
        ),
        (
            [NAMED, {"release": "temporal-sae-gemma-2-2b", "sae_id": "blocks.12.hook_resid_post"}],
            {}, r"saes\[1\]\.sae_id: .* is a temporal SAE",
        ),
        (
            [NAMED, {**NAMED, "sae_id": "layer_20/width_16k/average_l0_20"}], {},
            r"saes\[1\]\.sae_id: .* reads blocks\.20\.hook_resid_post, but .*_22 reads "
            r"blocks\.12\.hook_resid_post; stitch SAEs of one place",
        ),
        (
            [NAMED, *gpt2(768)], {"hook": "blocks.12.hook_resid_post"},
            r"saes\[1\]\.release: .* is of gpt2-small, but .* is of gemma-2-2b; stitch SAEs of "
            r"one model",
        ),
        (
            gpt2(768, 1536), {"hook": "blocks.9.hook_resid_pre"},
            r"saes\[0\]\.sae_id: .* but model\.hook is blocks\.9\.hook_resid_pre; correct one of",
        ),
        (
            [{"release": SPLITTING, "sae_id": "blocks.8.*", "name": "a"}], {},
            r"saes\[0\]\.name: blocks\.8\.\* names 8 SAEs; remove name, or give each an entry",
        ),
        ([{"release": SPLITTING}, *gpt2(768)], {}, r"saes\[0\]\.sae_id: this key is missing"),
        (
            [{"sae_id": "x", "d_sae": 5}, *gpt2(768)], {},
            r"saes\[0\]\.release: this key is missing",
        ),
        ([{**NAMED, "l0": "x"}, *gpt2(768)], {}, r"saes\[0\]\.l0: 'x' is text, not a number"),
        ([{**NAMED, "sae_id": 5}, *gpt2(768)], {}, r"saes\[0\]\.sae_id: 5 is a number, not text"),
        (
            [{**NAMED, "k": 5}, *gemma("32k")], {},
            r"saes\[0\]\.k: this SAE is not trained but read from files",
        ),
        (
            [NAMED, {**NAMED, "name": "16384"}], {},
            r"saes\[1\]\.name: saes\[0\] is named 16384 too",
        ),
    ],
)  # fmt: skip
def test_complaints(saes, model, complaint):
    with pytest.raises(StudyError, match=complaint):
        load(saes, model)


def test_a_study_that_knows_better_is_trusted():
    entry = {**gemma("16k")[0], "pretrained": {"trust": ["hook", "model"]}}
    study = load([*gpt2(768), entry], {"name": "gpt2", "hook": "blocks.8.hook_resid_pre"})
    assert study["saes"][1]["pretrained"]["trust"] == ["hook", "model"]


def test_another_registry_has_another_checksum():
    with pytest.raises(StudyError, match=r"registry\.sha256: .* sae-lens 6\.55\.0 has another"):
        load(gpt2(768, 1536), registry={"version": "6.55.0"})
    assert load(gpt2(768, 1536), registry={"version": "6.55.0", "sha256": "0" * 64})
    with pytest.raises(StudyError, match=r"registry\.version: 6\.5 is a number, not text"):
        load(gpt2(768, 1536), registry={"version": 6.5})


class TestOverTheDefaultStudy:
    """The default study has a model of its own, which SAEs of another do not read."""

    def read(self, folder: Path, config: dict[str, Any], *arguments: str) -> dict[str, Any]:
        path = folder / "study.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return read_study(ROOT, [path], arguments)

    def test_the_saes_tell_the_model(self, tmp_path):
        study = self.read(tmp_path, {"study": "mine", "saes": gemma("16k", "32k")})
        assert study["model"]["name"] == "gemma-2-2b"
        assert study["model"]["hook"] == "blocks.12.hook_resid_post"

    def test_unless_the_study_says_it(self, tmp_path):
        config = {"study": "mine", "saes": gemma("16k", "32k"), "model": {"name": "my-gemma/2b"}}
        study = self.read(tmp_path, config, "model={dtype: float32}")
        assert study["model"]["name"] == "my-gemma/2b"
        assert study["model"]["hook"] == "blocks.12.hook_resid_post"
        assert study["model"]["dtype"] == "float32"

    def test_a_complaint_knows_its_line(self, tmp_path):
        saes = [*gemma("16k"), {**gemma("32k")[0], "sae_id": "layer_12/width_33k/canonical"}]
        with pytest.raises(StudyError, match=r"study\.yaml, line 5: saes\[1\]\.sae_id: there is"):
            self.read(tmp_path, {"saes": saes, "study": "mine"})


def test_the_registry_is_fetched_when_a_study_names_a_release(index, tmp_path, monkeypatch):
    monkeypatch.undo()
    from helpers.package_index import environment

    for name, value in environment(index).items():
        monkeypatch.setenv(name, value)
    write_index(index)
    cache = str(tmp_path / "cache")
    study = load(gpt2(768, 1536), cache=cache, registry=PIN)
    assert study["saes"][0]["pretrained"]["path"] == "blocks.8.hook_resid_pre_768"
    assert (tmp_path / "cache" / "registry").is_dir()
