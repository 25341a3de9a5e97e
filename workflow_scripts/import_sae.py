"""Read an SAE that another library wrote, from local files or from those fetched from the hub."""

from job import job
from sae_stitching.formats import find_local
from sae_stitching.language_model import model_facts
from sae_stitching.pretrained import fitted, load_sae
from sae_stitching.sae import save_sae
from sae_stitching.sources import check_links

with job(snakemake) as origin:
    params, files = snakemake.params.job, snakemake.input
    source, path = params["pretrained"], files.get("weights")
    if path is None:
        check_links(files.fetched)
        path = f"{files.fetched}/{source['repo']}/{source['path']}"
    layout = find_local(path, source["format"])
    sae = fitted(
        load_sae(layout.weights, format=layout.format),
        layout.weights,
        d_sae=params["d_sae"],
        d_model=params["d_model"] or model_facts(snakemake.params.model).get("d_model"),
        hook=params["hook"],
        model=params["model"],
    )
    save_sae(sae, snakemake.output[0], **origin)
