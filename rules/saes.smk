# SAEs: trained here or read from other libraries' files, codes of the eval tokens, properties.


rule train_sae:
    """Train SAE {wildcards.sae}"""
    input:
        activations=shards("train"),
    output:
        sae="<results>/saes/{sae}.h5",
        curve="<results>/saes/{sae}.csv",
    # The others are imported.
    wildcard_constraints:
        sae=one_of(trained),
    # The largest first: it takes longest.
    priority: lambda wildcards: saes[wildcards.sae]["d_sae"]
    threads: lambda wildcards: saes[wildcards.sae]["threads"]
    resources:
        mem_mb=scaled(training_mb),
        runtime=scaled(training_minutes),
        # For a cluster to grant; one machine's GPU is shared by as many as run there.
        gpu=lambda wildcards: int(saes[wildcards.sae]["device"] != "cpu"),
    params:
        job=lambda wildcards: job(
            "train_sae",
            sae=saes[wildcards.sae],
            threads=saes[wildcards.sae]["threads"],
        ),
    script:
        "../workflow_scripts/train_sae.py"


rule import_sae:
    """Import SAE {wildcards.sae}"""
    input:
        unpack(pretrained_files),
    output:
        "<results>/saes/{sae}.h5",
    wildcard_constraints:
        sae=one_of(pretrained),
    resources:
        # Both matrices, and the encoder twice more in float64 where the SAE is gated.
        mem_mb=scaled(lambda wildcards: 1500 + 7 * matrix_mb(wildcards.sae)),
        runtime=scaled(60),
    params:
        job=lambda wildcards: job(
            "import_sae",
            d_sae=pretrained[wildcards.sae]["d_sae"],
            pretrained=pretrained_source(wildcards.sae),
            activations=study_activations,
            # Of all heads together only the model's own config tells.
            d_model=(
                None
                if study["model"]["hook"].endswith(HEADS)
                else model_source.get("d_model")
            ),
        ),
        # To be looked at if it is there; no part of the result.
        model=model_folder() or study["model"]["name"],
    script:
        "../workflow_scripts/import_sae.py"


rule stitch_sae:
    """Stitch SAE {wildcards.sae}"""
    input:
        unpack(recipe_inputs),
    output:
        "<results>/saes/{sae}.h5",
    wildcard_constraints:
        sae=one_of(stitched),
    # cross_entropy, the longest job after training, waits for it.
    priority: 1
    resources:
        mem_mb=scaled(
            lambda wildcards: selection_mb(
                wildcards.sae, *stitched_sources(stitched[wildcards.sae])
            )
        ),
        runtime=scaled(
            lambda wildcards: selection_minutes(
                wildcards.sae, *stitched_sources(stitched[wildcards.sae])
            )
        ),
    params:
        job=lambda wildcards: job(
            "stitch_sae",
            recipe=stitched[wildcards.sae],
            saes=stitched_sources(stitched[wildcards.sae]),
            pairs=threshold_pairs(stitched[wildcards.sae]),
            selection_tokens=study["stitching"]["selection_tokens"],
            threads=1,
        ),
    script:
        "../workflow_scripts/stitch_sae.py"


rule export:
    input:
        collect(
            "<results>/export/{sae}/{file}",
            sae=all_saes,
            file=("cfg.json", "sae_weights.safetensors"),
        ),
    localrule: True


rule export_sae:
    """Export SAE {wildcards.sae} for SAELens"""
    input:
        "<results>/saes/{sae}.h5",
    output:
        settings="<results>/export/{sae}/cfg.json",
        weights="<results>/export/{sae}/sae_weights.safetensors",
    resources:
        mem_mb=scaled(lambda wildcards: 1500 + 3 * matrix_mb(wildcards.sae)),
        runtime=scaled(30),
    params:
        job=job(
            "export_sae",
            context=study["tokens"]["context"],
            center_writing_weights=study["model"]["center_writing_weights"],
        ),
    script:
        "../workflow_scripts/export_sae.py"


rule encode:
    """Encode the eval tokens with SAE {wildcards.sae}"""
    input:
        sae="<results>/saes/{sae}.h5",
        activations=shards("eval"),
    output:
        "<results>/codes/{sae}.h5",
    resources:
        mem_mb=scaled(lambda wildcards: 2000 + 3 * matrix_mb(wildcards.sae)),
        runtime=scaled(
            lambda wildcards: 30 + 2 * product_minutes(n_tokens("eval"), wildcards.sae)
        ),
    params:
        job=job("encode", threads=1),
    script:
        "../workflow_scripts/encode.py"


# A process of its own: after encoding, sums have other last bits.
rule evaluate:
    """Evaluate SAE {wildcards.sae}"""
    input:
        sae="<results>/saes/{sae}.h5",
        codes="<results>/codes/{sae}.h5",
        activations=shards("eval"),
    output:
        "<results>/evaluation/{sae}.json",
    resources:
        mem_mb=scaled(lambda wildcards: 2000 + 3 * matrix_mb(wildcards.sae)),
        runtime=scaled(30 + n_tokens("eval") / 60e3),
    params:
        job=job("evaluate", threads=1),
    script:
        "../workflow_scripts/evaluate.py"


rule cross_entropy:
    """Splice the SAEs into the language model"""
    input:
        tokens="<results>/corpus/tokens.h5",
        model=model_folder() or [],
        commits=commits("model"),
        saes=collect("<results>/saes/{sae}.h5", sae=all_saes),
        activations=shards("eval"),
    output:
        "<results>/tables/cross_entropy.csv",
    # The longest job after training: what it waits for comes first, too.
    priority: 1
    threads: study["activations"]["threads"]
    resources:
        mem_mb=scaled(6000 + matrix_mb(*all_saes) * 2),
        runtime=scaled(240),
    params:
        job=job(
            "cross_entropy",
            model=model_settings,
            saes=all_saes,
            ce_tokens=study["evaluation"]["ce_tokens"],
            skip_first_position=study["activations"]["skip_first_position"],
            threads=study["activations"]["threads"],
        ),
    script:
        "../workflow_scripts/cross_entropy.py"
