"""Make a model folder with random weights, for trying a study without fetching anything."""

from pathlib import Path

from job import job
from sae_stitching.text.sources import make_random_model

with job(snakemake):
    make_random_model(snakemake.params.job["source"], Path(snakemake.output[0]))
