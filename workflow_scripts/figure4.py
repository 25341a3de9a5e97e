"""Draw Figure 4 of every pair: the effect of each insertion against the max cosine."""

from job import job
from sae_stitching.base.names import split_pair_name
from sae_stitching.figures.figure4 import figure4, figure4_table
from sae_stitching.figures.style import save_figure
from sae_stitching.matching.subgraphs import load_subgraphs
from sae_stitching.stitching.insertions import load_insertions

with job(snakemake) as origin:
    params, files, study = snakemake.params.job, snakemake.input, origin["study"]
    for i, name in enumerate(params["pairs"]):
        small, large = split_pair_name(name)
        insertions = load_insertions(files.insertions[i], study=study)
        theta = load_subgraphs(files.subgraphs[i], study=study).theta
        figure = figure4(insertions, theta, small=small, large=large, symlog=params["symlog"])
        # A PDF, a PNG and a CSV each.
        paths = snakemake.output[3 * i : 3 * i + 3]
        save_figure(figure, figure4_table(insertions, theta), paths, dpi=params["dpi"])
