"""Insert all latents below a threshold, for every threshold."""

from job import job
from sae_stitching.pairs import open_pair
from sae_stitching.similarity import load_similarity
from sae_stitching.threshold import threshold_curve, write_threshold_curve

with job(snakemake) as origin:
    cosine = load_similarity(snakemake.input.similarity, study=origin["study"]).max_cosine_large
    with open_pair(snakemake.input, study=origin["study"]) as pair:
        curve = threshold_curve(pair, cosine, f"threshold {snakemake.wildcards.pair}")
    write_threshold_curve(curve, snakemake.output[0], **origin)
