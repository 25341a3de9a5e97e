"""Gather the steps of the transition in one file."""

from job import job
from sae_stitching.stitching.transitions import gather_transition

with job(snakemake) as origin:
    steps = dict(zip(snakemake.params.job["steps"], snakemake.input, strict=True))
    gather_transition(steps, snakemake.output[0], **origin)
