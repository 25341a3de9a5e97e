"""Draw Figure 15: MSE while latents are inserted in random order."""

from job import job
from sae_stitching.base.names import split_pair_name
from sae_stitching.figures.figure15 import figure15, figure15_table
from sae_stitching.figures.style import save_figure
from sae_stitching.matching.subgraphs import load_subgraphs
from sae_stitching.stitching.random_insertion import load_random_insertion

with job(snakemake) as origin:
    params, files, study = snakemake.params.job, snakemake.input, origin["study"]
    names = [split_pair_name(pair) for pair in params["pairs"]]
    found = [load_random_insertion(path, study=study) for path in files.insertions]
    thetas = [load_subgraphs(path, study=study).theta for path in files.subgraphs]
    table = figure15_table(
        dict(zip(names, found, strict=True)), dict(zip(names, thetas, strict=True))
    )
    save_figure(figure15(table), table, snakemake.output, dpi=params["dpi"])
