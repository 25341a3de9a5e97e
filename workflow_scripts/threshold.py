"""Insert all latents below a threshold, for every threshold."""

from job import job
from sae_stitching.base.record import write_record
from sae_stitching.matching.decoder_similarity import load_similarity
from sae_stitching.stitching.pairs import open_pair
from sae_stitching.stitching.threshold import threshold_curve

with job(snakemake) as origin:
    study = origin["study"]
    with open_pair(snakemake.input, study=study) as pair:
        saes = {"small": pair.small, "large": pair.large}
        similarity = load_similarity(snakemake.input.similarity, study=study, **saes)
        curve = threshold_curve(pair, similarity, f"threshold {snakemake.wildcards.pair}")
    write_record(curve, snakemake.output[0], **origin)
