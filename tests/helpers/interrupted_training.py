"""A small training, stopped and taken up again, beside one that was not."""

import pytest
from sae_stitching.saes import training
from sae_stitching.saes.training import Trainer, TrainingConfig


def small_config(architecture, **changes):
    keys = {
        "d_sae": 48,
        "architecture": architecture,
        "k": 6,
        "sparsity_coefficient": 2.0,
        "decoder_norm_penalty": False,
        "bandwidth": 0.4,
        "lr": 3e-3,
        "betas": (0.9, 0.999),
        "max_grad_norm": 1.0,
        "batch_size": 64,
        "steps": 60,
        "lr_warmup_steps": 5,
        "lr_decay_fraction": 0.2,
        "sparsity_warmup_fraction": 0.05,
        "auxk_coefficient": 1 / 32,
        "k_aux": None,
        # Soon enough that latents are revived, and AuxK has work, before and after the stop.
        "dead_after_tokens": 256,
        "product_dtype": "bfloat16",
        "apply_b_dec_to_input": True,
        "shuffle_buffer": 256,
        "device": "cpu",
        "seed": 3,
    }
    return TrainingConfig(**{**keys, **changes})


class Killed(BaseException):
    """Stands for the end of the process."""


def taken_up_and_whole(config, shards, stop, tmp_path, monkeypatch):
    """Two trainers at their end: one taken up after a stop at a step, one that never stopped."""
    whole = Trainer(config, shards)
    whole.train("whole")

    monkeypatch.setattr(training, "_CHECKPOINT_EVERY", 0.0)
    checkpoint = tmp_path / "checkpoint"
    killed = Trainer(config, shards)
    step = killed.train_step

    def dies(x):
        if killed.step == stop:
            raise Killed
        return step(x)

    monkeypatch.setattr(killed, "train_step", dies)
    with pytest.raises(Killed):
        killed.train("killed", checkpoint)

    again = Trainer(config, shards)
    again.train("again", checkpoint)
    return again, whole
