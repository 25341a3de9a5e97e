"""Where things lie, and what the environment holds: none of it changes a result or stops a run."""

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.checkout import ROOT, SCRIPTS, copy_checkout
from helpers.figure4_runs import FIGURE, Figure4, write_inputs
from helpers.package_index import CONTENT, pinned
from helpers.runs import Run
from sae_stitching.text.sources import link, sha256

# Folders


@pytest.mark.parametrize("name", ["a b", "it's", '$HOME "%s" [x]*', "\u00fc\n"])
def test_a_checkout_in_a_folder_of_any_name(tmp_path, name):
    folder = copy_checkout(tmp_path / name / "checkout")
    write_inputs(folder)
    status, said = Figure4(folder, folder).draw()
    assert status == 0, said
    assert (folder / FIGURE).is_file()


@pytest.mark.parametrize(("name", "wrong"), [("{brace}", "{"), ("a}b", "}"), ("a:b", ":")])
def test_a_checkout_in_a_folder_that_snakemake_cannot_have(tmp_path, name, wrong):
    folder = copy_checkout(tmp_path / name)
    write_inputs(folder)
    figure4 = Figure4(folder, folder)
    status, said = figure4.draw()
    assert status == 1
    assert figure4.error(said) == (
        f"error: {str(folder)!r}: the checkout's folder has {wrong!r} in its path, which "
        "Snakemake's jobs cannot have; move it to a folder of another name"
    )


def test_a_python_in_a_folder_with_a_space(tmp_path):
    environment = tmp_path / "my environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    ours = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "ours.pth").write_text("\n".join(ours) + "\n")
    write_inputs(tmp_path / "study")
    python = str(environment / "bin" / "python")
    figure4 = Figure4(ROOT, tmp_path / "study", python)
    status, said = figure4.draw()
    assert status == 1
    assert figure4.error(said) == (
        f"error: {python!r}: Python, as it was started, has ' ' in its path, which Snakemake's "
        "jobs cannot have; move it to a folder of another name"
    )


def test_texts_with_braces_in_their_names(tmp_path):
    names = ["{draft}", "a{b", "x}y", "{{z}}", "a b", "it's", "{of}/plain", "{of}/{draft}"]
    (tmp_path / "corpus" / "{of}").mkdir(parents=True)
    for name in names:
        shutil.copy(ROOT / "presets" / "tiny.txt", tmp_path / "corpus" / f"{name}.txt")
    config = {"text": {"files": [f"corpus/{name}.txt" for name in names]}}
    target = "results/tiny/corpus/tokens.h5"
    status, said = Run(ROOT, tmp_path).snakemake("--cores", "1", "--", target, config=config)
    assert status == 0, said
    assert f"read text: {len(names)} of {len(names)} files" in said
    # The link is no older than what it leads to is new.
    assert "Nothing to be done" in Run(ROOT, tmp_path).snakemake("-n", target, config=config)[1]
    (tmp_path / "corpus" / "{of}" / "{draft}.txt").write_text("Another text.\n" * 99)
    assert "tokenise" in Run(ROOT, tmp_path).snakemake("-n", target, config=config)[1]


def test_results_on_another_disk_and_a_cache_beside_the_link(index, tmp_path):
    folder, scratch = tmp_path / "study", tmp_path / "scratch" / "deep" / "results"
    folder.mkdir()
    scratch.mkdir(parents=True)
    (folder / "results").symlink_to(scratch)
    target = "results/tiny/sources/data/data.bin"
    source = pinned(wheel_sha256=sha256(next(index.iterdir())))
    config = {"sources": {"data": source}, "text": {"source": "data"}}
    status, said = Run(ROOT, folder).snakemake("--cores", "1", "--", target, config=config)
    assert status == 0, said
    assert (folder / target).read_bytes() == CONTENT


@pytest.mark.parametrize("elsewhere", ["results", "results/tiny", "cache"])
def test_links_lead_to_the_cache(tmp_path, monkeypatch, elsewhere):
    folder = tmp_path / "study"
    (folder / elsewhere).parent.mkdir(parents=True)
    (tmp_path / "far" / "away").mkdir(parents=True)
    (folder / elsewhere).symlink_to(tmp_path / "far" / "away")
    monkeypatch.chdir(folder)
    for name in ("results/tiny/sources", "cache/sources"):
        Path(name).mkdir(parents=True, exist_ok=True)
    kept, path = Path("cache/sources/data"), Path("results/tiny/sources/data")
    kept.write_bytes(CONTENT)
    link(path, kept)
    assert path.read_bytes() == CONTENT


def test_a_folder_with_results_and_cache_can_be_moved(tmp_path, monkeypatch):
    (tmp_path / "study" / "cache").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "study")
    Path("cache/data").write_bytes(CONTENT)
    link(Path("results/tiny/data"), Path("cache/data"))
    (tmp_path / "study").rename(tmp_path / "moved")
    assert (tmp_path / "moved/results/tiny/data").read_bytes() == CONTENT


# The environment


def test_what_a_notebook_has_set_is_not_for_jobs(tmp_path):
    settings = tmp_path / "matplotlibrc"
    settings.write_text("backend: module://nix\nfont.size: 30\nlines.linewidth: a\n")
    inherited = {
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MATPLOTLIBRC": str(settings),
        "PYTHONOPTIMIZE": "2",
    }
    shown = []
    for environment in ({}, inherited):
        folder = tmp_path / str(len(environment))
        write_inputs(folder)
        if environment:
            shutil.copy(settings, folder)
        status, said = Figure4(ROOT, folder, environment=environment).draw()
        assert status == 0, said
        assert "Traceback" not in said
        shown.append((folder / FIGURE).with_suffix(".png").read_bytes())
    assert shown[0] == shown[1]


# Nothing to write to


def without_write_access() -> None:
    """Have permissions bind the administrator too."""
    # PR_CAPBSET_DROP of CAP_DAC_OVERRIDE: gone with the next program that is started.
    if os.geteuid() == 0:
        assert ctypes.CDLL(None).prctl(24, 1, 0, 0, 0) == 0


@pytest.fixture
def closed(tmp_path):
    """A copy of the checkout and a home, neither of which can be written to."""
    if os.geteuid() == 0 and not sys.platform.startswith("linux"):
        pytest.skip("permissions do not bind the administrator of this system")
    checkout, home = copy_checkout(tmp_path / "checkout"), tmp_path / "home"
    home.mkdir()
    folders = [home, checkout, *(path for path in checkout.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    yield checkout, home
    for folder in folders:
        folder.chmod(0o755)


def run_closed(command, home: Path, folder: Path, **environment: str) -> tuple[int, str]:
    kept = {k: v for k, v in os.environ.items() if k.startswith("OMP_") or k == "PATH"}
    done = subprocess.run(
        [sys.executable, *command],
        env={**kept, "HOME": str(home), **environment},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=without_write_access,
    )
    return done.returncode, done.stdout


def test_the_library_where_nothing_may_be_written(closed, tmp_path):
    checkout, home = closed
    status, _ = run_closed(["-c", f"open({str(home / 'file')!r}, 'w')"], home, tmp_path)
    assert status == 1
    code = (
        f"import sys; sys.path.insert(0, {str(checkout / SCRIPTS.name)!r}); import numpy as np; "
        "from sae_stitching.base import fletcher32; from sae_stitching.stitching import kernels; "
        "from sae_stitching.sparse import kernels; "
        "print(kernels._collect(np.array([1, 3]), 2, np.zeros(3, int)))"
    )
    assert run_closed(["-c", code], home, tmp_path) == (0, "1\n")


def test_a_run_where_nothing_but_its_folder_may_be_written(closed, tmp_path):
    checkout, home = closed
    folder = tmp_path / "study"
    write_inputs(folder)
    snakemake = ["-m", "snakemake", "--snakefile", str(checkout / "Snakefile"), "--cores", "1"]
    snakemake += ["--configfile", str(checkout / "presets" / "tiny.yaml")]
    snakemake += ["--allowed-rules", "figure4", "--", FIGURE]
    status, said = run_closed(snakemake, home, folder, XDG_CACHE_HOME=str(folder / ".cache"))
    assert status == 0, said
    assert "MPLCONFIGDIR" not in said
    assert (folder / FIGURE).is_file()
