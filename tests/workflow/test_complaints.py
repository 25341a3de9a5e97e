"""What is said when something is wrong: one line, before any job or of the job that fails."""

from typing import Any

import pytest
from helpers.checkout import ROOT
from helpers.runs import Run
from helpers.tiny import FLOOR


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"training": {"lrr": 1.0}}, "training.lrr: unknown key; did you mean lr?"),
        (
            "training: {lr: 1e-3}",
            "training.lr: '1e-3' is text, not a number; YAML needs a decimal point: 1.0e-3",
        ),
        (
            {"model": {"hook": "blocks.7.hook_resid_pre"}},
            "model.hook: blocks.7.hook_resid_pre is beyond random-gpt2, which has 2 layers "
            "(0 to 1)",
        ),
        (
            {"stitching": {"threshold": 0.1}},
            f"stitching.threshold: 0.1 is below similarity.floor ({FLOOR}), and edges under the "
            "floor are not kept; lower similarity.floor",
        ),
    ],
)
def test_a_bad_config_ends_with_one_line_before_any_job(tmp_path, config, message):
    folder = tmp_path / "study"
    folder.mkdir()
    status, said = Run(ROOT, folder).snakemake("--cores", "1", config=config)
    assert status == 1
    lines = [
        line for line in said.splitlines() if not line.startswith("Using workflow specific profile")
    ]
    assert len(lines) == 1, said
    assert lines[0].endswith(message)
    assert not (folder / "results").exists()


FAILURES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "a text too short": (
        {"text": {"files": ["short.txt"]}},
        "corpus/tokens.h5",
        "tokenise",
        "text: has 1 document, of which none fills a sequence of 32 tokens",
    ),
    "a batch too large": (
        {"training": {"batch_size": 100_000}},
        "saes/32.h5",
        "train_sae/32",
        "training.batch_size: 100000 tokens a batch, but the training shards hold only",
    ),
    "a damaged file": (
        {},
        "evaluation/32.json",
        "evaluate/32",
        "results/tiny/codes/32.h5: not a readable HDF5 file",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failing_job_says_why_in_one_line(spare, name):
    config, target, job, message = FAILURES[name]
    (spare.folder / "short.txt").write_text("Two words.\n")
    if name == "a damaged file":
        codes = spare.results / "codes" / "32.h5"
        codes.write_bytes(codes.read_bytes()[:5000])
    status, said = spare.snakemake("--cores", "1", f"results/tiny/{target}", config=config)
    assert status == 1
    assert "Traceback" not in said
    (line,) = [line for line in said.splitlines() if line.startswith("error in ")]
    rule = job.partition("/")[0]
    assert line.startswith(f"error in {rule}: {message}")
    assert line.endswith(f"(log: results/tiny/logs/{job}.log)")
    assert "Traceback" in (spare.results / "logs" / f"{job}.log").read_text()
    # Nothing half done is left behind.
    assert not (spare.results / target).exists()
    assert not list(spare.results.rglob(".*.h5"))
