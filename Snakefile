# SAE stitching: from text and a language model to the figures of Leask, Bussmann et al. (2025).
#
# config.yaml is the default study; another one is used as --configfile presets/<name>.yaml. Both are
# read by rules/common.smk and not by configfile:, which takes the last of a repeated key without a
# word, and turns an SAE's name such as 016 into 14.
# Everything is written to results/<study>/, bar downloads, which all studies share.

from snakemake.utils import min_version

min_version("9.20")


include: "rules/environment.smk"
include: "rules/common.smk"
include: "rules/resources.smk"
include: "rules/sources.smk"
include: "rules/hub.smk"
include: "rules/corpus.smk"
include: "rules/activations.smk"
include: "rules/saes.smk"
include: "rules/similarity.smk"
include: "rules/stitching.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"
include: "rules/explorer.smk"
include: "rules/report.smk"
include: "rules/every_rule.smk"
include: "rules/driver.smk"


report: "report/workflow.rst"


# All that the register has of this study, and the explorer.
rule all:
    default_target: True
    input:
        [files_of(result) for result in shown],
        rules.explorer.output,
