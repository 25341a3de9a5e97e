# Language models and texts that are fetched or made as data.


# What is fetched and converted is kept in the cache, which other studies and runs may be reading.
# Snakemake removes the outputs of a job before it runs and when it fails, so the outputs here are
# links into the cache: there, files only come, each under a name that says what is in it.


# Neither the code's hash nor the study is among these params: what comes out is fixed by the
# checksum, and a fetched file must not be fetched again for another study, nor because the code
# that fetches it was improved.
rule fetch_source:
    output:
        f"{results}/sources/{{source}}/{{file}}",
    log:
        f"{results}/logs/fetch_source/{{source}}/{{file}}.log",
    benchmark:
        f"{results}/benchmarks/fetch_source/{{source}}/{{file}}.tsv"
    # It needs a network, which the nodes of a cluster often have not.
    localrule: True
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(30),
    params:
        job=lambda wildcards: {"source": study["sources"][wildcards.source]},
        cached=lambda wildcards: cached_source(wildcards.source),
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
        directory(f"{results}/models/{{source}}"),
    log:
        f"{results}/logs/prepare_gguf_model/{{source}}.log",
    benchmark:
        f"{results}/benchmarks/prepare_gguf_model/{{source}}.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(8000),
        runtime=scaled(30),
    params:
        job=shared_job("prepare_gguf_model"),
        cached=lambda wildcards: cached_model(wildcards.source),
    message:
        "Convert {wildcards.source} to a model folder"
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
