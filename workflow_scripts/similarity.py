"""Compare the decoder directions of two SAEs."""

from job import job
from sae_stitching.sae import load_decoder
from sae_stitching.similarity import write_similarity

with job(snakemake) as origin:
    params = snakemake.params.job
    write_similarity(
        load_decoder(snakemake.input.large, study=origin["study"]),
        load_decoder(snakemake.input.small, study=origin["study"]),
        snakemake.output[0],
        floor=params["floor"],
        full_matrix_mb=params["full_matrix_mb"],
        **origin,
    )
