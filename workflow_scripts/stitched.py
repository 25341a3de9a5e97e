"""Set the stitched SAEs beside the others."""

from job import job
from sae_stitching.figures.stitched import stitched, stitched_table
from sae_stitching.figures.style import save_figure
from sae_stitching.tables.summary import read_csv, write_csv

with job(snakemake):
    params = snakemake.params.job
    table = stitched_table(read_csv(snakemake.input[0]), params["bases"])
    write_csv(table, snakemake.output.table)
    save_figure(stitched(table), table, snakemake.output[:3], dpi=params["dpi"])
