"""Draw Figure 19: as Figure 5, for JumpReLU SAEs, the MSE alone."""

from job import job
from sae_stitching.figures.figure5 import figure5, figure5_table
from sae_stitching.figures.style import save_figure
from sae_stitching.names import split_pair_name
from sae_stitching.transition import load_transition

with job(snakemake) as origin:
    steps = load_transition(snakemake.input[0], study=origin["study"])
    table = figure5_table(
        [
            {**dict(zip(("small", "large"), split_pair_name(name), strict=True)), **step}
            for name, step in steps.items()
        ]
    )
    figure = figure5(table, mse_only=True)
    save_figure(figure, table, snakemake.output, dpi=snakemake.params.job["dpi"])
