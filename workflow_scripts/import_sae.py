"""Read an SAE that another library wrote, from local files or from the Hugging Face hub."""

from job import job
from sae_stitching.agreement import Activations
from sae_stitching.formats import find_local
from sae_stitching.language_model import model_facts
from sae_stitching.pretrained import fetch, fitted, name_on_hub, read_files
from sae_stitching.sae import save_sae

with job(snakemake) as origin:
    params, files = snakemake.params.job, snakemake.input
    source, study = dict(params["pretrained"]), Activations(**params["activations"])
    trust = source.pop("trust")
    if source.get("repo"):
        layout = fetch(**source)
        sae, told = read_files(layout, name_on_hub(source["repo"], source["path"], layout))
    else:
        layout = find_local(files.weights, source["format"])
        sae, told = read_files(layout)
    sae = fitted(
        sae,
        told,
        layout.weights,
        d_sae=params["d_sae"],
        d_model=params["d_model"] or model_facts(study.model).get("d_model"),
        study=study,
        trust=trust,
    )
    save_sae(sae, snakemake.output[0], **origin)
