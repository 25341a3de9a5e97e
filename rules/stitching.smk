# Stitching: what latents of the larger SAE do in the smaller one.


rule insertions:
    input:
        unpack(stitching_inputs),
        similarity=f"{results}/similarity/{{pair}}.h5",
    output:
        f"{results}/stitching/insertions/{{pair}}.h5",
    log:
        f"{results}/logs/insertions/{{pair}}.log",
    benchmark:
        f"{results}/benchmarks/insertions/{{pair}}.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(stitching_mb),
        runtime=scaled(stitching_minutes),
    params:
        job=job("insertions", threads=1),
    message:
        "Insert every latent of {wildcards.pair} alone"
    script:
        "../workflow_scripts/insertions.py"


rule swaps:
    input:
        unpack(stitching_inputs),
        subgraphs=f"{results}/subgraphs/{{pair}}.h5",
    output:
        f"{results}/stitching/swaps/{{pair}}.h5",
    log:
        f"{results}/logs/swaps/{{pair}}.log",
    benchmark:
        f"{results}/benchmarks/swaps/{{pair}}.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(stitching_mb),
        runtime=scaled(stitching_minutes),
    params:
        job=job("swaps", threads=1),
    message:
        "Swap every connected subgraph of {wildcards.pair} alone"
    script:
        "../workflow_scripts/swaps.py"


rule threshold:
    input:
        unpack(stitching_inputs),
        similarity=f"{results}/similarity/{{pair}}.h5",
    output:
        f"{results}/stitching/threshold/{{pair}}.h5",
    log:
        f"{results}/logs/threshold/{{pair}}.log",
    benchmark:
        f"{results}/benchmarks/threshold/{{pair}}.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(stitching_mb),
        runtime=scaled(stitching_minutes),
    params:
        job=job("threshold", threads=1),
    message:
        "Insert the latents of {wildcards.pair} below every threshold"
    script:
        "../workflow_scripts/threshold.py"


rule transition_step:
    input:
        unpack(stitching_inputs),
        subgraphs=f"{results}/subgraphs/{{pair}}.h5",
    output:
        f"{results}/stitching/transition/{{pair}}.h5",
    log:
        f"{results}/logs/transition_step/{{pair}}.log",
    benchmark:
        f"{results}/benchmarks/transition_step/{{pair}}.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(stitching_mb),
        runtime=scaled(stitching_minutes),
    params:
        job=job("transition_step", threads=1),
    message:
        "Walk through {wildcards.pair}"
    script:
        "../workflow_scripts/transition_step.py"


rule transition:
    input:
        collect(f"{results}/stitching/transition/{{pair}}.h5", pair=steps),
    output:
        f"{results}/stitching/transition.h5",
    log:
        f"{results}/logs/transition.log",
    benchmark:
        f"{results}/benchmarks/transition.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=job("transition", steps=steps),
    message:
        "Gather the transition"
    script:
        "../workflow_scripts/transition.py"


rule roc:
    input:
        insertions=f"{results}/stitching/insertions/{{pair}}.h5",
    output:
        f"{results}/stitching/roc/{{pair}}.h5",
    log:
        f"{results}/logs/roc/{{pair}}.log",
    benchmark:
        f"{results}/benchmarks/roc/{{pair}}.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(30),
    params:
        job=job(
            "roc",
            **{
                key: study["stitching"][key]
                for key in ("bootstrap_samples", "confidence", "seed")
            },
        ),
    message:
        "Classify the latents of {wildcards.pair} by their max cosine"
    script:
        "../workflow_scripts/roc.py"


rule random_insertion:
    input:
        unpack(stitching_inputs),
        subgraphs=f"{results}/subgraphs/{{pair}}.h5",
    output:
        f"{results}/stitching/random_insertion/{{pair}}.h5",
    log:
        f"{results}/logs/random_insertion/{{pair}}.log",
    benchmark:
        f"{results}/benchmarks/random_insertion/{{pair}}.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(orders_mb),
        runtime=scaled(lambda wildcards: 4 * stitching_minutes(wildcards)),
    params:
        job=job(
            "random_insertion",
            threads=1,
            **{key: study["stitching"][key] for key in ("random_orders", "seed")},
        ),
    message:
        "Insert latents of {wildcards.pair} in random orders"
    script:
        "../workflow_scripts/random_insertion.py"


rule transition_orders:
    input:
        unpack(stitching_inputs),
        subgraphs=f"{results}/subgraphs/{{pair}}.h5",
    output:
        f"{results}/stitching/orders/{{pair}}.h5",
    log:
        f"{results}/logs/transition_orders/{{pair}}.log",
    benchmark:
        f"{results}/benchmarks/transition_orders/{{pair}}.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(orders_mb),
        runtime=scaled(lambda wildcards: 4 * stitching_minutes(wildcards)),
    params:
        job=job(
            "transition_orders",
            threads=1,
            **{key: study["stitching"][key] for key in ("random_orders", "seed")},
        ),
    message:
        "Walk through {wildcards.pair} in several orders"
    script:
        "../workflow_scripts/transition_orders.py"


rule select_latents:
    input:
        unpack(stitching_inputs),
        similarity=f"{results}/similarity/{{pair}}.h5",
        subgraphs=f"{results}/subgraphs/{{pair}}.h5",
        train=selection_shard(),
    output:
        f"{results}/stitching/selection/{{pair}}.h5",
    log:
        f"{results}/logs/select_latents/{{pair}}.log",
    benchmark:
        f"{results}/benchmarks/select_latents/{{pair}}.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(lambda wildcards: selection_mb(*names(wildcards))),
        runtime=scaled(
            lambda wildcards: selection_minutes(*names(wildcards))
            + 3 * stitching_minutes(wildcards)
        ),
    params:
        job=job(
            "select_latents",
            selection_tokens=study["stitching"]["selection_tokens"],
            threads=1,
        ),
    message:
        "Select latents of {wildcards.pair} in several ways"
    script:
        "../workflow_scripts/select_latents.py"
