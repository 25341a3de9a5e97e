"""Lay out what the study is and what made its results as a page of the report."""

import pandas as pd
from job import job
from sae_stitching.tables.report import settings_table, table_page, versions_table, write_page
from sae_stitching.tables.summary import read_csv

with job(snakemake) as origin:
    params, files = snakemake.params.job, snakemake.input
    commits = origin["provenance"].get("hub")
    tables = [
        ("SAEs", read_csv(files.properties)),
        ("How each SAE was made", pd.DataFrame(params["saes"])),
        ("Settings", settings_table(params["settings"])),
        *([("Commits of the hub", pd.DataFrame(commits))] if commits else []),
        ("Versions that the results were made with", versions_table(files.made)),
    ]
    write_page(table_page(f"Study {origin['study']}", tables), snakemake.output[0])
