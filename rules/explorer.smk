# The explorer: a page on which latents and their families are looked up.


rule passages:
    input:
        sae=f"{results}/saes/{{sae}}.h5",
        codes=f"{results}/codes/{{sae}}.h5",
        activations=shards("eval"),
    output:
        f"{results}/passages/{{sae}}.h5",
    log:
        f"{results}/logs/passages/{{sae}}.log",
    benchmark:
        f"{results}/benchmarks/passages/{{sae}}.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(60),
    params:
        job=job(
            "passages",
            **{
                key: study["explorer"][key]
                for key in ("passages", "tokens_before", "tokens_after")
            },
        ),
    message:
        "Find the top activating passages of SAE {wildcards.sae}"
    script:
        "../workflow_scripts/passages.py"


rule explorer:
    input:
        tokens=f"{results}/corpus/tokens.h5",
        model=model_folder() or [],
        commits=commits("model"),
        passages=collect(f"{results}/passages/{{sae}}.h5", sae=explored),
        similarity=collect(f"{results}/similarity/{{pair}}.h5", pair=pairs),
        subgraphs=collect(f"{results}/subgraphs/{{pair}}.h5", pair=pairs),
        insertions=collect(f"{results}/stitching/insertions/{{pair}}.h5", pair=pairs),
        swaps=collect(f"{results}/stitching/swaps/{{pair}}.h5", pair=pairs),
    output:
        directory(f"{results}/explorer"),
    log:
        f"{results}/logs/explorer.log",
    benchmark:
        f"{results}/benchmarks/explorer.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(60),
    params:
        job=job(
            "explorer",
            model=study["model"]["name"],
            hook=study["model"]["hook"],
            saes=explored,
            pairs=pairs,
            page=folder_hash("workflow_scripts/sae_stitching/explorer/page"),
            nearest=study["explorer"]["nearest"],
            inline_mb=study["explorer"]["inline_mb"],
        ),
    message:
        "Make the explorer"
    script:
        "../workflow_scripts/explorer.py"
