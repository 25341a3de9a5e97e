"""Draw Figure 13: ROC curves of the max cosine, one a pair."""

from job import job
from sae_stitching.base.names import split_pair_name
from sae_stitching.figures.figure13 import figure13, figure13_table
from sae_stitching.figures.style import save_figure
from sae_stitching.matching.subgraphs import load_subgraphs
from sae_stitching.stitching.roc import load_roc

with job(snakemake) as origin:
    params, study = snakemake.params.job, origin["study"]
    names = [split_pair_name(pair) for pair in params["pairs"]]
    rocs = {
        name: load_roc(path, study=study)
        for name, path in zip(names, snakemake.input.rocs, strict=True)
    }
    thetas = {
        name: load_subgraphs(path, study=study).theta
        for name, path in zip(names, snakemake.input.subgraphs, strict=True)
    }
    table = figure13_table(rocs, thetas)
    save_figure(figure13(rocs, thetas), table, snakemake.output, dpi=params["dpi"])
