# Language models and texts that are fetched or made as data.


# Neither the code's hash nor the study is among these params: what comes out is fixed by the
# checksum, and a fetched file must not be fetched again for another study, nor because the code
# that fetches it was improved.
rule fetch_source:
    output:
        f"{cache}/sources/{{source}}/{{checksum}}/{{file}}",
    log:
        f"{results}/logs/fetch_source/{{source}}.{{checksum}}.{{file}}.log",
    benchmark:
        f"{results}/benchmarks/fetch_source/{{source}}.{{checksum}}.{{file}}.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(30),
    params:
        job=lambda wildcards: {"source": study["sources"][wildcards.source]},
    message:
        "Fetch {wildcards.source}"
    script:
        "../workflow_scripts/fetch_source.py"


rule prepare_gguf_model:
    input:
        gguf=branch(
            model_source.get("kind") == "gguf-model",
            then=lambda wildcards: fetched(wildcards.source),
        ),
    output:
        directory(f"{cache}/models/{{source}}/{{checksum}}"),
    log:
        f"{results}/logs/prepare_gguf_model/{{source}}.{{checksum}}.log",
    benchmark:
        f"{results}/benchmarks/prepare_gguf_model/{{source}}.{{checksum}}.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(8000),
        runtime=scaled(30),
    params:
        job=shared_job("prepare_gguf_model"),
    message:
        "Convert {wildcards.source} to a folder that TransformerLens boots"
    script:
        "../workflow_scripts/prepare_gguf_model.py"


rule make_random_model:
    output:
        directory(f"{results}/model"),
    log:
        f"{results}/logs/make_random_model.log",
    benchmark:
        f"{results}/benchmarks/make_random_model.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=job("make_random_model", source=model_source),
    message:
        "Make a model with random weights"
    script:
        "../workflow_scripts/make_random_model.py"
