"""Classify the latents of every pair by their max cosine (Figure 13)."""

from job import job
from sae_stitching.base.record import write_record
from sae_stitching.stitching.insertions import load_insertions
from sae_stitching.stitching.roc import novelty_roc

with job(snakemake) as origin:
    params = snakemake.params.job
    settings = {key: params[key] for key in ("bootstrap_samples", "confidence", "seed")}
    for path, written in zip(snakemake.input, snakemake.output, strict=True):
        insertions = load_insertions(path, study=origin["study"])
        write_record(novelty_roc(insertions, **settings), written, **origin)
