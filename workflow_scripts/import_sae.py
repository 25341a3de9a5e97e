"""Read an SAE that another library wrote, from local files or from those fetched from the hub."""

import os
from dataclasses import replace

from job import job
from sae_stitching.activations.language_model import model_facts
from sae_stitching.formats import Layout, find_local
from sae_stitching.formats.agreement import Activations
from sae_stitching.formats.pretrained import fitted, read_files
from sae_stitching.saes.sae import save_sae
from sae_stitching.text.sources import check_links

with job(snakemake) as origin:
    params, files = snakemake.params.job, snakemake.input
    source, study = params["pretrained"], Activations(**params["activations"])
    if "repo" in source:
        check_links(files.fetched)
        layout = find_local(f"{files.fetched}/{source['repo']}/{source['path']}", source["format"])
        # As it was published, whatever the folder is called that it was fetched to.
        name = os.path.relpath(layout.weights, files.fetched)
    else:
        # Found when the study was read, which names its files as inputs.
        layout = Layout(source["format"], files.weights, files.get("settings"), files.get("run"))
        name = layout.weights
    layout = replace(layout, registered=source["settings"])
    sae, told = read_files(layout, name, model=source["model"])
    sae = fitted(
        sae,
        told,
        layout.weights,
        d_sae=params["d_sae"],
        d_model=params["d_model"] or model_facts(snakemake.params.model, study.hook).get("d_model"),
        study=study,
        trust=source["trust"],
    )
    save_sae(sae, snakemake.output[0], **origin)
