"""Convert a GGUF file to a model folder that TransformerLens boots without a hub."""

from pathlib import Path

from job import job
from sae_stitching.text.sources import link, prepare_gguf_model

with job(snakemake):
    cached = Path(snakemake.params.cached)
    if not cached.is_dir():  # it is written whole or not at all
        prepare_gguf_model(Path(snakemake.input.gguf).resolve(), cached)
    link(Path(snakemake.output[0]), cached)
