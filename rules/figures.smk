# Figures, each as PDF and PNG with the numbers it shows as CSV beside it.


rule figure4:
    input:
        collect(
            f"{results}/figures/figure4_{{pair}}.{{suffix}}",
            pair=pairs,
            suffix=("pdf", "png", "csv"),
        ),
    localrule: True


rule plot_figure4:
    input:
        insertions=f"{results}/stitching/insertions/{{pair}}.h5",
        subgraphs=f"{results}/subgraphs/{{pair}}.h5",
    output:
        figure("figure4_{pair}", "plot_figure4", Pair="{pair}"),
    log:
        f"{results}/logs/plot_figure4/{{pair}}.log",
    benchmark:
        f"{results}/benchmarks/plot_figure4/{{pair}}.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=lambda wildcards: job(
            "plot_figure4", pair=names(wildcards), dpi=study["figures"]["dpi"]
        ),
    message:
        "Draw Figure 4 of {wildcards.pair}"
    script:
        "../workflow_scripts/plot_figure4.py"


rule figure5:
    input:
        f"{results}/stitching/transition.h5",
    output:
        figure("figure5"),
    log:
        f"{results}/logs/figure5.log",
    benchmark:
        f"{results}/benchmarks/figure5.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=job("figure5", dpi=study["figures"]["dpi"]),
    message:
        "Draw Figure 5"
    script:
        "../workflow_scripts/figure5.py"


rule figure13:
    input:
        rocs=collect(f"{results}/stitching/roc/{{pair}}.h5", pair=pairs),
        subgraphs=collect(f"{results}/subgraphs/{{pair}}.h5", pair=pairs),
    output:
        figure("figure13"),
    log:
        f"{results}/logs/figure13.log",
    benchmark:
        f"{results}/benchmarks/figure13.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=job("figure13", pairs=pairs, dpi=study["figures"]["dpi"]),
    message:
        "Draw Figure 13"
    script:
        "../workflow_scripts/figure13.py"


rule family_transitions:
    input:
        [
            f"{results}/stitching/transition/{pair}.h5"
            for architecture, seed, pair in series_steps
        ],
    output:
        figure("family_transitions"),
    log:
        f"{results}/logs/family_transitions.log",
    benchmark:
        f"{results}/benchmarks/family_transitions.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=job("family_transitions", steps=series_steps, dpi=study["figures"]["dpi"]),
    message:
        "Draw the transitions of the families of SAEs"
    script:
        "../workflow_scripts/family_transitions.py"


rule plot_reproduction:
    input:
        rules.reproduction.output[0],
    output:
        figure("reproduction", "plot_reproduction"),
    log:
        f"{results}/logs/plot_reproduction.log",
    benchmark:
        f"{results}/benchmarks/plot_reproduction.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=job("plot_reproduction", dpi=study["figures"]["dpi"]),
    message:
        "Draw the paper's numbers beside the study's"
    script:
        "../workflow_scripts/plot_reproduction.py"


rule figure3:
    input:
        subgraphs=f"{results}/subgraphs/{pairs[0]}.h5",
        similarity=f"{results}/similarity/{pairs[0]}.h5",
        swaps=f"{results}/stitching/swaps/{pairs[0]}.h5",
    output:
        figure("figure3"),
    log:
        f"{results}/logs/figure3.log",
    benchmark:
        f"{results}/benchmarks/figure3.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=job(
            "figure3", pair=study["stitching"]["pairs"][0], dpi=study["figures"]["dpi"]
        ),
    message:
        "Draw Figure 3"
    script:
        "../workflow_scripts/figure3.py"


rule figure7:
    input:
        similarities=collect(f"{results}/similarity/{{pair}}.h5", pair=pairs),
        subgraphs=collect(f"{results}/subgraphs/{{pair}}.h5", pair=pairs),
        sae=f"{results}/saes/{next(iter(saes))}.h5",
    output:
        figure("figure7"),
    log:
        f"{results}/logs/figure7.log",
    benchmark:
        f"{results}/benchmarks/figure7.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=job("figure7", pairs=pairs, dpi=study["figures"]["dpi"]),
    message:
        "Draw Figure 7"
    script:
        "../workflow_scripts/figure7.py"


rule figure8:
    input:
        collect(f"{results}/similarity/activations/{{pair}}.h5", pair=pairs),
    output:
        figure("figure8"),
    log:
        f"{results}/logs/figure8.log",
    benchmark:
        f"{results}/benchmarks/figure8.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=job("figure8", pairs=pairs, dpi=study["figures"]["dpi"]),
    message:
        "Draw Figure 8"
    script:
        "../workflow_scripts/figure8.py"


rule figure12:
    input:
        similarities=collect(f"{results}/similarity/{{pair}}.h5", pair=pairs),
        subgraphs=collect(f"{results}/subgraphs/{{pair}}.h5", pair=pairs),
    output:
        figure("figure12"),
        table=f"{results}/tables/components.csv",
    log:
        f"{results}/logs/figure12.log",
    benchmark:
        f"{results}/benchmarks/figure12.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=job("figure12", pairs=pairs, dpi=study["figures"]["dpi"]),
    message:
        "Draw Figure 12"
    script:
        "../workflow_scripts/figure12.py"


rule figure14:
    input:
        collect(f"{results}/stitching/swaps/{{pair}}.h5", pair=pairs),
    output:
        figure("figure14"),
    log:
        f"{results}/logs/figure14.log",
    benchmark:
        f"{results}/benchmarks/figure14.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=job("figure14", pairs=pairs, dpi=study["figures"]["dpi"]),
    message:
        "Draw Figure 14"
    script:
        "../workflow_scripts/figure14.py"


rule figure15:
    input:
        insertions=collect(
            f"{results}/stitching/random_insertion/{{pair}}.h5", pair=pairs
        ),
        subgraphs=collect(f"{results}/subgraphs/{{pair}}.h5", pair=pairs),
    output:
        figure("figure15"),
    log:
        f"{results}/logs/figure15.log",
    benchmark:
        f"{results}/benchmarks/figure15.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=job("figure15", pairs=pairs, dpi=study["figures"]["dpi"]),
    message:
        "Draw Figure 15"
    script:
        "../workflow_scripts/figure15.py"


rule figure16:
    input:
        collect(f"{results}/subgraphs/{{pair}}.h5", pair=[*pairs, *seed_pairs]),
    output:
        figure("figure16"),
    log:
        f"{results}/logs/figure16.log",
    benchmark:
        f"{results}/benchmarks/figure16.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=job(
            "figure16",
            pairs=[*pairs, *seed_pairs],
            sizes={name: sizes[name] for name in explored},
            seeds=seeds,
            dpi=study["figures"]["dpi"],
        ),
    message:
        "Draw Figure 16"
    script:
        "../workflow_scripts/figure16.py"


rule figure17:
    input:
        activations=shards("eval"),
        saes=collect(f"{results}/saes/{{sae}}.h5", sae=saes),
        codes=collect(f"{results}/codes/{{sae}}.h5", sae=saes),
        rows=collect(f"{results}/evaluation/{{sae}}.json", sae=saes),
    output:
        figure("figure17"),
    log:
        f"{results}/logs/figure17.log",
    benchmark:
        f"{results}/benchmarks/figure17.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(30),
    params:
        job=job("figure17", saes=list(saes), dpi=study["figures"]["dpi"]),
    message:
        "Draw Figure 17"
    script:
        "../workflow_scripts/figure17.py"


# Figures 18 and 19 are Figures 4 and 5 of JumpReLU SAEs; a study with such SAEs gets them.
rule figure18:
    input:
        collect(
            f"{results}/figures/figure18_{{pair}}.{{suffix}}",
            pair=jumprelu_pairs,
            suffix=("pdf", "png", "csv"),
        ),
    localrule: True


rule plot_figure18:
    input:
        insertions=f"{results}/stitching/insertions/{{pair}}.h5",
        subgraphs=f"{results}/subgraphs/{{pair}}.h5",
    output:
        figure("figure18_{pair}", "plot_figure18", Pair="{pair}"),
    log:
        f"{results}/logs/plot_figure18/{{pair}}.log",
    benchmark:
        f"{results}/benchmarks/plot_figure18/{{pair}}.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=lambda wildcards: job(
            "plot_figure18", pair=names(wildcards), dpi=study["figures"]["dpi"]
        ),
    message:
        "Draw Figure 18 of {wildcards.pair}"
    script:
        "../workflow_scripts/plot_figure18.py"


rule figure19:
    input:
        f"{results}/stitching/transition.h5",
    output:
        figure("figure19"),
    log:
        f"{results}/logs/figure19.log",
    benchmark:
        f"{results}/benchmarks/figure19.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=job("figure19", dpi=study["figures"]["dpi"]),
    message:
        "Draw Figure 19"
    script:
        "../workflow_scripts/figure19.py"


rule significance:
    input:
        insertions=collect(f"{results}/stitching/insertions/{{pair}}.h5", pair=pairs),
        subgraphs=collect(f"{results}/subgraphs/{{pair}}.h5", pair=pairs),
    output:
        figure("significance"),
        table=f"{results}/tables/significance.csv",
    log:
        f"{results}/logs/significance.log",
    benchmark:
        f"{results}/benchmarks/significance.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=job(
            "significance",
            pairs=pairs,
            dpi=study["figures"]["dpi"],
            **{
                key: study["stitching"][key]
                for key in ("bootstrap_samples", "confidence", "seed")
            },
        ),
    message:
        "Tell which insertion effects differ from zero"
    script:
        "../workflow_scripts/significance.py"


rule orders:
    input:
        collect(f"{results}/stitching/orders/{{pair}}.h5", pair=steps),
    output:
        figure("orders"),
        table=f"{results}/tables/orders.csv",
    log:
        f"{results}/logs/orders.log",
    benchmark:
        f"{results}/benchmarks/orders.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=job("orders", steps=steps, dpi=study["figures"]["dpi"]),
    message:
        "Compare the orders of the transition"
    script:
        "../workflow_scripts/orders.py"


rule seed_agreement:
    input:
        collect(f"{results}/saes/{{sae}}.h5", sae=compared_seeds),
    output:
        figure("seed_agreement"),
        table=f"{results}/tables/seed_agreement.csv",
    log:
        f"{results}/logs/seed_agreement.log",
    benchmark:
        f"{results}/benchmarks/seed_agreement.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(3000 + max(map(agreement_mb, comparisons), default=0)),
        runtime=scaled(30 + len(comparisons)),
    params:
        job=job(
            "seed_agreement",
            saes=compared_seeds,
            comparisons=comparisons,
            threads=1,
            dpi=study["figures"]["dpi"],
        ),
    message:
        "Compare the seeds of each training"
    script:
        "../workflow_scripts/seed_agreement.py"


rule training_curve:
    input:
        collect(f"{results}/saes/{{sae}}.csv", sae=trained),
    output:
        figure("training_curve"),
    log:
        f"{results}/logs/training_curve.log",
    benchmark:
        f"{results}/benchmarks/training_curve.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=job("training_curve", saes=list(trained), dpi=study["figures"]["dpi"]),
    message:
        "Draw the training curves"
    script:
        "../workflow_scripts/training_curve.py"


rule selection:
    input:
        collect(f"{results}/stitching/selection/{{pair}}.h5", pair=selection_pairs),
    output:
        figure("selection"),
        table=f"{results}/tables/selection.csv",
    log:
        f"{results}/logs/selection.log",
    benchmark:
        f"{results}/benchmarks/selection.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=job("selection", pairs=selection_pairs, dpi=study["figures"]["dpi"]),
    message:
        "Compare the ways to select latents"
    script:
        "../workflow_scripts/selection.py"


rule stitched:
    input:
        rules.sae_properties.output,
    output:
        figure("stitched"),
        table=f"{results}/tables/stitched.csv",
    log:
        f"{results}/logs/stitched.log",
    benchmark:
        f"{results}/benchmarks/stitched.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=job(
            "stitched",
            bases={name: trained_base(name) for name in stitched},
            dpi=study["figures"]["dpi"],
        ),
    message:
        "Set the stitched SAEs beside the others"
    script:
        "../workflow_scripts/stitched.py"
