"""Put every latent of the larger SAE into the smaller one alone."""

from job import job
from sae_stitching.insertions import insertion_effects, write_insertions
from sae_stitching.pairs import open_pair
from sae_stitching.similarity import load_similarity

with job(snakemake) as origin:
    study = origin["study"]
    with open_pair(snakemake.input, study=study) as pair:
        saes = {"small": pair.small, "large": pair.large}
        similarity = load_similarity(snakemake.input.similarity, study=study, **saes)
        cosine = similarity.max_cosine_large
        effects = insertion_effects(pair, f"insertions {snakemake.wildcards.pair}")
    write_insertions(effects, cosine, snakemake.output[0], **origin)
