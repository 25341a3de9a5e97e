"""Draw Figure 16: the share of reconstruction latents of every pair."""

from job import job
from sae_stitching.base.names import split_pair_name
from sae_stitching.figures.figure16 import figure16, figure16_table
from sae_stitching.figures.style import save_figure
from sae_stitching.matching.subgraphs import load_subgraphs

with job(snakemake) as origin:
    params = snakemake.params.job
    names = [split_pair_name(pair) for pair in params["pairs"]]
    graphs = {
        name: load_subgraphs(path, study=origin["study"])
        for name, path in zip(names, snakemake.input, strict=True)
    }
    table = figure16_table(graphs, params["sizes"], params["seeds"])
    by_size = sorted(params["sizes"], key=params["sizes"].__getitem__)
    save_figure(figure16(table, by_size), table, snakemake.output, dpi=params["dpi"])
