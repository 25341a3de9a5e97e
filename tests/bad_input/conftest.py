"""A sound study of which every case gets a copy to spoil."""

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from helpers.sound_study import SOURCE, make_study
from job import job
from sae_stitching.text.sources import make_random_model


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> Path:
    """A model folder of each architecture that a case breaks a copy of."""
    folder = tmp_path_factory.mktemp("models")
    for architecture in ("gpt2", "llama"):
        make_random_model({**SOURCE, "architecture": architecture}, folder / architecture)
    return folder


@pytest.fixture(scope="session")
def sound(models, tmp_path_factory) -> Path:
    """A sound study, of which every case gets a copy."""
    folder, before = tmp_path_factory.mktemp("sound"), Path.cwd()
    for architecture in ("gpt2", "llama"):
        shutil.copytree(models / architecture, folder / architecture)
    os.chdir(folder)
    make_study()
    os.chdir(before)
    return folder


@pytest.fixture
def here(sound, tmp_path, monkeypatch) -> Path:
    shutil.copytree(sound, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Give back the logging that a script sets for good."""
    root, library = logging.getLogger(), logging.getLogger("sae_stitching")
    kept = root.handlers[:], root.level, library.level
    yield
    for handler in set(root.handlers) - set(kept[0]):
        handler.close()
    root.handlers[:], root.level, library.level = kept
    logging.captureWarnings(False)


@pytest.fixture
def ends_with_one_line(here, capsys) -> Callable[..., None]:
    """Spoil the study, and see what a rule then says, as every script's wrapper has it."""

    def below() -> set[str]:
        return {str(path.relative_to(here)) for path in here.rglob("*")}

    def see(message: str, spoil: Callable[[], Any], rule: Callable[[], Any]) -> None:
        spoil()
        log = here.parent / "logs" / "rule.log"
        params = SimpleNamespace(job={"study": "test", "code": "0"})
        script = SimpleNamespace(rule="r", input={}, log=[log], params=params)
        before = below()
        # Without a network the hub's client would be offline for all tests that follow.
        with pytest.raises(SystemExit) as end, job(script, network=True):
            rule()
        assert end.value.code == 1
        screen = capsys.readouterr().err
        assert screen.splitlines()[-1] == f"error in r: {message} (log: {log})"
        assert "Traceback" not in screen
        assert "Traceback" in log.read_text()
        assert not {name for name in below() - before if name.startswith((".", "out"))}
        assert not (here / "ran").exists()

    return see
