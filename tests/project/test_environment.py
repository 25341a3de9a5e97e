"""What stands in several places says the same: pins, the README, the schema, the repository."""

import ast
import importlib.metadata
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.checkout import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from sae_stitching import __version__
from sae_stitching.activations import language_model
from sae_stitching.config.study import load_study, own_stitched

README = (ROOT / "README.md").read_text(encoding="utf-8")
SCHEMA_PATH = ROOT / "schemas" / "config.schema.yaml"
SCHEMA = yaml.safe_load(SCHEMA_PATH.read_text(encoding="utf-8"))
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def pins(path: str) -> dict[str, str]:
    """Versions by package name; every line must be a pin, a comment or another file."""
    found = {}
    for line in (ROOT / path).read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith(("#", "-r ")):
            name, version = re.fullmatch(r"([A-Za-z0-9._-]+)==([A-Za-z0-9.]+)", line).groups()
            found[canonicalize_name(name)] = version
    return found


LOCK = pins("requirements.lock")
DEV_LOCK = pins("requirements-dev.lock")
DOCS_LOCK = pins("requirements-docs.lock")
SLURM_LOCK = pins("requirements-slurm.lock")


# Pins


def test_chosen_versions_are_the_resolved_ones():
    assert pins("requirements.in").items() <= LOCK.items()
    assert pins("requirements-dev.in").items() <= DEV_LOCK.items()
    assert pins("requirements-docs.in").items() <= DOCS_LOCK.items()
    assert not LOCK.keys() & DEV_LOCK.keys()
    assert not (LOCK.keys() | DEV_LOCK.keys()) & DOCS_LOCK.keys()
    assert "-r requirements-dev.lock" in (ROOT / "requirements-docs.lock").read_text().splitlines()
    assert "-r requirements.lock" in (ROOT / "requirements-dev.lock").read_text().splitlines()
    assert LOCK["torch"] == "2.13.0"


def test_the_package_needs_nothing_that_the_lock_lacks():
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for text in (text for group in groups for text in group):
        requirement = Requirement(text)
        version = {**LOCK, **SLURM_LOCK}[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), text


def test_a_cluster_needs_two_packages_more():
    assert not LOCK.keys() & SLURM_LOCK.keys()
    assert "-r requirements.lock" in (ROOT / "requirements-slurm.lock").read_text().splitlines()


def test_the_lock_is_complete():
    # The libraries that PyTorch brings differ between its builds, so that they are not pinned.
    for name in LOCK.keys() - {"torch"}:
        for text in importlib.metadata.requires(name) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                needed = canonicalize_name(requirement.name)
                assert needed in LOCK or needed == "setuptools", f"{name} needs {text}"


def test_what_is_installed_is_what_is_locked():
    for name, version in LOCK.items():
        installed = importlib.metadata.version(name).partition("+")[0]
        assert installed == version, name


@pytest.mark.parametrize("path", sorted((ROOT / "envs").glob("*.yaml")), ids=lambda p: p.name)
def test_conda_environments_pin_what_the_lock_pins(path):
    dependencies = yaml.safe_load(path.read_text(encoding="utf-8"))["dependencies"]
    (from_pip,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    names = set()
    for text in from_pip:
        name, version = text.split("==")
        names.add(canonicalize_name(name))
        assert LOCK[canonicalize_name(name)] == version
    # All that the scripts import; Snakemake and what reads the config run outside of them.
    groups = [PROJECT["dependencies"], PROJECT["optional-dependencies"]["activations"]]
    needed = {canonicalize_name(Requirement(text).name) for group in groups for text in group}
    assert needed <= names


def test_python_is_the_same_everywhere():
    assert PROJECT["requires-python"] == ">=3.11"
    assert "sys.version_info < (3, 11)" in (ROOT / "Makefile").read_text()
    assert "Python 3.11 or newer" in README
    for path in (ROOT / "envs").glob("*.yaml"):
        assert "python>=3.11" in yaml.safe_load(path.read_text())["dependencies"]


# README


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    return [line.partition("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]


def schema_keys(path: str, rule: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if "properties" not in rule:
        yield path, rule
    for key, below in rule.get("properties", {}).items():
        yield from schema_keys(f"{path}.{key}", below)


def documented_keys() -> dict[str, str]:
    """Config keys in the README's tables, with their defaults as written there."""
    rows = re.findall(r"^\| `([a-z_.\[\]]+)` \| (.*?) \| .+ \|$", README, re.MULTILINE)
    keys = dict(rows)
    assert len(keys) == len(rows)
    return keys


def test_the_readme_has_every_config_key_and_its_default():
    documented = documented_keys()
    expected: dict[str, dict[str, Any]] = {"saes[].d_sae": {}}
    entry = SCHEMA["properties"]["saes"]["items"]["properties"]
    expected |= dict(schema_keys("saes[].pretrained", entry["pretrained"]))
    recipe = SCHEMA["properties"]["stitched"]["items"]["properties"]
    for kind in ("swap", "insert"):
        expected |= dict(schema_keys(f"stitched[].{kind}[]", recipe[kind]["items"]))
    expected |= {f"stitched[].{key}": {} for key in ("name", "base")}
    for section, rule in SCHEMA["properties"].items():
        assert f"`{section}`" in README
        if section not in ("sources", "saes", "stitched"):
            expected |= dict(schema_keys(section, rule))
    assert documented.keys() - {"saes[].name"} == expected.keys()
    for key, rule in expected.items():
        if "default" not in rule:
            assert documented[key] == "required", key
        else:
            written = yaml.safe_load(documented[key].strip("`"))
            assert written == rule["default"], key


def test_the_readme_has_every_choice_of_the_config():
    rows = dict(re.findall(r"^\| `([a-z_.]+)` \| .*? \| (.+) \|$", README, re.MULTILINE))
    for key, rule in schema_keys("training", SCHEMA["properties"]["training"]):
        if key.endswith("architecture"):
            assert set(re.findall("`([a-z]+)`", rows[key])) == set(rule["enum"])
    for kind in SCHEMA["properties"]["sources"]["additionalProperties"]["properties"]["kind"][
        "enum"
    ]:
        assert f"`{kind}`" in README
    assert set(language_model.POINTS) <= set(re.findall("`(?:[^`]*)(hook_[a-z_]+)`", README))


@pytest.mark.parametrize("block", blocks("yaml"), ids=lambda block: block.split()[1])
def test_the_studies_in_the_readme_are_valid(tmp_path, monkeypatch, block):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus" / "one").mkdir(parents=True)
    (tmp_path / "corpus" / "one" / "text.txt").write_text("Some text.")
    (tmp_path / "models" / "my-model").mkdir(parents=True)
    (tmp_path / "models" / "my-model" / "config.json").write_text("{}")
    (tmp_path / "saes" / "my-1536").mkdir(parents=True)
    for name in ("cfg.json", "sae_weights.safetensors"):
        (tmp_path / "saes" / "my-1536" / name).touch()
    study = yaml.safe_load(block)
    merged = {**CONFIG, **study}
    for section, value in study.items():
        if isinstance(value, dict):
            merged[section] = {**CONFIG.get(section, {}), **value}
    merged = own_stitched(merged, CONFIG)
    assert load_study(merged, SCHEMA_PATH, ROOT)["study"] == study["study"]


@pytest.mark.parametrize(
    "command", [c for c in commands() if "snakemake" in c and "--unlock" not in c]
)
def test_the_commands_in_the_readme_work(tmp_path, command):
    program, *arguments = shlex.split(command)
    assert program == ".venv/bin/snakemake"
    if "my-study.yaml" in arguments:
        # The default study under another name, since the one in the README needs its files.
        (tmp_path / "my-study.yaml").write_text("study: my-study\n")
    ours = ("presets/", "Snakefile")
    arguments = [str(ROOT / a) if a.startswith(ours) else a for a in arguments]
    if "--snakefile" not in arguments:
        arguments += ["--snakefile", str(ROOT / "Snakefile")]
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", *arguments, "--dry-run", "--quiet"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_targets_of_make_in_the_readme_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {word for c in commands() if c.startswith("make") for word in shlex.split(c)[1:]}
    named |= set(re.findall(r"`make ([a-z-]+)", README))
    assert {"figures", "test", "lint"} <= targets
    assert {word for word in named if "=" not in word} <= targets


def test_the_files_that_the_readme_names_exist():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    named = re.findall(
        r"`((?:presets|rules|schemas|workflow_scripts|profiles|envs|tests|\.ci)/[\w./-]*)`", README
    )
    missing = [path for path in [*links, *named] if not (ROOT / path).exists()]
    assert not missing


def test_the_first_python_example_runs():
    example, *reading = blocks("python")
    run = subprocess.run(
        [sys.executable, "-c", example],
        cwd=ROOT / "workflow_scripts",
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert re.fullmatch(
        r"MSE [\d.]+; \d+ novel latents\nmean effect of a novel latent [-+][\d.]+\n", run.stdout
    )
    # The others read results of the default study: here only whether their names exist.
    for node in (node for block in reading for node in ast.walk(ast.parse(block))):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names)


# Repository


def repository_files() -> list[Path]:
    """All files of the repository, those to be committed among them."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    paths = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_no_file_is_large():
    assert not [path for path in repository_files() if path.stat().st_size > 1_000_000]


def test_no_file_names_a_folder_of_one_machine():
    # In parts, so that this file does not find itself.
    homes = "|".join(
        ["ho" + "me", "ro" + "ot", "Use" + "rs", "wo" + "rk", "scr" + "atch", "mn" + "t"]
    )
    folder = re.compile(rf"(?<![\w.~*}}/-])/(?:{homes})/\w")
    index = re.compile(r"^\s*(?:--(?:extra-)?index-url|--find-links|-f|-i)\b", re.MULTILINE)
    for path in repository_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        assert not folder.search(text), path
        if path.name.startswith("requirements"):
            assert not index.search(text), path
            assert "://" not in text, path


def test_the_version_is_the_same_everywhere():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == PROJECT["version"] == __version__
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_the_citation_names_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    paper = citation["preferred-citation"]
    assert paper["title"] in " ".join(README.split())
    assert paper["year"] == 2025
    for author in paper["authors"]:
        assert author["family-names"] in README
    assert "2502.04878" in json.dumps(paper) and "arXiv:2502.04878" in README
