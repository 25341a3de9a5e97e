"""Draw Figure 5: MSE and L0 along the transition."""

from job import job
from sae_stitching.figures.figure5 import figure5, figure5_table
from sae_stitching.figures.style import save_figure
from sae_stitching.stitching.transitions import load_transition

with job(snakemake) as origin:
    params = snakemake.params.job
    table = figure5_table(load_transition(snakemake.input[0], study=origin["study"]))
    figure = figure5(table, mse_only=params["mse_only"])
    save_figure(figure, table, snakemake.output, dpi=params["dpi"])
