"""Compare the ways to select latents for insertion."""

from job import job
from sae_stitching.base.names import split_pair_name
from sae_stitching.figures.selection import selection, selection_curves, selection_table
from sae_stitching.figures.style import save_figure
from sae_stitching.stitching.selection_orders import load_selection
from sae_stitching.tables.summary import write_csv

with job(snakemake) as origin:
    params = snakemake.params.job
    found = {
        split_pair_name(pair): load_selection(path, study=origin["study"])
        for pair, path in zip(params["pairs"], snakemake.input, strict=True)
    }
    curves = selection_curves(found)
    write_csv(selection_table(found), snakemake.output.table)
    save_figure(selection(curves), curves, snakemake.output[:3], dpi=params["dpi"])
