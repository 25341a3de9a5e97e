"""Put every latent of the larger SAE into the smaller one alone."""

from job import job
from sae_stitching.insertions import insertion_effects, write_insertions
from sae_stitching.pairs import open_pair
from sae_stitching.similarity import load_similarity

with job(snakemake) as origin:
    cosine = load_similarity(snakemake.input.similarity, study=origin["study"]).max_cosine_large
    with open_pair(snakemake.input, study=origin["study"]) as pair:
        effects = insertion_effects(pair, f"insertions {snakemake.wildcards.pair}")
    write_insertions(effects, cosine, snakemake.output[0], **origin)
