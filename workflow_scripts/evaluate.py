"""Measure one SAE on the eval tokens."""

from job import job
from sae_stitching.activations.shards import ActivationShards
from sae_stitching.saes.encoding import open_codes
from sae_stitching.saes.evaluation import evaluate, write_json
from sae_stitching.saes.sae import load_decoder

with job(snakemake) as origin:
    study = origin["study"]
    sae = load_decoder(snakemake.input.sae, study=study, double=True)
    shards = ActivationShards(snakemake.input.activations, study=study)
    with open_codes(snakemake.input.codes, sae, study=study) as codes:
        row = {"sae": snakemake.wildcards.sae, **evaluate(sae, shards, codes)}
    write_json(row, snakemake.output[0])
