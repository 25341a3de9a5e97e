"""Encode the eval tokens with one SAE."""

from job import job
from sae_stitching.saes.encoding import encode_shards
from sae_stitching.saes.sae import read_sae

with job(snakemake) as origin:
    sae = read_sae(snakemake.input.sae, study=origin["study"])
    encode_shards(sae, snakemake.input.activations, snakemake.output[0], **origin)
