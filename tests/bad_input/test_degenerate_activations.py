"""Activations that leave little to compute: what is undefined is said, the rest is made."""

import numpy as np
import pytest
from helpers.interrupted_training import small_config
from helpers.shards import write_shard
from helpers.sound_study import D_MODEL, ORIGIN
from sae_stitching.activations.shards import ActivationShards
from sae_stitching.saes.encoding import encode_shards, open_codes
from sae_stitching.saes.evaluation import evaluate
from sae_stitching.saes.sae import read_sae
from sae_stitching.saes.training import Trainer


@pytest.mark.usefixtures("here")
def test_the_fvu_of_equal_activations_is_undefined(caplog):
    equal = np.full((20, D_MODEL), 0.3, dtype=np.float32)
    write_shard("eval.h5", equal, np.arange(20) // 5)
    encode_shards(read_sae("small.h5"), ["eval.h5"], "codes_small.h5", **ORIGIN)
    sae, shards = read_sae("small.h5"), ActivationShards(["eval.h5"])
    with open_codes("codes_small.h5", sae) as codes:
        row = evaluate(sae, shards, codes)
    assert row["fvu"] is None and row["mse"] > 0
    assert "FVU is undefined: all eval activations are equal" in caplog.text


@pytest.mark.parametrize("architecture", ["topk", "batchtopk", "relu"])
def test_activations_of_one_dimension(tmp_path, architecture):
    """Dead latents of a d_model of 1 have no half of it to be revived on."""
    x = np.linspace(1, 2, 64, dtype=np.float32)[:, None]
    shards = ActivationShards([write_shard(tmp_path / "0.h5", x, np.arange(64) // 8)])
    config = small_config(
        architecture, d_sae=4, k=1, steps=20, batch_size=16, shuffle_buffer=64, dead_after_tokens=16
    )
    assert Trainer(config, shards).train("one").d_model == 1
