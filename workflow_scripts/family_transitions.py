"""Draw the transitions of all families side by side."""

from job import job
from sae_stitching.base.names import split_pair_name
from sae_stitching.figures.families import family_transitions_figure, family_transitions_table
from sae_stitching.figures.figure5 import figure5_table
from sae_stitching.figures.style import save_figure
from sae_stitching.stitching.transitions import load_transition_step

with job(snakemake) as origin:
    params = snakemake.params.job
    steps = {}
    for (architecture, seed, pair), path in zip(params["steps"], snakemake.input, strict=True):
        step = load_transition_step(path, study=origin["study"])
        table = figure5_table({split_pair_name(pair): step})
        steps.setdefault((architecture, seed), []).append(table)
    table = family_transitions_table(steps)
    save_figure(family_transitions_figure(table), table, snakemake.output, dpi=params["dpi"])
