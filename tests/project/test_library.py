"""The public API: what it is made of, when it is loaded, and that it installs."""

import ast
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sae_stitching
import torch
from helpers.checkout import LIBRARY, ROOT, SCRIPTS
from sae_stitching.base.errors import StudyError

PUBLIC = sorted(set(sae_stitching.__all__))


def imports(path: Path) -> list[ast.ImportFrom]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


def python(code: str, *, cwd: Path = SCRIPTS, executable: str = sys.executable) -> str:
    done = subprocess.run([executable, "-c", code], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_is_there_and_documented(name):
    found = getattr(sae_stitching, name)
    assert found.__name__ == name
    assert found.__module__.startswith("sae_stitching.")
    documentation = inspect.getdoc(found)
    assert documentation and documentation.splitlines()[0].endswith(".")
    if inspect.isfunction(found) and not name.startswith("load_"):
        assert "\nParameters\n---" in documentation


def test_the_stub_names_what_the_package_has():
    named = {alias.name for node in imports(LIBRARY / "__init__.pyi") for alias in node.names}
    assert named == set(PUBLIC)


def test_functions_with_the_name_of_a_module_win_over_it():
    """Whatever is imported first: a module becomes an attribute of its package."""
    modules = {path.stem for path in LIBRARY.iterdir()}
    assert not modules & set(PUBLIC)


def test_the_api_is_what_the_workflow_uses():
    used = set()
    for path in [*SCRIPTS.glob("*.py"), *LIBRARY.rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                used |= {alias.name for alias in node.names}
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                used.add(node.func.id)
    # For people who read an SAE without a study; import_sae wants what the files tell as well.
    outer = {"load_sae": "read_files"}
    assert set(outer.values()) <= used
    assert set(PUBLIC) - used - outer.keys() == set()


def test_no_code_of_the_workflow_goes_through_the_package():
    """Which code a result depends on is told by imports of modules, see provenance."""
    modules = {path.stem for path in LIBRARY.iterdir() if path.is_dir()} | {"__version__"}
    for path in [*SCRIPTS.glob("*.py"), *LIBRARY.rglob("*.py")]:
        for node in imports(path):
            if node.module == "sae_stitching":
                assert {alias.name for alias in node.names} <= modules, path


def test_what_is_not_used_is_not_loaded():
    slow = {"torch", "numba", "matplotlib", "pandas", "h5py", "jaxtyping"}
    loaded = f"import sys; print(*({slow!r} & sys.modules.keys()))"
    assert python(f"import sae_stitching; {loaded}").split() == []
    records = "Insertions, Similarity, Swaps, Transition, load_insertions, novelty_roc, figure4"
    found = python(f"from sae_stitching import {records}; {loaded}").split()
    assert not {"torch", "numba", "jaxtyping"} & set(found)
    steps = "stitching.pairs, sae_stitching.stitching.swaps, sae_stitching.saes.evaluation"
    found = python(f"import sae_stitching.{steps}; {loaded}").split()
    assert not {"numba", "matplotlib", "pandas", "jaxtyping"} & set(found)


@pytest.mark.parametrize("name", PUBLIC)
def test_the_smaller_sae_comes_first(name):
    found = getattr(sae_stitching, name)
    functions = [found, *(value for _, value in inspect.getmembers(found, inspect.isfunction))]
    for function in functions:
        if function is StudyError:
            continue
        names = list(inspect.signature(function).parameters)
        for kind in ("{}", "W_{}", "codes_{}"):
            small, large = kind.format("small"), kind.format("large")
            if small in names and large in names:
                assert names.index(small) < names.index(large), function


def test_the_documentation_lists_the_api():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\.\. auto\w+:: sae_stitching\.(\w+)$", page, re.MULTILINE)
    assert sorted(listed) == PUBLIC


def test_one_function_loads_every_format(tmp_path):
    W_dec = torch.eye(3)
    sae = sae_stitching.SAE(
        W_dec.T.contiguous(), W_dec, torch.zeros(3), torch.zeros(3), "relu", hook="a", model="b"
    )
    sae_stitching.save_sae(sae, tmp_path / "3.h5", study="one")
    sae_stitching.export_saelens(sae, tmp_path / "3")
    for path in (tmp_path / "3.h5", tmp_path / "3", tmp_path / "3" / "sae_weights.safetensors"):
        back = sae_stitching.load_sae(path)
        assert torch.equal(back.W_enc, sae.W_enc)
        assert (back.hook, back.model) == ("a", "b")
    assert sae_stitching.load_sae(tmp_path / "3.h5", study="one").d_sae == 3
    with pytest.raises(StudyError, match="belongs to study 'one'"):
        sae_stitching.load_sae(tmp_path / "3.h5", study="two")
    with pytest.raises(StudyError, match="no such file"):
        sae_stitching.load_sae(tmp_path / "4.h5")
    with pytest.raises(StudyError, match="name the folder of an SAE"):
        sae_stitching.load_sae(tmp_path / "4")


# Installed


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A Python with the library and what this one has, and another folder to run it from."""
    folder = tmp_path_factory.mktemp("install")
    source = folder / "source"
    kept = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(SCRIPTS, source / "workflow_scripts", ignore=kept)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    environment = folder / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    executable = environment / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(python(where, cwd=folder, executable=str(executable)).strip())
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "ours.pth").write_text("\n".join(ours) + "\n")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    pip = [sys.executable, "-m", "pip", "--python", executable, "install"]
    done = subprocess.run([*pip, *options, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    return str(executable), packages / "sae_stitching", elsewhere


def test_the_installed_library_has_all_its_names(installed):
    executable, package, elsewhere = installed
    code = (
        "import sae_stitching as s; [getattr(s, name) for name in s.__all__]; "
        "print(s.__file__, len(s.__all__))"
    )
    path, n = python(code, cwd=elsewhere, executable=executable).split()
    assert Path(path).samefile(package / "__init__.py")
    assert int(n) == len(PUBLIC)


def test_the_installed_library_is_complete(installed):
    _, package, _ = installed
    kept = [
        path for path in LIBRARY.rglob("*") if path.is_file() and path.parent.name != "__pycache__"
    ]
    names = {str(path.relative_to(LIBRARY)) for path in kept}
    assert {"py.typed", "__init__.pyi", "explorer/page/page.html"} <= names
    assert {name for name in names if not (package / name).is_file()} == set()
