"""Convert a GGUF file to a model folder that TransformerLens boots without a hub."""

from pathlib import Path

from job import job
from sae_stitching.sources import prepare_gguf_model

with job(snakemake):
    prepare_gguf_model(Path(snakemake.input.gguf), Path(snakemake.output[0]))
