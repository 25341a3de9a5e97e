# Decoder cosines of a pair of SAEs, and the connected subgraphs of similar latents.


rule similarity:
    input:
        unpack(sae_files),
    output:
        f"{results}/similarity/{{pair}}.h5",
    log:
        f"{results}/logs/similarity/{{pair}}.log",
    benchmark:
        f"{results}/benchmarks/similarity/{{pair}}.tsv"
    # cross_entropy, the longest job after training, waits for it.
    priority: 1
    conda:
        "../envs/sae-stitching.yaml"
    threads: study["similarity"]["threads"]
    resources:
        mem_mb=scaled(
            lambda wildcards: 2500
            + 3 * matrix_mb(*names(wildcards))
            + study["similarity"]["full_matrix_mb"]
        ),
        runtime=scaled(
            lambda wildcards: 10
            + 2 * product_minutes(sizes[names(wildcards)[1]], names(wildcards)[0])
        ),
    params:
        job=job("similarity", **study["similarity"]),
    message:
        "Compare the decoders of {wildcards.pair}"
    script:
        "../workflow_scripts/similarity.py"


rule subgraphs:
    input:
        similarity=f"{results}/similarity/{{pair}}.h5",
        curve=branch(
            study["stitching"]["threshold"] == "auto",
            then=f"{results}/stitching/threshold/{{pair}}.h5",
            otherwise=[],
        ),
    output:
        subgraphs=f"{results}/subgraphs/{{pair}}.h5",
        graph=f"{results}/subgraphs/{{pair}}.graphml",
    log:
        f"{results}/logs/subgraphs/{{pair}}.log",
    benchmark:
        f"{results}/benchmarks/subgraphs/{{pair}}.tsv"
    # cross_entropy, the longest job after training, waits for it.
    priority: 1
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(30),
    params:
        job=job("subgraphs", threshold=study["stitching"]["threshold"]),
    message:
        "Find the connected subgraphs of {wildcards.pair}"
    script:
        "../workflow_scripts/subgraphs.py"


rule activation_similarity:
    input:
        unpack(stitching_inputs),
        similarity=f"{results}/similarity/{{pair}}.h5",
    output:
        f"{results}/similarity/activations/{{pair}}.h5",
    log:
        f"{results}/logs/activation_similarity/{{pair}}.log",
    benchmark:
        f"{results}/benchmarks/activation_similarity/{{pair}}.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(stitching_mb),
        runtime=scaled(stitching_minutes),
    params:
        job=job("activation_similarity", threads=1),
    message:
        "Compare the activations of {wildcards.pair}"
    script:
        "../workflow_scripts/activation_similarity.py"
