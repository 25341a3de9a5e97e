"""The jobs that fetch, in the real workflow: what they say, what stays, and what is asked."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from helpers import stand_ins
from helpers.loopback_hub import MEMBER, Hub
from helpers.preset_runs import assert_nowhere, command, snakemake
from helpers.stand_ins import GEMMA, GPT2_SAES


def complaints(said: str) -> list[str]:
    """What jobs say of what went wrong; a traceback is for the log."""
    assert "Traceback" not in said
    return [line for line in said.splitlines() if line.startswith("error in ")]


def commits_of(folder: Path) -> set[str]:
    """Commits that a fetched folder leads to."""
    links = [path for path in folder.rglob("*") if path.is_symlink()]
    assert links and all(path.is_file() for path in links)
    return {os.readlink(path).partition("/snapshots/")[2].partition("/")[0] for path in links}


@pytest.fixture
def filled(hub) -> Hub:
    stand_ins.fill(hub)
    return hub


def test_saes_of_a_branch_that_moves(filled, tmp_path):
    preset = "gpt2-small-pretrained"
    fetched = tmp_path / "results" / preset / "hub" / "saes"
    repository = filled.repository(GPT2_SAES)
    old = repository.branches["main"]
    weights = "blocks.8.hook_resid_pre_768/sae_weights.safetensors"
    content = repository.commits[old][weights]

    # A hub, or what is before it, that spoils a file.
    filled.fault("/-/cdn/", "flip", after=500)
    said = snakemake(tmp_path, preset, f"results/{preset}/hub/saes/768", fails=True)
    (line,) = complaints(said)
    assert line.startswith(
        f"error in fetch_sae: {GPT2_SAES} at {old}: {weights}: came damaged twice: SHA-256 is "
    )
    assert line.endswith(
        f", the hub says {content.sha256}; nothing of it was kept, run again, and if it stays so "
        "tell those who look after the repository or the network (log: results/gpt2-small-"
        "pretrained/logs/fetch_sae/768.log)"
    )
    assert not fetched.exists()

    filled.heal()
    snakemake(tmp_path, preset, f"results/{preset}/hub/saes/768")
    assert commits_of(fetched / "768") == {old}

    # The second comes from the commit that the first came from, and nobody is asked for it.
    files = {name: file.content for name, file in repository.commits[old].items()}
    new = repository.commit(files | {"README.md": b"Better ones.\n"})
    filled.requests.clear()
    snakemake(tmp_path, preset, f"results/{preset}/hub/saes/1536")
    assert commits_of(fetched / "1536") == {old}
    assert not filled.asked("revision")

    # A hub that does not say what the branch is now takes nothing away.
    (written,) = (tmp_path / "results" / preset / "hub" / "commits").rglob("GPT2-Small*.json")
    filled.fault("/revision/", "status", status=404)
    snakemake(tmp_path, preset, "--force", str(written.relative_to(tmp_path)), fails=True)
    assert json.loads(written.read_text())["commit"] == old
    filled.heal()

    # One command takes the newer commit, for all of them.
    snakemake(tmp_path, preset, "--forceall", "resolve")
    assert json.loads(written.read_text())["commit"] == new
    snakemake(tmp_path, preset, *(f"results/{preset}/hub/saes/{sae}" for sae in ("768", "1536")))
    assert commits_of(fetched / "768") == commits_of(fetched / "1536") == {new}


def test_a_gated_model_and_a_run_that_is_killed(filled, tmp_path, monkeypatch):
    preset = "gemma-2-2b"
    folder = tmp_path / "results" / preset / "hub" / "model"
    target = f"results/{preset}/hub/model"
    commit = filled.repository(GEMMA).branches["main"]
    assert complaints(snakemake(tmp_path, preset, target, fails=True)) == [
        f"error in fetch_model: {GEMMA} at {commit}: is gated (HTTP 401); accept its terms at "
        f"{filled.url}/{GEMMA} and log in (hf auth login, or HF_TOKEN) (log: results/gemma-2-2b/"
        "logs/fetch_model.log)"
    ]
    assert not folder.exists()

    monkeypatch.setenv("HF_TOKEN", MEMBER)
    filled.fault("GET /-/cdn/", "stall", skip=1, after=100_000)
    with subprocess.Popen(
        command(tmp_path, preset, target),
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as run:
        while run.poll() is None and len(filled.asked("GET /-/cdn/")) < 2:
            time.sleep(0.05)
        os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == -signal.SIGKILL
    assert not folder.exists()

    filled.heal()
    snakemake(tmp_path, preset, target)
    assert commits_of(folder) == {commit}
    for path in (path for path in folder.iterdir() if path.is_symlink()):
        assert path.read_bytes() == stand_ins.gemma()[path.name]
    # Only what was under way is asked for twice.
    contents = filled.asked("GET (/-/cdn|/api/resolve-cache)/")
    assert len(contents) == len(set(contents)) + 1

    # And then nothing more, nor was the token written down anywhere.
    filled.requests.clear()
    snakemake(tmp_path, preset, target)
    assert filled.requests == []
    assert_nowhere(MEMBER, tmp_path, Path(os.environ["HF_HOME"]))
