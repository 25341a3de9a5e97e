"""Tabulate the pairs inside each family of SAEs, and draw the families side by side."""

from job import job
from sae_stitching.figures.families import families_figure
from sae_stitching.figures.style import save_figure
from sae_stitching.tables.summary import families, read_csv, write_csv

with job(snakemake):
    params, files = snakemake.params.job, snakemake.input
    table = families(
        read_csv(files.pairs),
        read_csv(files.saes),
        {(family["architecture"], family["seed"]): family["saes"] for family in params["families"]},
    )
    write_csv(table, snakemake.output.table)
    save_figure(families_figure(table), table, snakemake.output.figure, dpi=params["dpi"])
