"""Measure one SAE on the eval tokens."""

from job import job
from sae_stitching.batches import ActivationShards
from sae_stitching.codes import open_codes
from sae_stitching.evaluation import evaluate, write_json
from sae_stitching.sae import load_decoder

with job(snakemake) as origin:
    study = origin["study"]
    sae = load_decoder(snakemake.input.sae, study=study, double=True)
    shards = ActivationShards(snakemake.input.activations, study=study)
    with open_codes(snakemake.input.codes, sae, study=study) as codes:
        row = {"sae": snakemake.wildcards.sae, **evaluate(sae, shards, codes)}
    write_json(row, snakemake.output[0])
