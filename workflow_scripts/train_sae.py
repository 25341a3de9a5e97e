"""Train one SAE on the cached activations."""

from job import job
from sae_stitching.activations.shards import ActivationShards
from sae_stitching.saes.sae import save_sae
from sae_stitching.saes.training import (
    Trainer,
    TrainingConfig,
    checkpoint_path,
    discard_checkpoints,
    write_curve,
)

with job(snakemake) as origin:
    target = snakemake.output.sae
    shards = ActivationShards(snakemake.input.activations, study=origin["study"])
    trainer = Trainer(TrainingConfig.from_mapping(snakemake.params.job["sae"]), shards)
    # Not an output of the rule: those are deleted before a job is done again.
    checkpoint = checkpoint_path(target, shards, origin["provenance"])
    sae = trainer.train(f"train {snakemake.wildcards.sae}", checkpoint)
    write_curve(trainer.curve, snakemake.output.curve)
    save_sae(sae, target, **origin)
    discard_checkpoints(target)
