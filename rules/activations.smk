# Activations of the language model at the hook, one job a shard.


rule cache_activations:
    """Cache {wildcards.split} activations, shard {wildcards.shard}"""
    input:
        tokens="<results>/corpus/tokens.h5",
        model=model_folder() or [],
        commits=commits("model"),
    output:
        shard_file("<results>/activations/{split}/{shard}.h5"),
    # Training waits for all of its shards, and nothing that waits for the others takes as long.
    priority: lambda wildcards: int(wildcards.split == "train")
    threads: study["activations"]["threads"]
    resources:
        mem_mb=scaled(6000),
        runtime=scaled(
            lambda wildcards: 30
            + n_tokens(wildcards.split)
            / study["activations"][f"{wildcards.split}_shards"]
            / 60e3
        ),
        gpu=int(study["activations"]["device"] != "cpu"),
    params:
        job=lambda wildcards: job(
            "cache_activations",
            model=model_settings,
            n_shards=study["activations"][f"{wildcards.split}_shards"],
            **{
                key: study["activations"][key]
                for key in (
                    "dtype",
                    "batch_size",
                    "skip_first_position",
                    "device",
                    "threads",
                )
            },
        ),
    script:
        "../workflow_scripts/cache_activations.py"
