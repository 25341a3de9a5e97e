"""Tabulate the SAEs' properties."""

from job import job
from sae_stitching.evaluation import read_rows
from sae_stitching.tables import read_csv, sae_properties, write_csv

with job(snakemake):
    more = [read_csv(path).to_dict("records") for path in snakemake.input.more]
    write_csv(sae_properties(read_rows(snakemake.input.rows), *more), snakemake.output[0])
