"""The code that runs is the code that is hashed, whatever else is installed or on a path.

Each test draws Figure 4 of a small study, whose inputs are written here, with the real workflow,
and looks at the figure's numbers.
"""

import os
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.checkout import LIBRARY, ROOT, SCRIPTS, copy_checkout
from helpers.figure4_runs import FIGURE, LOG, Figure4, write_inputs

DRAWING = f"{SCRIPTS.name}/{LIBRARY.name}/figures/figure4.py"


def multiply(file: Path, factor: int) -> None:
    """Have Figure 4's numbers multiplied, as an older or a changed version might."""
    text = file.read_text()
    assert text.count('"delta_mse": ') == 1
    times = f"{factor} * "
    file.write_text(text.replace('"delta_mse": ', f'"delta_mse": {times}'))


@pytest.fixture
def figure4(tmp_path) -> Figure4:
    """This repository's, in a folder of its own."""
    folder = tmp_path / "study"
    write_inputs(folder)
    return Figure4(ROOT, folder)


@pytest.fixture
def copied(tmp_path) -> Figure4:
    """Those of a copy of the repository, whose code may be changed."""
    folder = copy_checkout(tmp_path / "checkout")
    write_inputs(folder)
    return Figure4(folder, folder)


@pytest.fixture(scope="module")
def new_environment(tmp_path_factory) -> Callable[[], tuple[str, Path]]:
    """Make a Python with all that this one has, and a site-packages of its own before it."""

    def make() -> tuple[str, Path]:
        folder = tmp_path_factory.mktemp("environment")
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        (own,) = folder.glob("lib/python*/site-packages")
        ours = sysconfig.get_path("purelib")
        (own / "ours.pth").write_text(f"{ours}\n")
        return str(folder / "bin" / "python"), own

    return make


def older_copy(where: Path) -> None:
    kept = shutil.ignore_patterns("__pycache__")
    shutil.copytree(LIBRARY, where / LIBRARY.name, ignore=kept)
    multiply(where / "sae_stitching" / "figures" / "figure4.py", 1000)


def test_an_older_copy_among_the_installed_packages(figure4, new_environment):
    figure4.python, packages = new_environment()
    older_copy(packages)
    imported = "import sae_stitching.figures.figure4 as f; print(f.__file__)"
    done = subprocess.run([figure4.python, "-c", imported], capture_output=True, text=True)
    assert done.stdout.strip() == str(packages / "sae_stitching" / "figures" / "figure4.py")
    assert figure4.draw()[0] == 0
    assert figure4.factor == 1


def test_older_copies_and_a_strangers_module_on_the_path(figure4, tmp_path):
    older_copy(tmp_path / "older")
    stranger, ran = tmp_path / "stranger", tmp_path / "ran"
    stranger.mkdir()
    for name in ("job", "own_code", "sae_properties", "figure4"):
        (stranger / f"{name}.py").write_text(f"open({str(ran)!r}, 'w')\n")
    figure4.environment["PYTHONPATH"] = f"{tmp_path / 'older'}:{stranger}"
    status, said = figure4.draw()
    assert status == 0, said
    assert not ran.exists()
    assert figure4.factor == 1


def test_the_path_stays_as_it_was_for_all_others(copied, tmp_path):
    # Names of scripts, such as encode, may be names of libraries too.
    script = copied.checkout / SCRIPTS.name / "figure4.py"
    with script.open("a") as file:
        file.write("    import encode, os, subprocess, sys\n")
        file.write("    assert encode.THEIRS\n")
        file.write("    says = [sys.executable, '-c', 'import encode; assert encode.THEIRS']\n")
        file.write("    subprocess.run(says, check=True)\n")
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "encode.py").write_text("THEIRS = True\n")
    copied.environment["PYTHONPATH"] = str(theirs)
    status, said = copied.draw()
    assert status == 0, said


def test_an_installed_library_and_an_edited_checkout(copied, new_environment):
    copied.python, packages = new_environment()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copied.checkout)
    pip = [sys.executable, "-m", "pip", "--python", copied.python, "install", "--no-index"]
    options = ["--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*pip, *options, copied.checkout], check=True)
    shutil.rmtree(copied.checkout / "build", ignore_errors=True)
    assert (packages / "sae_stitching" / "figures" / "figure4.py").is_file()
    multiply(copied.checkout / DRAWING, 3)
    status, said = copied.draw()
    assert status == 0, said
    assert copied.factor == 3
    assert "Nothing to be done" in copied.draw()[1]


def test_an_edit_that_bytecode_does_not_show(copied):
    # As long and as old as what was compiled: Python takes its bytecode for current.
    drawing = copied.checkout / DRAWING
    multiply(drawing, 2)
    os.utime(drawing, (1e9, 1e9))
    assert py_compile.compile(str(drawing))
    drawing.write_text(drawing.read_text().replace('"delta_mse": 2 *', '"delta_mse": 7 *'))
    os.utime(drawing, (1e9, 1e9))
    assert copied.draw()[0] == 0
    assert copied.factor == 7


@pytest.mark.parametrize("edited", [DRAWING, f"{SCRIPTS.name}/figure4.py"])
def test_an_edit_after_the_run_began(copied, edited):
    # The run waits in its first line for the edit, as one of many hours would.
    begin = copied.checkout / "Snakefile"
    name = copied.checkout / edited
    edit = "path.write_text(path.read_text() + '\\nEDITED = True\\n')"
    change = f"\n\nonstart:\n    path = Path({str(name)!r})\n    {edit}\n"
    begin.write_text(begin.read_text() + change)
    status, said = copied.draw()
    assert status == 1
    script = copied.checkout / SCRIPTS.name / "figure4.py"
    assert copied.error(said) == (
        f"error in figure4: {script}, or what it imports, was changed after the run began; "
        f"run again (log: {LOG})"
    )
    assert not (copied.folder / FIGURE).exists()
    begin.write_text(begin.read_text().removesuffix(change))
    assert copied.draw()[0] == 0


def test_a_comment_after_the_run_began(copied):
    edit = f"open({str(copied.checkout / DRAWING)!r}, 'a').write('# Said better.')"
    with (copied.checkout / "Snakefile").open("a") as file:
        file.write(f"\n\nonstart:\n    {edit}\n")
    status, said = copied.draw()
    assert status == 0, said
    assert copied.factor == 1


@pytest.mark.parametrize("late", [False, True])
def test_a_module_that_the_hash_does_not_cover(copied, late):
    script = copied.checkout / SCRIPTS.name / "figure4.py"
    imported = "__import__('importlib').import_module('sae_stitching.figures.' + 'figure5')"
    text = script.read_text()
    changed = (
        f"{text}    {imported}\n" if late else text.replace("\nwith", f"\n{imported}\nwith", 1)
    )
    assert changed != text
    script.write_text(changed)
    status, said = copied.draw()
    assert status == 1
    library = copied.checkout / SCRIPTS.name / LIBRARY.name
    assert copied.error(said) == (
        f"error in figure4: {library}/figures/figure5.py has been imported, but "
        f"{script} does not say so in a way that its hash could cover; write: from "
        f"sae_stitching.<module> import <name> (log: {LOG})"
    )
    assert not (copied.folder / FIGURE).exists()


def test_a_library_that_python_imports_as_it_starts(figure4, new_environment):
    figure4.python, packages = new_environment()
    older_copy(packages)
    (packages / "zz_early.pth").write_text("import sae_stitching.figures.figure4\n")
    status, said = figure4.draw()
    assert status == 1
    assert figure4.error(said) == (
        f"error: {packages}/sae_stitching/__init__.py has been imported before this workflow's own "
        f"{LIBRARY}; see to it that nothing imports sae_stitching as Python "
        "starts (sitecustomize, .pth files)"
    )
    assert not (figure4.folder / FIGURE).exists()


def test_scripts_of_another_checkout(figure4, new_environment, tmp_path):
    # What puts itself before PYTHONPATH, as old installers did.
    figure4.python, packages = new_environment()
    other = copy_checkout(tmp_path / "other") / SCRIPTS.name
    (packages / "early.pth").write_text(f"import sys; sys.path.insert(0, {str(other)!r})\n")
    status, said = figure4.draw()
    assert status == 1
    assert figure4.error(said) == (
        f"error in figure4: {other} comes before {SCRIPTS}, whose scripts this run is "
        f"of, on Python's path; take it off (log: {LOG})"
    )


def test_every_script_begins_with_job():
    # What comes before it would be imported from wherever it is found.
    for script in SCRIPTS.glob("*.py"):
        text = script.read_text(encoding="utf-8")
        if script.stem not in ("job", "own_code", "check_command_line"):
            assert text.index("from job import job") < text.index("sae_stitching"), script
