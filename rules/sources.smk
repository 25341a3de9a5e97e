# Language models and texts that are fetched or made as data.

cache = study["cache"]
model_source = study["sources"].get(study["model"]["name"], {})
text_source = study["sources"].get(study["text"]["source"], {})


def fetched(name):
    """Where a fetched source is kept; its checksum is part of the path, so a new pin is a new file."""
    source = study["sources"][name]
    return (
        f"{cache}/sources/{name}/{source['sha256'][:16]}/{Path(source['member']).name}"
    )


def model_folder():
    """Folder of a model that rules make, or None where TransformerLens finds it by itself."""
    name = study["model"]["name"]
    if model_source.get("kind") == "gguf-model":
        return f"{cache}/models/{name}/{model_source['sha256'][:16]}"
    if model_source.get("kind") == "random-model":
        return f"{results}/model"
    return None


# No code hash among these params: what comes out is fixed by the checksum, and a fetched file
# must not be fetched again because the code that fetches it was improved.
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
        mem_mb=1000,
        runtime=30,
    params:
        job=lambda wildcards: {
            "study": study["study"],
            "source": study["sources"][wildcards.source],
        },
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
        mem_mb=8000,
        runtime=30,
    params:
        job=job("prepare_gguf_model"),
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
        mem_mb=2000,
        runtime=10,
    params:
        job=job("make_random_model", source=model_source),
    message:
        "Make a model with random weights"
    script:
        "../workflow_scripts/make_random_model.py"
