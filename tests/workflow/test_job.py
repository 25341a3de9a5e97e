"""What a script of the workflow says, and where."""

import json
import logging
import os
import warnings
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from job import job
from sae_stitching.base.errors import StudyError
from sae_stitching.base.provenance import package_versions


@pytest.fixture(autouse=True)
def nothing_stays():
    """Give back the logging, the threads and the environment that a script sets for good."""
    root, library = logging.getLogger(), logging.getLogger("sae_stitching")
    kept = root.handlers[:], root.level, library.level
    threads = torch.get_num_threads()
    with patch.dict(os.environ):
        yield
    for handler in root.handlers:
        if handler not in kept[0]:
            handler.close()
    root.handlers[:], root.level, library.level = kept
    logging.captureWarnings(False)
    torch.set_num_threads(threads)


@pytest.fixture
def snakemake(tmp_path):
    return SimpleNamespace(
        rule="train_sae",
        input={},
        log=[str(tmp_path / "logs" / "saes" / "24.log")],
        params=SimpleNamespace(job={"study": "mine", "code": "abc", "seed": 0, "threads": 1}),
    )


def logged(snakemake):
    with open(snakemake.log[0], encoding="utf-8") as file:
        return file.read()


def test_it_yields_study_and_provenance(snakemake):
    with job(snakemake) as origin:
        assert origin == {
            "study": "mine",
            "provenance": {
                "rule": "train_sae",
                "config": {"study": "mine", "seed": 0, "threads": 1},
                "code": "abc",
                "versions": package_versions(),
            },
        }
    # The params themselves are left as they were.
    assert snakemake.params.job["code"] == "abc"


def test_the_commits_that_a_rule_reads_are_part_of_the_provenance(snakemake, tmp_path):
    commits = [{"repo": "somebody/saes", "commit": f"{n}" * 40} for n in range(2)]
    paths = [tmp_path / f"{n}.json" for n in range(2)]
    for path, commit in zip(paths, commits, strict=True):
        path.write_text(json.dumps(commit))
    snakemake.input = {"commits": [str(path) for path in paths]}
    with job(snakemake) as origin:
        assert origin["provenance"]["hub"] == commits


@pytest.mark.parametrize("network", [False, True])
def test_only_a_job_that_fetches_has_a_network(snakemake, network):
    with job(snakemake, network=network):
        said = [os.environ.get(f"HF_{library}_OFFLINE") for library in ("HUB", "DATASETS")]
    assert said == ([None, None] if network else ["1", "1"])


def test_the_library_logs_to_the_terminal_and_to_the_log(snakemake, capsys):
    with job(snakemake):
        logging.getLogger("sae_stitching.saes.training").info("step %d", 3)
        logging.getLogger("sae_stitching.saes.training").debug("not this")
        logging.getLogger("another_library").info("nor this")
        logging.getLogger("another_library").warning("but this")
    out, err = capsys.readouterr()
    assert (out, err) == ("", "step 3\nbut this\n")
    log = logged(snakemake)
    assert "INFO sae_stitching.saes.training: step 3\n" in log
    assert "WARNING another_library: but this\n" in log
    assert "not this" not in log
    assert "nor this" not in log


def test_warnings_of_python_go_to_the_log_alone(snakemake, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with job(snakemake):
            warnings.warn("beta state", stacklevel=1)
    assert capsys.readouterr().err == ""
    assert "UserWarning: beta state" in logged(snakemake)


def test_an_error_for_people_is_one_line(snakemake, capsys):
    with pytest.raises(SystemExit) as stop, job(snakemake):
        raise StudyError("training.k: 99 of 24 latents; lower it")
    assert stop.value.code == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"error in train_sae: training.k: 99 of 24 latents; lower it (log: {snakemake.log[0]})\n"
    )
    log = logged(snakemake)
    assert "ERROR sae_stitching: train_sae failed\nTraceback (most recent call last):" in log
    assert "sae_stitching.base.errors.StudyError: training.k: 99 of 24 latents; lower it" in log


def test_any_other_error_is_one_line_too(snakemake, capsys):
    with pytest.raises(SystemExit) as stop, job(snakemake):
        raise RuntimeError("first line\n  second line")
    assert stop.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error in train_sae: RuntimeError: first line second line (log: ")
    assert "Traceback" in logged(snakemake)
    assert "test_any_other_error_is_one_line_too" in logged(snakemake)


def test_a_wrong_config_is_told_in_the_same_way(snakemake, capsys):
    snakemake.params.job["threads"] = "two"
    with pytest.raises(SystemExit), job(snakemake):
        raise AssertionError("not reached")
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error in train_sae: RuntimeError: set_num_threads")


@pytest.mark.parametrize("raised", [KeyboardInterrupt, SystemExit(3)])
def test_interrupts_pass(snakemake, raised, capsys):
    with pytest.raises((KeyboardInterrupt, SystemExit)) as stop, job(snakemake):
        raise raised
    assert stop.value is raised or isinstance(stop.value, KeyboardInterrupt)
    assert capsys.readouterr().err == ""


def test_the_log_is_that_of_the_last_run(snakemake):
    for word in ("first", "second"):
        with job(snakemake):
            logging.getLogger("sae_stitching").info(word)
    log = logged(snakemake)
    assert "second" in log
    assert "first" not in log


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_are_those_of_the_rule(snakemake, threads):
    torch.set_num_threads(3 - threads)
    snakemake.params.job["threads"] = threads
    with job(snakemake):
        assert torch.get_num_threads() == threads


def test_without_threads_in_the_params_they_are_left_alone(snakemake):
    torch.set_num_threads(2)
    del snakemake.params.job["threads"]
    with job(snakemake):
        assert torch.get_num_threads() == 2
