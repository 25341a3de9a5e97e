# Tables: one row an SAE, one row a pair.


rule sae_properties:
    """Tabulate the SAEs"""
    input:
        rows=collect("<results>/evaluation/{sae}.json", sae=all_saes),
        more=branch(
            study["evaluation"]["ce_tokens"] > 0,
            then=["<results>/tables/cross_entropy.csv"],
            otherwise=[],
        ),
    output:
        "<results>/tables/sae_properties.csv",
    params:
        job=job(
            "sae_properties",
            saes=all_saes,
            stitched={name: stitched_sources(stitched[name]) for name in stitched},
            published=published_numbers("l0", "variance_explained"),
        ),
    script:
        "../workflow_scripts/sae_properties.py"


rule pairs:
    """Tabulate the pairs"""
    input:
        insertions=collect("<results>/stitching/insertions/{pair}.h5", pair=pairs),
        subgraphs=collect("<results>/subgraphs/{pair}.h5", pair=pairs),
        swaps=collect("<results>/stitching/swaps/{pair}.h5", pair=pairs),
        curves=collect("<results>/stitching/threshold/{pair}.h5", pair=pairs),
        rocs=collect("<results>/stitching/roc/{pair}.h5", pair=pairs),
    output:
        "<results>/tables/pairs.csv",
    params:
        job=job("pairs", pairs=pairs),
    script:
        "../workflow_scripts/pairs.py"


rule families:
    """Set the families of SAEs side by side"""
    input:
        pairs=rules.pairs.output[0],
        saes=rules.sae_properties.output[0],
    output:
        table="<results>/tables/families.csv",
        figure=figure("families"),
    params:
        job=drawing(
            "families",
            families=[
                {"architecture": architecture, "seed": seed, "saes": names}
                for (architecture, seed), names in compared_series.items()
            ],
        ),
    script:
        "../workflow_scripts/families.py"


rule convergence:
    """Set SAEs of different ages side by side"""
    input:
        pairs=rules.pairs.output[0],
        saes=rules.sae_properties.output[0],
        curves=collect("<results>/saes/{sae}.csv", sae=convergence_saes),
        agreement=branch(
            bool(comparisons),
            then=["<results>/tables/seed_agreement.csv"],
            otherwise=[],
        ),
        walks=[
            f"<results>/stitching/transition/{pair_name(pair['small'], pair['large'])}.h5"
            for pair in convergence_pairs
        ],
    output:
        figure("convergence"),
        table="<results>/tables/convergence.csv",
    params:
        job=drawing(
            "convergence",
            pairs=convergence_pairs,
            saes=convergence_saes,
            seeds=bool(comparisons),
        ),
    script:
        "../workflow_scripts/convergence.py"


rule reproduction:
    """Set the paper's numbers beside the study's"""
    input:
        saes=rules.sae_properties.output[0],
        pairs=rules.pairs.output[0],
        subgraphs=collect("<results>/subgraphs/{pair}.h5", pair=published_subgraphs),
    output:
        figure("reproduction"),
        table="<results>/tables/reproduction.csv",
    params:
        job=drawing("reproduction", paper=study["paper"], pairs=published_subgraphs),
    script:
        "../workflow_scripts/reproduction.py"
