"""Encode the eval tokens with one SAE, and measure it on them."""

from job import job
from sae_stitching.activations.shards import ActivationShards
from sae_stitching.saes.encoding import encode_shards, open_codes
from sae_stitching.saes.evaluation import evaluate, write_json
from sae_stitching.saes.sae import load_decoder, read_sae

with job(snakemake) as origin:
    files, study = snakemake.input, origin["study"]
    encode_shards(
        read_sae(files.sae, study=study), files.activations, snakemake.output.codes, **origin
    )
    decoder = load_decoder(files.sae, study=study, double=True)
    shards = ActivationShards(files.activations, study=study)
    with open_codes(snakemake.output.codes, decoder, study=study) as codes:
        row = {"sae": snakemake.wildcards.sae, **evaluate(decoder, shards, codes)}
    write_json(row, snakemake.output.row)
