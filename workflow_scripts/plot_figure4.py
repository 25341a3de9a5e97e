"""Draw Figure 4: the effect of each insertion against the max cosine."""

from job import job
from sae_stitching.figures.figure4 import figure4, figure4_table
from sae_stitching.figures.style import save_figure
from sae_stitching.matching.subgraphs import load_subgraphs
from sae_stitching.stitching.insertions import load_insertions

with job(snakemake) as origin:
    params = snakemake.params.job
    insertions = load_insertions(snakemake.input.insertions, study=origin["study"])
    theta = load_subgraphs(snakemake.input.subgraphs, study=origin["study"]).theta
    small, large = params["pair"]
    figure = figure4(insertions, theta, small=small, large=large)
    save_figure(figure, figure4_table(insertions, theta), snakemake.output, dpi=params["dpi"])
