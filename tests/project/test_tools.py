"""What is run by hand starts: no other test imports it, and what it needs may have moved."""

import subprocess
import sys

import pytest
from helpers.checkout import ROOT


@pytest.mark.parametrize(
    "tool",
    ["tests/chaos.py", "benchmarks/caching.py", "benchmarks/scale.py", "benchmarks/training.py"],
)
def test_a_tool_says_how_it_is_used(tool, tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / tool, "--help"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")


def test_the_largest_steps_are_measured_on_files_that_the_library_reads(tmp_path):
    """A 512th of the full size: 192 ← 96 latents."""
    tool = [sys.executable, ROOT / "benchmarks" / "scale.py", "all", "--shares", "512"]
    arguments = ["--folder", tmp_path, "--out", tmp_path / "out.jsonl"]
    done = subprocess.run([*tool, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "decodes for all insertions" in done.stdout
