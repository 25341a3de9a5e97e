"""Set the paper's published numbers beside the study's own; tabulate and draw them."""

from job import job
from sae_stitching.base.names import split_pair_name
from sae_stitching.figures.reproduction import plot_reproduction
from sae_stitching.figures.style import save_figure
from sae_stitching.matching.subgraphs import load_subgraphs
from sae_stitching.tables.published import published
from sae_stitching.tables.reproduction import reproduction
from sae_stitching.tables.summary import read_csv, write_csv

with job(snakemake) as origin:
    params, files = snakemake.params.job, snakemake.input
    subgraphs = {
        split_pair_name(pair): load_subgraphs(path, study=origin["study"])
        for pair, path in zip(params["pairs"], files.subgraphs, strict=True)
    }
    table = reproduction(
        published(params["paper"]), read_csv(files.saes), read_csv(files.pairs), subgraphs
    )
    write_csv(table, snakemake.output.table)
    # As it is written: what is missing is then missing in the same way in every column.
    table = read_csv(snakemake.output.table)
    save_figure(plot_reproduction(table), table, snakemake.output[:3], dpi=params["dpi"])
