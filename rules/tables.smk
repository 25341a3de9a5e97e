# Tables: one row an SAE, one row a pair.


rule sae_properties:
    input:
        rows=collect(f"{results}/evaluation/{{sae}}.json", sae=all_saes),
        more=branch(
            study["evaluation"]["ce_tokens"] > 0,
            then=[f"{results}/tables/cross_entropy.csv"],
            otherwise=[],
        ),
    output:
        f"{results}/tables/sae_properties.csv",
    log:
        f"{results}/logs/sae_properties.log",
    benchmark:
        f"{results}/benchmarks/sae_properties.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(10),
    params:
        job=job(
            "sae_properties",
            saes=all_saes,
            stitched={name: stitched_sources(stitched[name]) for name in stitched},
        ),
    message:
        "Tabulate the SAEs"
    script:
        "../workflow_scripts/sae_properties.py"


rule pairs:
    input:
        insertions=collect(f"{results}/stitching/insertions/{{pair}}.h5", pair=pairs),
        subgraphs=collect(f"{results}/subgraphs/{{pair}}.h5", pair=pairs),
        swaps=collect(f"{results}/stitching/swaps/{{pair}}.h5", pair=pairs),
        curves=collect(f"{results}/stitching/threshold/{{pair}}.h5", pair=pairs),
        rocs=collect(f"{results}/stitching/roc/{{pair}}.h5", pair=pairs),
    output:
        f"{results}/tables/pairs.csv",
    log:
        f"{results}/logs/pairs.log",
    benchmark:
        f"{results}/benchmarks/pairs.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=job("pairs", pairs=pairs),
    message:
        "Tabulate the pairs"
    script:
        "../workflow_scripts/pairs.py"


rule families:
    input:
        pairs=rules.pairs.output[0],
        saes=rules.sae_properties.output[0],
    output:
        table=f"{results}/tables/families.csv",
        figure=figure("families"),
    log:
        f"{results}/logs/families.log",
    benchmark:
        f"{results}/benchmarks/families.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=job(
            "families",
            families=[
                {"architecture": architecture, "seed": seed, "saes": names}
                for (architecture, seed), names in compared_series.items()
            ],
            dpi=study["figures"]["dpi"],
        ),
    message:
        "Set the families of SAEs side by side"
    script:
        "../workflow_scripts/families.py"


rule convergence:
    input:
        pairs=rules.pairs.output[0],
        saes=rules.sae_properties.output[0],
        curves=collect(f"{results}/saes/{{sae}}.csv", sae=convergence_saes),
        agreement=branch(
            bool(comparisons),
            then=[f"{results}/tables/seed_agreement.csv"],
            otherwise=[],
        ),
        walks=[
            f"{results}/stitching/transition/{pair_name(pair['small'], pair['large'])}.h5"
            for pair in convergence_pairs
        ],
    output:
        figure("convergence"),
        table=f"{results}/tables/convergence.csv",
    log:
        f"{results}/logs/convergence.log",
    benchmark:
        f"{results}/benchmarks/convergence.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(2000),
        runtime=scaled(10),
    params:
        job=job(
            "convergence",
            pairs=convergence_pairs,
            saes=convergence_saes,
            seeds=bool(comparisons),
            dpi=study["figures"]["dpi"],
        ),
    message:
        "Set SAEs of different ages side by side"
    script:
        "../workflow_scripts/convergence.py"


rule reproduction:
    input:
        saes=rules.sae_properties.output[0],
        pairs=rules.pairs.output[0],
        subgraphs=collect(f"{results}/subgraphs/{{pair}}.h5", pair=published_subgraphs),
    output:
        f"{results}/tables/reproduction.csv",
    log:
        f"{results}/logs/reproduction.log",
    benchmark:
        f"{results}/benchmarks/reproduction.tsv"
    conda:
        "../envs/sae-stitching.yaml"
    threads: 1
    resources:
        mem_mb=scaled(1000),
        runtime=scaled(10),
    params:
        job=job("reproduction", paper=study["paper"], pairs=published_subgraphs),
    message:
        "Set the paper's numbers beside the study's"
    script:
        "../workflow_scripts/reproduction.py"
