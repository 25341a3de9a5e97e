"""What the code hash covers, on a small package made for it."""

import ast
import importlib.metadata
import platform
from pathlib import Path

import own_code
import pytest
from helpers.checkout import SCRIPTS
from own_code import OwnCode
from sae_stitching.base.provenance import package_versions

FILES = {
    "run.py": '''
        """Run."""
        from job import job
        from sae_stitching.direct import compute
        from sae_stitching.figures import style

        with job():
            compute(style.SIZE)
        ''',
    "job.py": "def job(): ...",
    "other.py": "x = 1",
    "sae_stitching/__init__.py": '"""Package."""',
    "sae_stitching/direct.py": '''
        """Compute."""
        from sae_stitching.deep import DEEP
        from sae_stitching.errors import StudyError

        def compute(size):
            """Compute it."""
            # For good.
            return size + DEEP  # a sum
        ''',
    "sae_stitching/errors.py": "class StudyError(Exception):\n    '''For people.'''",
    "sae_stitching/deep.py": "def lazily():\n    import sae_stitching.lazy\nDEEP = 1",
    "sae_stitching/lazy.py": "from sae_stitching import direct\nLAZY = 'a'",
    "sae_stitching/unrelated.py": "import sae_stitching.deep\nUNRELATED = 1",
    "sae_stitching/figures/__init__.py": '"""Figures."""',
    "sae_stitching/figures/style.py": "SIZE = 3",
    "sae_stitching/figures/figure4.py": "SIZE = 4",
}


@pytest.fixture
def hashed(tmp_path):
    """Hash `run.py` of the package with some files changed, in a folder of its own."""
    folders = iter(range(100))

    def hash_with(changes=()):
        folder = tmp_path / str(next(folders)) / "workflow_scripts"
        for name, content in {**FILES, **dict(changes)}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is not None:
                path.write_text("\n".join(_dedented(content)))
        return OwnCode(folder).hash("run")

    return hash_with


def _dedented(content):
    lines = content.split("\n")
    margin = 8 if lines[0] == "" else 0
    return [line[margin:] for line in lines]


def edited(name, old, new):
    assert FILES[name].count(old) == 1
    return {name: FILES[name].replace(old, new)}


def test_the_folder_does_not_count(hashed):
    assert hashed() == hashed()
    assert len(hashed()) == 64


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("run.py", '"""Run."""', '"""Run it, at last."""'),
        ("sae_stitching/direct.py", '"""Compute it."""', '"""Say more."""'),
        ("sae_stitching/direct.py", '            """Compute it."""\n', ""),
        ("sae_stitching/direct.py", "# For good.", "# For ever.\n\n            # And more."),
        ("sae_stitching/direct.py", "  # a sum", ""),
        ("sae_stitching/direct.py", "size + DEEP", "(size   + DEEP)"),
        ("sae_stitching/errors.py", "'''For people.'''", "'''For all.'''"),
        ("sae_stitching/deep.py", "DEEP = 1", "\n\n\nDEEP = 1"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(hashed, name, old, new):
    assert hashed(edited(name, old, new)) == hashed()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("run.py", "style.SIZE", "2 * style.SIZE"),
        ("job.py", "def job(): ...", "def job(): pass"),
        ("sae_stitching/direct.py", "size + DEEP", "size - DEEP"),
        ("sae_stitching/direct.py", "compute(size)", "compute(size, /)"),
        ("sae_stitching/deep.py", "DEEP = 1", "DEEP = 2"),
        ("sae_stitching/lazy.py", "'a'", "'b'"),
        ("sae_stitching/errors.py", "Exception", "ValueError"),
        ("sae_stitching/figures/style.py", "3", "3.0"),
    ],
)
def test_code_counts_however_deep(hashed, name, old, new):
    assert hashed(edited(name, old, new)) != hashed()


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("other.py", "1", "2"),
        ("sae_stitching/unrelated.py", "1", "2"),
        ("sae_stitching/figures/figure4.py", "4", "5"),
    ],
)
def test_what_is_not_imported_does_not_count(hashed, name, old, new):
    assert hashed(edited(name, old, new)) == hashed()


@pytest.mark.parametrize("name", ["__init__.py", "figures/__init__.py"])
def test_what_a_package_runs_when_one_of_its_modules_is_imported_counts(hashed, name):
    importing = {"run.py": "from sae_stitching.figures.style import SIZE"}
    changed = {**importing, f"sae_stitching/{name}": "import os\nos.environ['A'] = '1'"}
    assert hashed(changed) != hashed(importing)


def test_a_string_that_is_no_docstring_counts(hashed):
    with_text = {"sae_stitching/figures/style.py": "SIZE = 3\n'text'"}
    assert hashed(with_text) != hashed()


def test_a_new_import_brings_its_module_in(hashed):
    imported = edited("run.py", '"""Run."""', '"""Run."""\n        import sae_stitching.unrelated')
    changed = {**imported, **edited("sae_stitching/unrelated.py", "1", "2")}
    assert hashed(imported) != hashed()
    assert hashed(changed) != hashed(imported)


def test_a_module_beside_the_script_that_is_not_there_is_no_matter(hashed):
    # The standard library and other packages are imported by the same names.
    assert hashed(edited("run.py", "from job import job", "import torch\n        import json"))


@pytest.mark.parametrize(
    "line",
    [
        "import sae_stitching.unrelated as other",
        "from sae_stitching.unrelated import *",
        "from .unrelated import UNRELATED",
        "from . import unrelated",
        "def late():\n    from . import unrelated as other",
    ],
)
def test_every_way_to_import_a_module_is_understood(hashed, line):
    importing = {"sae_stitching/lazy.py": line}
    changed = {**importing, **edited("sae_stitching/unrelated.py", "1", "2")}
    assert hashed(changed) != hashed(importing)
    inner = line.replace("from .", "from ..")
    importing = {"sae_stitching/figures/style.py": f"SIZE = 3\n{inner}"}
    changed = {**importing, **edited("sae_stitching/unrelated.py", "1", "2")}
    assert hashed(changed) != hashed(importing)


def test_where_a_module_stands_counts(hashed):
    # Or two that change places would be the same code.
    changed = {
        "sae_stitching/direct.py": FILES["sae_stitching/deep.py"],
        "sae_stitching/deep.py": FILES["sae_stitching/direct.py"],
    }
    assert hashed(changed) != hashed()


def test_scripts_of_the_workflow_are_followed_into_the_library():
    own = OwnCode(SCRIPTS)
    names = {Path(path).name for path in own.covered("train_sae")}
    assert {"train_sae.py", "job.py", "training.py", "codes.py", "store.py"} <= names
    assert not {"figure5.py", "transitions.py", "roc.py"} & names
    assert own.hash("train_sae") != own.hash("figure5")


def test_the_code_is_spelled_in_the_same_way_whatever_python_reads_it():
    # With conda, Snakemake's Python and that of the jobs may be two. What is below is so in 3.11,
    # 3.12 and 3.14; ast.dump says something else in each.
    words = []
    own_code._write(ast.parse("def f(x=None, *, y=()):\n    return f'{x!r:>{y}} {None}'"), words)
    assert " ".join(words) == (
        "Module body FunctionDef name 'f' args arguments args arg arg 'x' ) ] kwonlyargs arg "
        "arg 'y' ) ] kw_defaults Tuple ) ] defaults None ] ) body Return value JoinedStr values "
        "FormattedValue value Name id 'x' ) conversion 114 format_spec JoinedStr values '>' "
        "FormattedValue value Name id 'y' ) conversion -1 ) ] ) ) ' ' FormattedValue value None "
        "conversion -1 ) ] ) ) ] ) ] )"
    )


def test_versions():
    versions = package_versions()
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == importlib.metadata.version("torch")
    assert {"h5py", "numpy", "scipy"} <= set(versions)


def test_packages_that_are_not_installed_have_no_version(monkeypatch):
    def version(name):
        if name == "torch":
            raise importlib.metadata.PackageNotFoundError
        return "1"

    monkeypatch.setattr(importlib.metadata, "version", version)
    versions = package_versions()
    assert "torch" not in versions
    assert versions["numpy"] == "1"


def test_what_is_kept_is_what_is_compiled_anew(tmp_path):
    kept = tmp_path / "kept"
    anew, filling, reading = OwnCode(SCRIPTS), OwnCode(SCRIPTS, kept), OwnCode(SCRIPTS, kept)
    expected = [anew.hash("swaps"), anew.compiled_hash(), anew.covered("swaps")]
    for own in (filling, reading):
        assert [own.hash("swaps"), own.compiled_hash(), own.covered("swaps")] == expected
    assert reading.get_code("sae_stitching.base.store") == anew.get_code("sae_stitching.base.store")


@pytest.mark.parametrize("damage", [b"", b"\xff", b"another code"])
def test_damage_to_what_is_kept_is_no_matter(tmp_path, damage):
    kept = tmp_path / "kept"
    expected = OwnCode(SCRIPTS, kept).hash("swaps")
    for path in kept.iterdir():
        path.write_bytes(path.read_bytes()[:40] + damage)
    assert OwnCode(SCRIPTS, kept).hash("swaps") == expected


def test_where_nothing_can_be_kept_all_is_compiled(tmp_path):
    (tmp_path / "file").write_text("in the way")
    own = OwnCode(SCRIPTS, tmp_path / "file" / "kept")
    assert own.hash("swaps") == OwnCode(SCRIPTS).hash("swaps")
