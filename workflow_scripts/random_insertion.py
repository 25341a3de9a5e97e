"""Insert the latents of a pair below θ, and those above, in random orders."""

from job import job
from sae_stitching.base.record import write_record
from sae_stitching.matching.subgraphs import load_subgraphs
from sae_stitching.stitching.pairs import open_pair
from sae_stitching.stitching.random_insertion import random_insertion

with job(snakemake) as origin:
    params = snakemake.params.job
    novel = load_subgraphs(snakemake.input.subgraphs, study=origin["study"]).novel
    with open_pair(snakemake.input, study=origin["study"]) as pair:
        found = random_insertion(
            pair,
            novel,
            n_orders=params["random_orders"],
            seed=params["seed"],
            label=f"random insertion {snakemake.wildcards.pair}",
        )
    write_record(found, snakemake.output[0], **origin)
