"""Tabulate the SAEs' properties."""

from job import job
from sae_stitching.saes.evaluation import read_rows
from sae_stitching.tables.summary import read_csv, sae_properties, write_csv

with job(snakemake):
    more = [read_csv(path).to_dict("records") for path in snakemake.input.more]
    stitched = snakemake.params.job["stitched"]
    published = [
        {"sae": name, **{f"published_{key}": value for key, value in numbers.items()}}
        for name, numbers in snakemake.params.job["published"].items()
    ]
    origins = [{"sae": name, "stitched_from": " + ".join(of)} for name, of in stitched.items()]
    table = sae_properties(read_rows(snakemake.input.rows), *more, published, origins)
    write_csv(table, snakemake.output[0])
