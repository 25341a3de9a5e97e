"""Fetch a model of the hub at its commit, as a folder that transformers reads."""

from pathlib import Path

from job import job
from sae_stitching.formats.hub_folders import fetch_model
from sae_stitching.hub.client import read_commit

with job(snakemake, network=True):
    fetch_model(read_commit(snakemake.input.commits[0]), Path(snakemake.output[0]))
