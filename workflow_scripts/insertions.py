"""Insert every latent of the larger SAE alone, and all below each threshold together."""

from job import job
from sae_stitching.base.record import write_record
from sae_stitching.matching.decoder_similarity import load_similarity
from sae_stitching.stitching.insertions import insertion_effects
from sae_stitching.stitching.pairs import open_pair
from sae_stitching.stitching.threshold import threshold_curve

with job(snakemake) as origin:
    study, name = origin["study"], snakemake.wildcards.pair
    with open_pair(snakemake.input, study=study) as pair:
        saes = {"small": pair.small, "large": pair.large}
        similarity = load_similarity(snakemake.input.similarity, study=study, **saes)
        insertions = insertion_effects(pair, similarity, f"insertions {name}")
        curve = threshold_curve(pair, similarity, f"threshold {name}")
    write_record(insertions, snakemake.output.insertions, **origin)
    write_record(curve, snakemake.output.curve, **origin)
