# Activations of the language model at the hook, one job a shard.


rule cache_activations:
    input:
        tokens=f"{results}/corpus/tokens.h5",
        model=model_folder() or [],
        commits=commits("model"),
    output:
        shard_file(f"{results}/activations/{{split}}/{{shard}}.h5"),
    log:
        f"{results}/logs/cache_activations/{{split}}/{{shard}}.log",
    benchmark:
        f"{results}/benchmarks/cache_activations/{{split}}/{{shard}}.tsv"
    # Training waits for all of its shards, and nothing that waits for the others takes as long.
    priority: lambda wildcards: int(wildcards.split == "train")
    conda:
        "../envs/sae-stitching.yaml"
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
    message:
        "Cache {wildcards.split} activations, shard {wildcards.shard}"
    script:
        "../workflow_scripts/cache_activations.py"
