"""Tabulate the SAEs' properties."""

from job import job
from sae_stitching.evaluation import read_rows
from sae_stitching.tables import sae_properties, write_csv

with job(snakemake):
    write_csv(sae_properties(read_rows(snakemake.input)), snakemake.output[0])
