"""What the README and the pages in docs/ show works, and what they name exists."""

import ast
import importlib
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.checkout import ROOT
from helpers.registry import registry
from sae_stitching.activations import language_model
from sae_stitching.command import main as command_line
from sae_stitching.config import by_name
from sae_stitching.config.study import load_study, own_stitched

DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "extensions"))

from config_keys import reference  # noqa: E402

SCHEMA_PATH = ROOT / "schemas" / "config.schema.yaml"
SCHEMA = yaml.safe_load(SCHEMA_PATH.read_text(encoding="utf-8"))
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [*sorted(ROOT.glob("*.md")), *sorted(DOCS.glob("*.md"))]
}


def blocks(language: str, *pages: str) -> dict[str, str]:
    """Blocks of code in a language, by page and number; without pages, of all."""
    return {
        f"{page}-{number}": block
        for page in pages or PAGES
        for number, block in enumerate(
            re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)
        )
    }


def commands() -> list[str]:
    """Commands that pages show, each once."""
    lines = (line for block in blocks("sh").values() for line in block.splitlines())
    found = dict.fromkeys(line.partition("#")[0].strip() for line in lines)
    assert len(found) > 12
    return list(found)


def test_the_readme_is_a_page():
    assert PAGES["README.md"].count("\n") <= 150


# Config keys


def schema_keys(path: str, rule: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    if "properties" not in rule:
        yield path, rule
    for key, below in rule.get("properties", {}).items():
        yield from schema_keys(f"{path}.{key}", below)


def test_the_reference_of_config_keys_is_made_from_the_schema():
    rows = [line.strip("| ").split(" | ") for line in reference(SCHEMA).splitlines() if "|" in line]
    written = {row[0].strip("`"): row for row in rows if row[0].startswith("`")}
    assert all(len(row) == 4 and row[3].strip() for row in written.values())
    expected: dict[str, dict[str, Any]] = {}
    for section, rule in SCHEMA["properties"].items():
        if section not in ("sources", "saes", "stitched"):
            expected |= dict(schema_keys(section, rule))
    entry = SCHEMA["properties"]["saes"]["items"]["properties"]
    own = ("name", "release", "sae_id", "l0")
    for key in (*own, "d_sae", "pretrained"):
        expected |= dict(schema_keys(f"saes[].{key}", entry[key]))
    recipe = SCHEMA["properties"]["stitched"]["items"]["properties"]
    expected |= {f"stitched[].{key}": recipe[key] for key in ("name", "base")}
    for kind in ("swap", "insert"):
        expected |= dict(schema_keys(f"stitched[].{kind}[]", recipe[kind]["items"]))
    kinds = SCHEMA["properties"]["sources"]["additionalProperties"]["properties"]["kind"]["enum"]
    for kind in kinds:
        expected |= {f"sources.<name>.{key}": {} for key in SCHEMA["$defs"][kind]["properties"]}
    assert written.keys() == expected.keys()
    optional = {f"saes[].{key}" for key in own}
    for key, rule in expected.items():
        if "default" in rule:
            assert yaml.safe_load(written[key][2].strip("`")) == rule["default"], key
        elif not key.startswith("sources"):
            assert written[key][2] == ("–" if key in optional else "required"), key
        for choice in rule.get("enum", []):
            assert f"`{'null' if choice is None else choice}`" in written[key][1], key
    for kind in kinds:
        assert f"`kind: {kind}`" in reference(SCHEMA)


def test_the_reference_says_ranges_in_words_of_its_own():
    made = reference(SCHEMA)
    assert "| `tokens.eval_fraction` | number > 0 and < 1 | `0.1` | Share of" in made
    assert "| `stitching.threshold` | `auto` or number > -1 and ≤ 1 | `0.7` | Cosine" in made
    assert "| `training.max_grad_norm` | number > 0 or `null` | `1.0` | " in made
    # A name in angle brackets would be taken for HTML, and two asterisks for bold.
    assert "`results/<study>/`" in made
    assert "`corpus/**/*.txt`" in made
    assert "`e.g" not in made
    assert set(language_model.POINTS) <= set(re.findall(r"(?:attn\.)?hook_[a-z_]+", made))


# Examples


@pytest.mark.parametrize("name", blocks("yaml"))
def test_the_studies_are_valid(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus" / "one").mkdir(parents=True)
    (tmp_path / "corpus" / "one" / "text.txt").write_text("Some text.")
    (tmp_path / "models" / "my-model").mkdir(parents=True)
    (tmp_path / "models" / "my-model" / "config.json").write_text("{}")
    (tmp_path / "saes" / "my-1536").mkdir(parents=True)
    for file in ("cfg.json", "sae_weights.safetensors"):
        (tmp_path / "saes" / "my-1536" / file).touch()
    study = yaml.safe_load(blocks("yaml")[name])
    merged = {**CONFIG, **study}
    for section, value in study.items():
        if isinstance(value, dict):
            merged[section] = {**CONFIG.get(section, {}), **value}
    monkeypatch.setattr(by_name, "read_registry", lambda *_: registry())
    merged = own_stitched(by_name.own_model(merged, study), CONFIG)
    assert load_study(merged, SCHEMA_PATH, ROOT)["study"] == study["study"]


def test_the_readmes_study_has_ten_lines():
    (study,) = blocks("yaml", "README.md").values()
    assert len(study.splitlines()) <= 10


@pytest.mark.parametrize(
    "command", [c for c in commands() if "snakemake" in c and "--unlock" not in c]
)
def test_the_commands_work(tmp_path, command):
    program, *arguments = shlex.split(command)
    assert program == ".venv/bin/snakemake"
    # The default study under another name, since those shown need their files or the hub.
    for name in {"my-study.yaml", "gemma.yaml"} & set(arguments):
        (tmp_path / name).write_text("study: my-study\n")
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


@pytest.mark.parametrize("command", [c for c in commands() if c.startswith("bin/sae-stitching")])
def test_the_commands_over_the_registry_work(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(command_line, "read_registry", lambda *_: registry())
    command_line.main(shlex.split(command)[1:])


def test_the_targets_of_make_exist():
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    named = {word for c in commands() if c.startswith("make") for word in shlex.split(c)[1:]}
    for text in PAGES.values():
        named |= set(re.findall(r"`make ([a-z-]+)", text))
    assert {"figures", "test", "lint"} <= targets
    assert {word for word in named if "=" not in word} <= targets


def test_the_example_of_the_library_runs():
    example, *reading = blocks("python", "docs/library.md").values()
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
    # The others read results or SAEs of the reader's: here only whether their names exist.
    reading += blocks("python", "README.md").values()
    for node in (node for block in reading for node in ast.walk(ast.parse(block))):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names)


# Names


def test_every_link_leads_somewhere():
    for page, text in PAGES.items():
        links = re.findall(r"\]\(([^):#]+?)(?:#([^)]*))?\)", text)
        for target, section in links:
            file = (ROOT / page).parent / target
            assert file.exists(), (page, target)
            if section:
                assert section in anchors(file), (page, target, section)


def anchors(page: Path) -> set[str]:
    """Names of a page's sections in links, as MyST and GitHub make them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_files_that_pages_name_exist():
    folders = r"presets|rules|schemas|workflow_scripts|profiles|envs|tests|docs|\.ci|\.github"
    for page, text in PAGES.items():
        if page == "docs/extending.md":  # names files that its reader makes, which a test does
            continue
        named = set(re.findall(rf"`((?:{folders})/[\w./-]*)`", text)) - {"docs/_build/html"}
        assert [path for path in named if not (ROOT / path).exists()] == [], page


def test_every_page_is_in_the_contents():
    contents = PAGES["docs/index.md"]
    trees = re.findall(r"^```\{toctree\}\n(.*?)^```", contents, re.MULTILINE | re.DOTALL)
    listed = re.findall(r"^[a-z]+$", "".join(trees), re.MULTILINE)
    assert sorted(listed) == sorted(path.stem for path in DOCS.glob("*.md") if path.stem != "index")
