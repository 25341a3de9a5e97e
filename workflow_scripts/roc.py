"""Classify the latents of a pair by their max cosine (Figure 13)."""

from job import job
from sae_stitching.base.record import write_record
from sae_stitching.stitching.insertions import load_insertions
from sae_stitching.stitching.roc import novelty_roc

with job(snakemake) as origin:
    params = snakemake.params.job
    insertions = load_insertions(snakemake.input.insertions, study=origin["study"])
    roc = novelty_roc(
        insertions,
        bootstrap_samples=params["bootstrap_samples"],
        confidence=params["confidence"],
        seed=params["seed"],
    )
    write_record(roc, snakemake.output[0], **origin)
