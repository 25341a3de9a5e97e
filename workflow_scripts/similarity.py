"""Compare the decoder directions of two SAEs."""

from job import job
from sae_stitching.matching.decoder_similarity import write_similarity
from sae_stitching.saes.sae import load_decoder

with job(snakemake) as origin:
    params = snakemake.params.job
    write_similarity(
        load_decoder(snakemake.input.small, study=origin["study"]),
        load_decoder(snakemake.input.large, study=origin["study"]),
        snakemake.output[0],
        floor=params["floor"],
        full_matrix_mb=params["full_matrix_mb"],
        **origin,
    )
