"""Write an SAE as a folder that SAELens loads."""

from pathlib import Path

from job import job
from sae_stitching.formats import saelens
from sae_stitching.sae import load_sae

with job(snakemake) as origin:
    params = snakemake.params.job
    metadata = {"context_size": params["context"], "prepend_bos": True}
    if params["center_writing_weights"]:
        # How SAELens loads the model that the SAE was trained on.
        metadata["model_from_pretrained_kwargs"] = {"center_writing_weights": True}
    sae = load_sae(snakemake.input[0], study=origin["study"])
    saelens.write(sae, Path(snakemake.output.settings).parent, **metadata)
