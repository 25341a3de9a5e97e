"""Walk from one SAE to the next larger one in several orders."""

from job import job
from sae_stitching.base.record import write_record
from sae_stitching.matching.subgraphs import load_subgraphs
from sae_stitching.stitching.pairs import open_pair
from sae_stitching.stitching.transition_orders import transition_orders

with job(snakemake) as origin:
    params = snakemake.params.job
    subgraphs = load_subgraphs(snakemake.input.subgraphs, study=origin["study"])
    with open_pair(snakemake.input, study=origin["study"]) as pair:
        found = transition_orders(
            pair,
            subgraphs,
            n_orders=params["random_orders"],
            seed=params["seed"],
            label=f"orders {snakemake.wildcards.pair}",
        )
    write_record(found, snakemake.output[0], **origin)
