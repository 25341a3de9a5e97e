"""Run the language model up to the hook and write one shard of activations."""

from job import job
from sae_stitching.activations.cache import cache_shard
from sae_stitching.activations.language_model import LanguageModel

with job(snakemake) as origin:
    params = snakemake.params.job
    model = params["model"]
    cache_shard(
        snakemake.input.tokens,
        snakemake.wildcards.split,
        int(snakemake.wildcards.shard),
        params["n_shards"],
        LanguageModel(
            str(snakemake.input.get("model") or model["name"]),
            model["hook"],
            model["dtype"],
            params["device"],
            center_writing_weights=model["center_writing_weights"],
        ),
        snakemake.output[0],
        model_name=model["name"],
        batch_size=params["batch_size"],
        dtype=params["dtype"],
        skip_first_position=params["skip_first_position"],
        **origin,
    )
