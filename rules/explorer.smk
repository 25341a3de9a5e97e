# The explorer: a page on which latents and their families are looked up.


rule passages:
    """Find the top activating passages of SAE {wildcards.sae}"""
    input:
        sae="<results>/saes/{sae}.h5",
        codes="<results>/codes/{sae}.h5",
        activations=shards("eval"),
    output:
        "<results>/passages/{sae}.h5",
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
    script:
        "../workflow_scripts/passages.py"


rule explorer:
    """Make the explorer"""
    input:
        tokens="<results>/corpus/tokens.h5",
        model=model_folder() or [],
        commits=commits("model"),
        passages=collect("<results>/passages/{sae}.h5", sae=explored),
        similarity=collect("<results>/similarity/{pair}.h5", pair=pairs),
        subgraphs=collect("<results>/subgraphs/{pair}.h5", pair=pairs),
        insertions=collect("<results>/stitching/insertions/{pair}.h5", pair=pairs),
        swaps=collect("<results>/stitching/swaps/{pair}.h5", pair=pairs),
    output:
        directory("<results>/explorer"),
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(60),
    params:
        job=job(
            "explorer",
            model=study["model"]["name"],
            hook=study["model"]["hook"],
            saes=explored,
            neuronpedia={
                name: told["neuronpedia"]
                for name, told in published_numbers("neuronpedia").items()
            },
            pairs=pairs,
            page=folder_hash("workflow_scripts/sae_stitching/explorer/page"),
            nearest=study["explorer"]["nearest"],
            inline_mb=study["explorer"]["inline_mb"],
        ),
    script:
        "../workflow_scripts/explorer.py"
