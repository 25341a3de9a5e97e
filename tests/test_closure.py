"""Which code a rule's hash covers: all that its script can import, as Python finds it."""

import sys
from modulefinder import ModuleFinder
from pathlib import Path

import pytest
from sae_stitching import provenance

SCRIPTS = Path(__file__).parent.parent / "workflow_scripts"
RULES = sorted(path for path in SCRIPTS.glob("*.py") if path.stem != "job")
MODULES = sorted([*SCRIPTS.rglob("sae_stitching/**/*.py"), SCRIPTS / "job.py"])


def importable(script: Path) -> set[Path]:
    """The script and the modules below its folder that it imports, however deep and late."""
    finder = ModuleFinder(path=[str(SCRIPTS)])
    finder.run_script(str(script))
    found = {Path(module.__file__) for module in finder.modules.values() if module.__file__}
    return {path for path in found if SCRIPTS in path.parents}


@pytest.fixture(scope="module")
def reached() -> dict[Path, set[Path]]:
    assert str(SCRIPTS) in sys.path
    return {script: importable(script) for script in RULES}


@pytest.mark.parametrize("script", RULES, ids=lambda path: path.stem)
def test_the_hash_covers_what_the_script_imports(reached, script):
    assert provenance._closure(script) == reached[script]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SCRIPTS)))
def test_a_change_of_a_module_reaches_the_rules_that_import_it(reached, module, monkeypatch):
    syntax = provenance._syntax
    before = {script: provenance.code_hash.__wrapped__(script) for script in RULES}
    monkeypatch.setattr(
        provenance, "_syntax", lambda path: syntax(path) + ("changed" if path == module else "")
    )
    changed = {s for s in RULES if provenance.code_hash.__wrapped__(s) != before[s]}
    assert changed == {script for script in RULES if module in reached[script]}
