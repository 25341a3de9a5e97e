"""Write an SAE as a folder that SAELens loads."""

from pathlib import Path

from job import job
from sae_stitching.formats.saelens import export_saelens
from sae_stitching.saes.sae import read_sae

with job(snakemake) as origin:
    params = snakemake.params.job
    metadata = {"context_size": params["context"], "prepend_bos": True}
    if params["center_writing_weights"]:
        # How SAELens loads the model that the SAE was trained on.
        metadata["model_from_pretrained_kwargs"] = {"center_writing_weights": True}
    sae = read_sae(snakemake.input[0], study=origin["study"])
    export_saelens(sae, Path(snakemake.output.settings).parent, **metadata)
