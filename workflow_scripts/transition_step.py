"""Walk from one SAE to the next larger one, operation by operation."""

from job import job
from sae_stitching.base.record import write_record
from sae_stitching.matching.subgraphs import load_subgraphs
from sae_stitching.stitching.pairs import open_pair
from sae_stitching.stitching.transitions import transition

with job(snakemake) as origin:
    subgraphs = load_subgraphs(snakemake.input.subgraphs, study=origin["study"])
    with open_pair(snakemake.input, study=origin["study"]) as pair:
        step = transition(pair, subgraphs, f"transition {snakemake.wildcards.pair}")
    write_record(step, snakemake.output[0], **origin)
