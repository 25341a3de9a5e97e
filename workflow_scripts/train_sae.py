"""Train one SAE on the cached activations."""

from job import job
from sae_stitching.batches import ActivationShards
from sae_stitching.sae import save_sae
from sae_stitching.training import Trainer, TrainingConfig

with job(snakemake) as origin:
    config = TrainingConfig.from_mapping(snakemake.params.job["sae"])
    shards = ActivationShards(snakemake.input.activations, study=origin["study"])
    sae = Trainer(config, shards).train(f"train {snakemake.wildcards.sae}")
    save_sae(sae, snakemake.output[0], **origin)
