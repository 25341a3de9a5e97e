# Figures, each as PDF and PNG with the numbers it shows as CSV beside it.


rule figure4:
    """Draw Figure 4"""
    input:
        insertions=collect("<results>/stitching/insertions/{pair}.h5", pair=pairs),
        subgraphs=collect("<results>/subgraphs/{pair}.h5", pair=pairs),
    output:
        [figure("figure4", pair) for pair in pairs],
    params:
        job=drawing("figure4", pairs=pairs, symlog=False),
    script:
        "../workflow_scripts/figure4.py"


rule figure5:
    """Draw Figure 5"""
    input:
        "<results>/stitching/transition.h5",
    output:
        figure("figure5"),
    params:
        job=drawing("figure5", mse_only=False),
    script:
        "../workflow_scripts/figure5.py"


rule figure13:
    """Draw Figure 13"""
    input:
        rocs=collect("<results>/stitching/roc/{pair}.h5", pair=pairs),
        subgraphs=collect("<results>/subgraphs/{pair}.h5", pair=pairs),
    output:
        figure("figure13"),
    params:
        job=drawing("figure13", pairs=pairs),
    script:
        "../workflow_scripts/figure13.py"


rule family_transitions:
    """Draw the transitions of the families of SAEs"""
    input:
        [
            f"<results>/stitching/transition/{pair}.h5"
            for architecture, seed, pair in series_steps
        ],
    output:
        figure("family_transitions"),
    params:
        job=drawing("family_transitions", steps=series_steps),
    script:
        "../workflow_scripts/family_transitions.py"


rule figure3:
    """Draw Figure 3"""
    input:
        subgraphs=f"<results>/subgraphs/{pairs[0]}.h5",
        similarity=f"<results>/similarity/{pairs[0]}.h5",
        swaps=f"<results>/stitching/swaps/{pairs[0]}.h5",
    output:
        figure("figure3"),
    params:
        job=drawing("figure3", pair=study["stitching"]["pairs"][0]),
    script:
        "../workflow_scripts/figure3.py"


rule figure7:
    """Draw Figure 7"""
    input:
        similarities=collect("<results>/similarity/{pair}.h5", pair=pairs),
        subgraphs=collect("<results>/subgraphs/{pair}.h5", pair=pairs),
        sae=f"<results>/saes/{next(iter(saes))}.h5",
    output:
        figure("figure7"),
    params:
        job=drawing("figure7", pairs=pairs),
    script:
        "../workflow_scripts/figure7.py"


rule figure8:
    """Draw Figure 8"""
    input:
        collect("<results>/similarity/activations/{pair}.h5", pair=pairs),
    output:
        figure("figure8"),
    params:
        job=drawing("figure8", pairs=pairs),
    script:
        "../workflow_scripts/figure8.py"


rule figure12:
    """Draw Figure 12"""
    input:
        similarities=collect("<results>/similarity/{pair}.h5", pair=pairs),
        subgraphs=collect("<results>/subgraphs/{pair}.h5", pair=pairs),
    output:
        figure("figure12"),
        table="<results>/tables/components.csv",
    params:
        job=drawing("figure12", pairs=pairs),
    script:
        "../workflow_scripts/figure12.py"


rule figure14:
    """Draw Figure 14"""
    input:
        collect("<results>/stitching/swaps/{pair}.h5", pair=pairs),
    output:
        figure("figure14"),
    params:
        job=drawing("figure14", pairs=pairs),
    script:
        "../workflow_scripts/figure14.py"


rule figure15:
    """Draw Figure 15"""
    input:
        insertions=collect("<results>/stitching/random_insertion/{pair}.h5", pair=pairs),
        subgraphs=collect("<results>/subgraphs/{pair}.h5", pair=pairs),
    output:
        figure("figure15"),
    params:
        job=drawing("figure15", pairs=pairs),
    script:
        "../workflow_scripts/figure15.py"


rule figure16:
    """Draw Figure 16"""
    input:
        collect("<results>/subgraphs/{pair}.h5", pair=[*pairs, *seed_pairs]),
    output:
        figure("figure16"),
    params:
        job=drawing(
            "figure16",
            pairs=[*pairs, *seed_pairs],
            sizes={name: sizes[name] for name in explored},
            seeds=seeds,
        ),
    script:
        "../workflow_scripts/figure16.py"


rule figure17:
    """Draw Figure 17"""
    input:
        activations=shards("eval"),
        saes=collect("<results>/saes/{sae}.h5", sae=saes),
        codes=collect("<results>/codes/{sae}.h5", sae=saes),
        rows=collect("<results>/evaluation/{sae}.json", sae=saes),
    output:
        figure("figure17"),
    resources:
        mem_mb=scaled(4000),
        runtime=scaled(30),
    params:
        job=drawing("figure17", saes=list(saes)),
    script:
        "../workflow_scripts/figure17.py"


# Figures 18 and 19 are Figures 4 and 5 of JumpReLU SAEs; a study with such SAEs gets them.
use rule figure4 as figure18 with:
    input:
        insertions=collect(
            "<results>/stitching/insertions/{pair}.h5", pair=jumprelu_pairs
        ),
        subgraphs=collect("<results>/subgraphs/{pair}.h5", pair=jumprelu_pairs),
    output:
        [figure("figure18", pair) for pair in jumprelu_pairs],
    params:
        job=drawing("figure4", pairs=jumprelu_pairs, symlog=True),
    message:
        "Draw Figure 18"


use rule figure5 as figure19 with:
    output:
        figure("figure19"),
    params:
        job=drawing("figure5", mse_only=True),
    message:
        "Draw Figure 19"


rule significance:
    """Tell which insertion effects differ from zero"""
    input:
        insertions=collect("<results>/stitching/insertions/{pair}.h5", pair=pairs),
        subgraphs=collect("<results>/subgraphs/{pair}.h5", pair=pairs),
    output:
        figure("significance"),
        table="<results>/tables/significance.csv",
    params:
        job=drawing(
            "significance",
            pairs=pairs,
            **chosen("stitching", "bootstrap_samples", "confidence", "seed"),
        ),
    script:
        "../workflow_scripts/significance.py"


rule orders:
    """Compare the orders of the transition"""
    input:
        collect("<results>/stitching/orders/{pair}.h5", pair=steps),
    output:
        figure("orders"),
        table="<results>/tables/orders.csv",
    params:
        job=drawing("orders", steps=steps),
    script:
        "../workflow_scripts/orders.py"


rule seed_agreement:
    """Compare the seeds of each training"""
    input:
        collect("<results>/saes/{sae}.h5", sae=compared_seeds),
    output:
        figure("seed_agreement"),
        table="<results>/tables/seed_agreement.csv",
    resources:
        mem_mb=scaled(3000 + max(map(agreement_mb, comparisons), default=0)),
        runtime=scaled(30 + len(comparisons)),
    params:
        job=drawing(
            "seed_agreement",
            saes=compared_seeds,
            comparisons=comparisons,
            threads=1,
        ),
    script:
        "../workflow_scripts/seed_agreement.py"


rule training_curve:
    """Draw the training curves"""
    input:
        collect("<results>/saes/{sae}.csv", sae=trained),
    output:
        figure("training_curve"),
    params:
        job=drawing("training_curve", saes=list(trained)),
    script:
        "../workflow_scripts/training_curve.py"


rule selection:
    """Compare the ways to select latents"""
    input:
        collect("<results>/stitching/selection/{pair}.h5", pair=selection_pairs),
    output:
        figure("selection"),
        table="<results>/tables/selection.csv",
    params:
        job=drawing("selection", pairs=selection_pairs),
    script:
        "../workflow_scripts/selection.py"


rule stitched:
    """Set the stitched SAEs beside the others"""
    input:
        rules.sae_properties.output,
    output:
        figure("stitched"),
        table="<results>/tables/stitched.csv",
    params:
        job=drawing("stitched", bases={name: trained_base(name) for name in stitched}),
    script:
        "../workflow_scripts/stitched.py"
