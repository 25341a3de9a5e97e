# What all rules have in common, so that each shows what is its own.
#
# Rule, script, log and benchmark file carry the same name. One environment is for all, and what a
# rule's first line says is what its jobs say when they begin.

from snakemake.io import WILDCARD_REGEX

for _rule in workflow.rules:
    if _rule.norun:
        continue
    _names = WILDCARD_REGEX.finditer(str(next(iter(_rule.output), "")))
    _wildcards = dict.fromkeys(f"{{{name['name']}}}" for name in _names)
    _place = "/".join([_rule.name, *_wildcards])
    _rule.log_modifier = _rule.benchmark_modifier = workflow.modifier.path_modifier
    _rule.set_log(f"<logs>/{_place}.log")
    _rule.benchmark = f"<benchmarks>/{_place}.tsv"
    _rule.conda_env = "../envs/sae-stitching.yaml"
    _rule.message = _rule.message or _rule.docstring
