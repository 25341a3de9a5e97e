"""Read an SAE that another library wrote, from local files or from the Hugging Face hub."""

from job import job
from sae_stitching.formats import find_local
from sae_stitching.language_model import model_facts
from sae_stitching.pretrained import fetch, fitted, load_sae
from sae_stitching.sae import save_sae

with job(snakemake) as origin:
    params, files = snakemake.params.job, snakemake.input
    source, model = params["pretrained"], params["model"]
    local = not source.get("repo")
    layout = find_local(files.weights, source["format"]) if local else fetch(**source)
    sae = fitted(
        load_sae(layout.weights, format=layout.format),
        layout.weights,
        d_sae=params["d_sae"],
        d_model=params["d_model"] or model_facts(model).get("d_model"),
        hook=params["hook"],
        model=model,
    )
    save_sae(sae, snakemake.output[0], **origin)
