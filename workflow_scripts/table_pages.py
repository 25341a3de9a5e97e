"""Lay out the tables of the study as pages of the report."""

from job import job
from sae_stitching.tables.report import table_page, write_page
from sae_stitching.tables.summary import read_csv

with job(snakemake):
    titles = snakemake.params.job["titles"]
    for title, table, page in zip(titles, snakemake.input, snakemake.output, strict=True):
        write_page(table_page(title, [("", read_csv(table))]), page)
