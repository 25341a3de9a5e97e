"""Fetch as many documents of a dataset of the hub as the study reads, and keep them."""

from job import job
from sae_stitching.hub.client import read_commit
from sae_stitching.text.hub_dataset import hub_documents
from sae_stitching.text.text_file import write_text
from sae_stitching.text.tokens import documents_read

with job(snakemake, network=True) as origin:
    params, files = snakemake.params.job, snakemake.input
    documents = hub_documents(read_commit(files.commits[0]), params["text"])
    if params["tokens"]:
        documents = documents_read(documents, str(files.model), **params["tokens"])
    write_text(documents, snakemake.output[0], **origin)
