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
            for architecture, seed, pair in kin_steps
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
        mem_mb=2000,
        runtime=10,
    params:
        job=job("family_transitions", steps=kin_steps, dpi=study["figures"]["dpi"]),
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
        mem_mb=2000,
        runtime=10,
    params:
        job=job("plot_reproduction", dpi=study["figures"]["dpi"]),
    message:
        "Draw the paper's numbers beside the study's"
    script:
        "../workflow_scripts/plot_reproduction.py"


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
        mem_mb=2000,
        runtime=10,
    params:
        job=job("training_curve", saes=list(trained), dpi=study["figures"]["dpi"]),
    message:
        "Draw the training curves"
    script:
        "../workflow_scripts/training_curve.py"
