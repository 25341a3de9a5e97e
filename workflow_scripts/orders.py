"""Tell how far the transition depends on the order of its operations."""

from job import job
from sae_stitching.base.names import split_pair_name
from sae_stitching.figures.orders import orders, orders_curves, orders_table
from sae_stitching.figures.style import save_figure
from sae_stitching.stitching.transition_orders import load_transition_orders
from sae_stitching.tables.summary import write_csv

with job(snakemake) as origin:
    params = snakemake.params.job
    found = {
        split_pair_name(step): load_transition_orders(path, study=origin["study"])
        for step, path in zip(params["steps"], snakemake.input, strict=True)
    }
    curves = orders_curves(found)
    write_csv(orders_table(found), snakemake.output.table)
    save_figure(orders(curves), curves, snakemake.output[:3], dpi=params["dpi"])
