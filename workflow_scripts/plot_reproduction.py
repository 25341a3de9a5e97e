"""Draw the paper's published numbers beside the study's own."""

from job import job
from sae_stitching.figures.reproduction import plot_reproduction
from sae_stitching.figures.style import save_figure
from sae_stitching.tables.summary import read_csv

with job(snakemake):
    table = read_csv(snakemake.input[0])
    figure = plot_reproduction(table)
    save_figure(figure, table, snakemake.output, dpi=snakemake.params.job["dpi"])
