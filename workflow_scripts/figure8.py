"""Draw Figure 8: decoder cosine against activation cosine."""

from job import job
from sae_stitching.base.names import split_pair_name
from sae_stitching.figures.figure8 import figure8, figure8_table
from sae_stitching.figures.style import save_figure
from sae_stitching.matching.activation_similarity import load_activation_similarity

with job(snakemake) as origin:
    params = snakemake.params.job
    names = [split_pair_name(pair) for pair in params["pairs"]]
    table = figure8_table(
        {
            name: load_activation_similarity(path, study=origin["study"])
            for name, path in zip(names, snakemake.input, strict=True)
        }
    )
    save_figure(figure8(table, names), table, snakemake.output, dpi=params["dpi"])
