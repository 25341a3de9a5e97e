"""Compare the activations of the similar latents of a pair."""

from contextlib import ExitStack

from job import job
from sae_stitching.base.record import write_record
from sae_stitching.matching.activation_similarity import activation_similarity
from sae_stitching.matching.decoder_similarity import load_similarity
from sae_stitching.saes.encoding import open_codes
from sae_stitching.saes.sae import load_decoder

with job(snakemake) as origin, ExitStack() as stack:
    files, study = snakemake.input, origin["study"]
    similarity = load_similarity(files.similarity, study=study)
    small, large = (
        stack.enter_context(open_codes(codes, load_decoder(sae, study=study), study=study))
        for codes, sae in ((files.codes_small, files.small), (files.codes_large, files.large))
    )
    found = activation_similarity(small, large, similarity)
    write_record(found, snakemake.output[0], **origin)
