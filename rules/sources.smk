# Language models and texts that are fetched or made as data.


# What is fetched and converted is kept in the cache, which other studies and runs may be reading.
# Snakemake removes the outputs of a job before it runs and when it fails, so the outputs here are
# links into the cache: there, files only come, each under a name that says what is in it.


# Neither the code's hash nor the study is among these params: what comes out is fixed by the
# checksum, and a fetched file must not be fetched again for another study, nor because the code
# that fetches it was improved.
rule fetch_source:
    """Fetch {wildcards.source}"""
    output:
        "<results>/sources/{source}/{file}",
    # It needs a network, which the nodes of a cluster often have not.
    localrule: True
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(30),
    params:
        job=lambda wildcards: {"source": study["sources"][wildcards.source]},
        cached=lambda wildcards: cached_source(wildcards.source),
    script:
        "../workflow_scripts/fetch_source.py"


rule prepare_gguf_model:
    """Convert {wildcards.source} to a model folder"""
    input:
        gguf=branch(
            model_source.get("kind") == "gguf-model",
            then=lambda wildcards: fetched(wildcards.source),
        ),
    output:
        directory("<results>/models/{source}"),
    resources:
        mem_mb=scaled(8000),
        runtime=scaled(30),
    params:
        job=shared_job("prepare_gguf_model"),
        cached=lambda wildcards: cached_model(wildcards.source),
    script:
        "../workflow_scripts/prepare_gguf_model.py"


rule make_random_model:
    """Make a model with random weights"""
    output:
        directory("<results>/model"),
    params:
        job=job("make_random_model", source=model_source),
    script:
        "../workflow_scripts/make_random_model.py"
