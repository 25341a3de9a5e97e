"""Ask the hub which commit a branch or a tag is, and write it down."""

from job import job
from sae_stitching.hub.client import resolve, write_commit

with job(snakemake, network=True):
    write_commit(resolve(**snakemake.params.job), snakemake.output[0])
