"""Draw Figure 14: the effect of each single swap."""

from job import job
from sae_stitching.base.names import split_pair_name
from sae_stitching.figures.figure14 import figure14, figure14_table
from sae_stitching.figures.style import save_figure
from sae_stitching.stitching.swaps import load_swaps

with job(snakemake) as origin:
    params = snakemake.params.job
    names = [split_pair_name(pair) for pair in params["pairs"]]
    table = figure14_table(
        {
            name: load_swaps(path, study=origin["study"])
            for name, path in zip(names, snakemake.input, strict=True)
        }
    )
    save_figure(figure14(table, names), table, snakemake.output, dpi=params["dpi"])
