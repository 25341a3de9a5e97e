"""Splice every SAE into the language model and measure the cross-entropy."""

import pandas as pd
from job import job
from sae_stitching.activations.language_model import LanguageModel
from sae_stitching.activations.shards import ActivationShards
from sae_stitching.saes.cross_entropy import cross_entropies, eval_sequences
from sae_stitching.saes.evaluation import mean_activation
from sae_stitching.saes.sae import read_sae
from sae_stitching.tables.summary import write_csv

with job(snakemake) as origin:
    params, files, study = snakemake.params.job, snakemake.input, origin["study"]
    model = params["model"]
    rows = cross_entropies(
        LanguageModel(
            str(files.get("model") or model["name"]),
            model["hook"],
            model["dtype"],
            center_writing_weights=model["center_writing_weights"],
        ),
        eval_sequences(files.tokens, params["ce_tokens"], study=study),
        {
            name: read_sae(path, study=study)
            for name, path in zip(params["saes"], files.saes, strict=True)
        },
        mean_activation(ActivationShards(files.activations, study=study)),
        skip_first_position=params["skip_first_position"],
    )
    write_csv(pd.DataFrame(rows), snakemake.output[0])
