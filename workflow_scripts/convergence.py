"""Set SAEs of different ages side by side: tabulate and draw every number against the steps."""

from job import job
from sae_stitching.figures.convergence import convergence_figure
from sae_stitching.figures.style import save_figure
from sae_stitching.stitching.transitions import load_transition_step
from sae_stitching.tables.convergence import convergence
from sae_stitching.tables.summary import read_csv, write_csv

with job(snakemake) as origin:
    params, files = snakemake.params.job, snakemake.input
    names = [(pair["small"], pair["large"]) for pair in params["pairs"]]
    table = convergence(
        params["pairs"],
        read_csv(files.pairs),
        read_csv(files.saes),
        {name: read_csv(path) for name, path in zip(params["saes"], files.curves, strict=True)},
        read_csv(files.agreement[0]) if params["seeds"] else None,
        {
            pair: load_transition_step(path, study=origin["study"])
            for pair, path in zip(names, files.walks, strict=True)
        },
    )
    write_csv(table, snakemake.output.table)
    save_figure(convergence_figure(table), table, snakemake.output[:3], dpi=params["dpi"])
