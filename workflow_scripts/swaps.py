"""Swap every connected subgraph of a pair alone."""

from job import job
from sae_stitching.base.record import write_record
from sae_stitching.matching.subgraphs import load_subgraphs
from sae_stitching.stitching.pairs import open_pair
from sae_stitching.stitching.swaps import swap_effects

with job(snakemake) as origin:
    subgraphs = load_subgraphs(snakemake.input.subgraphs, study=origin["study"])
    with open_pair(snakemake.input, study=origin["study"]) as pair:
        swaps = swap_effects(pair, subgraphs, f"swaps {snakemake.wildcards.pair}")
    write_record(swaps, snakemake.output[0], **origin)
