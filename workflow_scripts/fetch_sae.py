"""Fetch an SAE of the hub at its commit."""

from pathlib import Path

from job import job
from sae_stitching.formats.hub_folders import fetch_sae
from sae_stitching.hub.client import read_commit

with job(snakemake, network=True):
    commit = read_commit(snakemake.input.commits[0])
    fetch_sae(commit, **snakemake.params.job, folder=Path(snakemake.output[0]))
