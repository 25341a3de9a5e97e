"""Find the passages on which each latent of an SAE is most active."""

from job import job
from sae_stitching.base.record import write_record
from sae_stitching.explorer.passages import token_places, top_passages
from sae_stitching.saes.encoding import open_codes
from sae_stitching.saes.sae import read_sae

with job(snakemake) as origin:
    params, study = snakemake.params.job, origin["study"]
    sequence, position = token_places(snakemake.input.activations, study=study)
    sae = read_sae(snakemake.input.sae, study=study)
    with open_codes(snakemake.input.codes, sae, study=study) as codes:
        passages = top_passages(
            codes,
            sequence,
            position,
            n_passages=params["passages"],
            before=params["tokens_before"],
            after=params["tokens_after"],
        )
    write_record(passages, snakemake.output[0], **origin)
