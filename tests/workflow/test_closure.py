"""Which code a rule's hash covers: all that its script can import, as Python finds it."""

import sys
from modulefinder import ModuleFinder
from pathlib import Path

import pytest
from helpers.checkout import SCRIPTS
from own_code import OwnCode

RULES = sorted(path for path in SCRIPTS.glob("*.py") if path.stem not in ("job", "own_code"))
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


@pytest.fixture(scope="module")
def own() -> OwnCode:
    return OwnCode(SCRIPTS)


@pytest.fixture(scope="module")
def hashes(own) -> dict[Path, str]:
    return {script: own.hash(script.stem) for script in RULES}


@pytest.mark.parametrize("script", RULES, ids=lambda path: path.stem)
def test_the_hash_covers_what_the_script_imports(own, reached, script):
    assert set(map(Path, own.covered(script.stem))) == reached[script]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(SCRIPTS)))
def test_a_change_of_a_module_reaches_the_rules_that_import_it(
    own, hashes, reached, module, monkeypatch
):
    parsed = own._parsed

    def changed_one(path):
        syntax, names = parsed(path)
        return (syntax + b" changed" if path == str(module) else syntax, names)

    monkeypatch.setattr(own, "_parsed", changed_one)
    changed = {script for script in RULES if own.hash(script.stem) != hashes[script]}
    assert changed == {script for script in RULES if module in reached[script]}
