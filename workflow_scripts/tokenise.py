"""Read the text and write the tokens of train and eval."""

from pathlib import Path

from job import job
from sae_stitching.text.documents import read_documents
from sae_stitching.text.tokens import write_tokens

with job(snakemake) as origin:
    params, files = snakemake.params.job, list(snakemake.input.text)
    fetched = Path(files[0]) if files and params["text"]["source"] != "files" else None
    write_tokens(
        read_documents({**params["text"], "files": files}, params["source"], fetched),
        str(snakemake.input.get("model") or params["model"]),
        snakemake.output[0],
        name=params["model"],
        **params["tokens"],
        **origin,
    )
