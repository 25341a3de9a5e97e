"""What stands in several places says the same: pins, the version, the citation."""

import importlib.metadata
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from helpers.checkout import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from sae_stitching import __version__

README = (ROOT / "README.md").read_text(encoding="utf-8")
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
    # pyproject.toml takes it from the library.
    assert PROJECT["dynamic"] == ["version"] and "version" not in PROJECT
    assert citation["version"] == __version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
    assert citation["license"] == PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text()


def test_the_changelog_ends_in_this_version():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heads = re.findall(r"^## (.+)$", changelog, re.MULTILINE)
    versions = [re.fullmatch(r"\[(.+?)\](?: - \d{4}-\d\d-\d\d)?", head)[1] for head in heads]
    assert next(version for version in versions if version != "Unreleased") == __version__
    kinds = set(re.findall(r"^### (.+)$", changelog, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_the_hooks_before_a_commit_are_those_of_make_lint():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (local,) = hooks["repos"]
    assert local["repo"] == "local"
    makefile = (ROOT / "Makefile").read_text()
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)[1]
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()]
    assert [hook["entry"] for hook in local["hooks"]] == commands


def test_the_hosted_workflow_calls_what_is_called_here():
    hosted = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    steps = [step for job in hosted["jobs"].values() for step in job["steps"]]
    assert ".ci/run" in [step.get("run") for step in steps]


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
