"""Draw the training curves of the SAEs."""

from job import job
from sae_stitching.figures.style import save_figure
from sae_stitching.figures.training_curve import training_curve, training_curve_table
from sae_stitching.tables.summary import read_csv

with job(snakemake):
    params = snakemake.params.job
    table = training_curve_table(
        {name: read_csv(path) for name, path in zip(params["saes"], snakemake.input, strict=True)}
    )
    save_figure(training_curve(table), table, snakemake.output, dpi=params["dpi"])
