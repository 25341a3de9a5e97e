"""Put every latent of the larger SAE into the smaller one alone."""

from job import job
from sae_stitching.base.record import write_record
from sae_stitching.matching.decoder_similarity import load_similarity
from sae_stitching.stitching.insertions import insertion_effects
from sae_stitching.stitching.pairs import open_pair

with job(snakemake) as origin:
    study = origin["study"]
    with open_pair(snakemake.input, study=study) as pair:
        saes = {"small": pair.small, "large": pair.large}
        similarity = load_similarity(snakemake.input.similarity, study=study, **saes)
        found = insertion_effects(pair, similarity, f"insertions {snakemake.wildcards.pair}")
    write_record(found, snakemake.output[0], **origin)
