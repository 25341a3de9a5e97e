"""Stitch an SAE from others, as the config says."""

from job import job
from sae_stitching.activations.shards import ActivationShards
from sae_stitching.base.names import split_pair_name
from sae_stitching.matching.subgraphs import load_subgraphs
from sae_stitching.saes.sae import read_sae
from sae_stitching.stitching.recipe import stitch_recipe
from sae_stitching.stitching.stitched import save_stitched

with job(snakemake) as origin:
    params, files, study = snakemake.params.job, snakemake.input, origin["study"]
    tokens = None
    if files.activations:
        shards = ActivationShards(files.activations, study=study)
        tokens = shards.first(params["selection_tokens"])
    thetas = {
        split_pair_name(pair)[1]: load_subgraphs(path, study=study).theta
        for pair, path in zip(params["pairs"], files.subgraphs, strict=True)
    }
    saes = {
        name: read_sae(path, study=study)
        for name, path in zip(params["saes"], files.saes, strict=True)
    }
    save_stitched(
        stitch_recipe(params["recipe"], saes, tokens, thetas), snakemake.output[0], **origin
    )
