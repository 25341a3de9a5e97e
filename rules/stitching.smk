# Stitching: what latents of the larger SAE do in the smaller one.


# One job, as both read the same: a decoding of the codes each.
rule insertions:
    """Insert every latent of {wildcards.pair} alone, and all below each threshold"""
    input:
        unpack(stitching_inputs),
        similarity="<results>/similarity/{pair}.h5",
    output:
        insertions="<results>/stitching/insertions/{pair}.h5",
        curve="<results>/stitching/threshold/{pair}.h5",
    resources:
        mem_mb=scaled(stitching_mb),
        runtime=scaled(lambda wildcards: 2 * stitching_minutes(wildcards)),
    params:
        job=job("insertions", threads=1),
    script:
        "../workflow_scripts/insertions.py"


rule swaps:
    """Swap every connected subgraph of {wildcards.pair} alone"""
    input:
        unpack(stitching_inputs),
        subgraphs="<results>/subgraphs/{pair}.h5",
    output:
        "<results>/stitching/swaps/{pair}.h5",
    resources:
        mem_mb=scaled(stitching_mb),
        runtime=scaled(stitching_minutes),
    params:
        job=job("swaps", threads=1),
    script:
        "../workflow_scripts/swaps.py"


rule transition_step:
    """Walk through {wildcards.pair}"""
    input:
        unpack(stitching_inputs),
        subgraphs="<results>/subgraphs/{pair}.h5",
    output:
        "<results>/stitching/transition/{pair}.h5",
    resources:
        mem_mb=scaled(stitching_mb),
        runtime=scaled(stitching_minutes),
    params:
        job=job("transition_step", threads=1),
    script:
        "../workflow_scripts/transition_step.py"


rule transition:
    """Gather the transition"""
    input:
        collect("<results>/stitching/transition/{pair}.h5", pair=steps),
    output:
        "<results>/stitching/transition.h5",
    params:
        job=job("transition", steps=steps),
    script:
        "../workflow_scripts/transition.py"


rule roc:
    """Classify the latents of every pair by their max cosine"""
    input:
        collect("<results>/stitching/insertions/{pair}.h5", pair=pairs),
    output:
        collect("<results>/stitching/roc/{pair}.h5", pair=pairs),
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(30 + 2 * len(pairs)),
    params:
        job=job("roc", **chosen("stitching", "bootstrap_samples", "confidence", "seed")),
    script:
        "../workflow_scripts/roc.py"


rule random_insertion:
    """Insert latents of {wildcards.pair} in random orders"""
    input:
        unpack(stitching_inputs),
        subgraphs="<results>/subgraphs/{pair}.h5",
    output:
        "<results>/stitching/random_insertion/{pair}.h5",
    resources:
        mem_mb=scaled(orders_mb),
        runtime=scaled(lambda wildcards: 4 * stitching_minutes(wildcards)),
    params:
        job=job(
            "random_insertion",
            threads=1,
            **chosen("stitching", "random_orders", "seed"),
        ),
    script:
        "../workflow_scripts/random_insertion.py"


rule transition_orders:
    """Walk through {wildcards.pair} in several orders"""
    input:
        unpack(stitching_inputs),
        subgraphs="<results>/subgraphs/{pair}.h5",
    output:
        "<results>/stitching/orders/{pair}.h5",
    resources:
        mem_mb=scaled(orders_mb),
        runtime=scaled(lambda wildcards: 4 * stitching_minutes(wildcards)),
    params:
        job=job(
            "transition_orders",
            threads=1,
            **chosen("stitching", "random_orders", "seed"),
        ),
    script:
        "../workflow_scripts/transition_orders.py"


rule select_latents:
    """Select latents of {wildcards.pair} in several ways"""
    input:
        unpack(stitching_inputs),
        similarity="<results>/similarity/{pair}.h5",
        subgraphs="<results>/subgraphs/{pair}.h5",
        train=selection_shard(),
    output:
        "<results>/stitching/selection/{pair}.h5",
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
    script:
        "../workflow_scripts/select_latents.py"
