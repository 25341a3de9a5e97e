"""A training that is killed and taken up again ends with the bytes of one that was not."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from helpers.checkout import ROOT, SCRIPTS
from helpers.interrupted_training import small_config, taken_up_and_whole
from helpers.shards import write_shards
from sae_stitching.base.errors import StudyError
from sae_stitching.saes import training
from sae_stitching.saes.architectures import ARCHITECTURES
from sae_stitching.saes.sae import SAE, fingerprint, read_sae
from sae_stitching.saes.training import Trainer, checkpoint_path, discard_checkpoints


@pytest.fixture
def shards(tmp_path):
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 12, generator=generator)
    codes = torch.rand(900, 40, generator=generator) * (
        torch.rand(900, 40, generator=generator) < 0.08
    )
    return write_shards(tmp_path, codes @ features, [300, 250, 350])


@pytest.mark.slow
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@pytest.mark.parametrize("stop", [1, 20, 37])
def test_taken_up_equals_uninterrupted(architecture, stop, shards, tmp_path, monkeypatch):
    again, whole = taken_up_and_whole(
        small_config(architecture), shards, stop, tmp_path, monkeypatch
    )
    assert fingerprint(again.finished()) == fingerprint(whole.finished())
    np.testing.assert_array_equal(again.curve, whole.curve)  # NaN where nothing is known


def test_a_loss_that_is_not_finite_leaves_the_last_good_checkpoint(shards, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "_CHECKPOINT_EVERY", 0.0)
    checkpoint = tmp_path / "checkpoint"
    trainer = Trainer(small_config("topk"), shards)
    step = trainer.train_step

    def poisoned(x):
        if trainer.step == 11:
            x[3, 4] = torch.nan
        return step(x)

    monkeypatch.setattr(trainer, "train_step", poisoned)
    with pytest.raises(StudyError, match="not finite at step 11, on batch 11 of seed 3"):
        trainer.train("poisoned", checkpoint)
    healthy = Trainer(small_config("topk"), shards)
    healthy.load(checkpoint)
    assert healthy.step == 11
    assert all(torch.isfinite(tensor).all() for tensor in healthy.parameters.values())


def test_a_checkpoint_belongs_to_one_config_and_one_cache(shards, tmp_path):
    sae = tmp_path / "48.h5"
    here = checkpoint_path(sae, shards, {"config": {"lr": 1.0}})
    assert here != checkpoint_path(sae, shards, {"config": {"lr": 2.0}})
    assert here == checkpoint_path(sae, shards, {"config": {"lr": 1.0}})
    shards.identity = "other activations"
    assert here != checkpoint_path(sae, shards, {"config": {"lr": 1.0}})


def test_checkpoints_of_other_saes_are_left_alone(tmp_path):
    for name in (".48", ".48.x", ".448", ".48b"):
        (tmp_path / f"{name}.{'0' * 16}.checkpoint").touch()
    discard_checkpoints(tmp_path / "48.h5")
    kept = {path.name.split(".0000")[0] for path in tmp_path.iterdir()}
    assert kept == {".48.x", ".448", ".48b"}


def test_a_damaged_checkpoint_is_named(shards, tmp_path):
    checkpoint = tmp_path / "checkpoint"
    checkpoint.write_bytes(b"not a checkpoint")
    with pytest.raises(StudyError, match="checkpoint: not a readable checkpoint"):
        Trainer(small_config("relu"), shards).train("damaged", checkpoint)


SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path[:0] = sys.argv[1:3]
from sae_stitching.saes import training
from sae_stitching.activations.shards import ActivationShards
from sae_stitching.saes.sae import save_sae
from helpers.interrupted_training import small_config
training._CHECKPOINT_EVERY = 0.05
folder = Path(sys.argv[3])
shards = ActivationShards([folder / f"{n}.h5" for n in range(3)])
trainer = training.Trainer(small_config("relu", steps=int(sys.argv[5])), shards)
sae = trainer.train("killed", folder / "checkpoint")
save_sae(sae, sys.argv[4], study="test", provenance={})
"""


@pytest.mark.slow
def test_sigkill_at_any_moment(shards, tmp_path):
    """The real thing: a process that is killed while it trains and while it saves."""
    steps = 1500
    target = tmp_path / "sae.h5"
    command = [sys.executable, "-c", SCRIPT, str(ROOT / "tests"), str(SCRIPTS)]
    command += [str(tmp_path), str(target), str(steps)]
    checkpoint = tmp_path / "checkpoint"
    kills = 0
    for delay in (0.0, 0.013, 0.031, 0.07):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        while process.poll() is None:
            if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
                time.sleep(delay)
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
        if target.exists():
            break
    assert kills > 0
    if not target.exists():
        subprocess.run(command, check=True)
    expected: SAE = Trainer(small_config("relu", steps=steps), shards).train("whole")
    assert fingerprint(read_sae(target)) == fingerprint(expected)
