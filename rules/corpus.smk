# Text to tokens.


rule tokenise:
    input:
        text=text_inputs(),
        model=model_folder() or [],
        commits=commits("model", "text"),
    output:
        f"{results}/corpus/tokens.h5",
    log:
        f"{results}/logs/tokenise.log",
    benchmark:
        f"{results}/benchmarks/tokenise.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(30 + (n_tokens("train") + n_tokens("eval")) / 600e3),
    params:
        job=job(
            "tokenise",
            text=text_settings,
            source=text_source,
            model=study["model"]["name"],
            tokens=study["tokens"],
        ),
    message:
        "Tokenise {params.job[text][source]}"
    script:
        "../workflow_scripts/tokenise.py"
