# Decoder cosines of a pair of SAEs, and the connected subgraphs of similar latents.


rule similarity:
    """Compare the decoders of {wildcards.pair}"""
    input:
        unpack(sae_files),
    output:
        "<results>/similarity/{pair}.h5",
    # cross_entropy, the longest job after training, waits for it.
    priority: 1
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
    script:
        "../workflow_scripts/similarity.py"


rule subgraphs:
    """Find the connected subgraphs of {wildcards.pair}"""
    input:
        similarity="<results>/similarity/{pair}.h5",
        curve=branch(
            study["stitching"]["threshold"] == "auto",
            then="<results>/stitching/threshold/{pair}.h5",
            otherwise=[],
        ),
    output:
        subgraphs="<results>/subgraphs/{pair}.h5",
        graph="<results>/subgraphs/{pair}.graphml",
    # cross_entropy, the longest job after training, waits for it.
    priority: 1
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(30),
    params:
        job=job("subgraphs", threshold=study["stitching"]["threshold"]),
    script:
        "../workflow_scripts/subgraphs.py"


rule activation_similarity:
    """Compare the activations of {wildcards.pair}"""
    input:
        unpack(stitching_inputs),
        similarity="<results>/similarity/{pair}.h5",
    output:
        "<results>/similarity/activations/{pair}.h5",
    resources:
        mem_mb=scaled(stitching_mb),
        runtime=scaled(stitching_minutes),
    params:
        job=job("activation_similarity", threads=1),
    script:
        "../workflow_scripts/activation_similarity.py"
