# SAE stitching: from text and a language model to the figures of Leask, Bussmann et al. (2025).
#
# config.yaml is the default study; another one is used as --configfile presets/<name>.yaml. Both are
# read by rules/common.smk and not by configfile:, which takes the last of a repeated key without a
# word, and turns an SAE's name such as 016 into 14.
# Everything is written to results/<study>/, bar downloads, which all studies share.

from snakemake.utils import min_version

min_version("9.20")


include: "rules/common.smk"
include: "rules/sources.smk"
include: "rules/hub.smk"
include: "rules/corpus.smk"
include: "rules/activations.smk"
include: "rules/saes.smk"
include: "rules/similarity.smk"
include: "rules/stitching.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"
include: "rules/driver.smk"
include: "rules/explorer.smk"
include: "rules/report.smk"


report: "report/workflow.rst"


rule all:
    default_target: True
    input:
        rules.figure3.output,
        rules.figure4.input,
        branch(bool(steps), then=rules.figure5.output, otherwise=[]),
        rules.figure7.output,
        rules.figure8.output,
        rules.figure12.output,
        rules.figure13.output,
        rules.figure14.output,
        rules.figure15.output,
        rules.figure16.output,
        rules.figure17.output,
        rules.figure18.input,
        branch(
            bool(steps) and jumprelu.issuperset(path),
            then=rules.figure19.output,
            otherwise=[],
        ),
        rules.significance.output,
        branch(bool(comparisons), then=rules.seed_agreement.output, otherwise=[]),
        branch(bool(convergence_pairs), then=rules.convergence.output, otherwise=[]),
        branch(bool(steps), then=rules.orders.output, otherwise=[]),
        branch(bool(trained), then=rules.selection.output, otherwise=[]),
        branch(bool(stitched), then=rules.stitched.output, otherwise=[]),
        rules.sae_properties.output,
        rules.pairs.output,
        rules.explorer.output,
        branch(bool(trained), then=rules.training_curve.output, otherwise=[]),
        rules.summary.output,
        collect(rules.table_page.output, table=TABLES),
        branch(
            len(compared_series) > 1,
            then=rules.families.output + rules.family_transitions.output,
            otherwise=[],
        ),
        branch(
            bool(study["paper"]),
            then=[rules.reproduction.output, rules.plot_reproduction.output],
            otherwise=[],
        ),
