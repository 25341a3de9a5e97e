"""Tell which insertion effects differ from zero, tabulate and draw it."""

from job import job
from sae_stitching.base.names import split_pair_name
from sae_stitching.figures.significance import significance, significance_table
from sae_stitching.figures.style import save_figure
from sae_stitching.matching.subgraphs import load_subgraphs
from sae_stitching.stitching.insertions import load_insertions
from sae_stitching.stitching.significance import significance_rows
from sae_stitching.tables.summary import write_csv

with job(snakemake) as origin:
    params, files, study = snakemake.params.job, snakemake.input, origin["study"]
    pairs = [split_pair_name(pair) for pair in params["pairs"]]
    rows = [
        row
        for (small, large), insertions, subgraphs in zip(
            pairs, files.insertions, files.subgraphs, strict=True
        )
        for row in significance_rows(
            small,
            large,
            load_insertions(insertions, study=study),
            load_subgraphs(subgraphs, study=study).novel,
            **{key: params[key] for key in ("confidence", "bootstrap_samples", "seed")},
        )
    ]
    table = significance_table(rows)
    write_csv(table, snakemake.output.table)
    save_figure(significance(table), table, snakemake.output[:3], dpi=params["dpi"])
