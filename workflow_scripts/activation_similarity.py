"""Compare the activations of the similar latents of a pair."""

from contextlib import ExitStack

from job import job
from sae_stitching.activation_similarity import (
    activation_similarity,
    write_activation_similarity,
)
from sae_stitching.codes import open_codes
from sae_stitching.sae import load_decoder
from sae_stitching.similarity import load_similarity

with job(snakemake) as origin, ExitStack() as stack:
    files, study = snakemake.input, origin["study"]
    similarity = load_similarity(files.similarity, study=study)
    large, small = (
        stack.enter_context(open_codes(codes, load_decoder(sae, study=study), study=study))
        for codes, sae in ((files.codes_large, files.large), (files.codes_small, files.small))
    )
    found = activation_similarity(large, small, similarity)
    write_activation_similarity(found, snakemake.output[0], **origin)
