"""Lay out a table of the study as a page of the report."""

from job import job
from sae_stitching.tables.report import table_page, write_page
from sae_stitching.tables.summary import read_csv

with job(snakemake):
    title = snakemake.params.job["title"]
    write_page(table_page(title, [("", read_csv(snakemake.input[0]))]), snakemake.output[0])
