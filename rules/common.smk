# The study's config, checked, and what all rules share.

import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

_scripts = Path(workflow.basedir) / "workflow_scripts"
sys.path.insert(0, str(_scripts))

from sae_stitching.errors import StudyError
from sae_stitching.provenance import code_hash
from sae_stitching.study import load_study

try:
    study = load_study(
        config,
        schema_path=Path(workflow.basedir) / "schemas" / "config.schema.yaml",
        base=workflow.basedir,
    )
except StudyError as error:
    raise WorkflowError(str(error))

results = f"results/{study['study']}"
saes = {sae["name"]: sae for sae in study["saes"]}
pairs = [f"{small}--{large}" for small, large in study["stitching"]["pairs"]]
path = study["stitching"]["transition"]
steps = [f"{small}--{large}" for small, large in zip(path, path[1:])]


wildcard_constraints:
    sae="|".join(map(re.escape, saes)),
    pair="|".join(map(re.escape, pairs)),
    split="train|eval",
    shard=r"\d+",


def job(rule, **settings):
    """Params of a rule: all that its result depends on beside its inputs, in one dict.

    One dict, because Snakemake compares params as a set of values without names; with the hash
    of the code that the rule's script runs, because Snakemake does not look into imports.
    """
    script = _scripts / f"{rule}.py"
    return {"study": study["study"], "code": code_hash(script), **settings}


def shards(split):
    """Activation shards of a split, in order."""
    n = study["activations"][f"{split}_shards"]
    return [f"{results}/activations/{split}/{shard:04d}.h5" for shard in range(n)]


def sae_files(wildcards):
    """The SAEs of a pair."""
    return dict(
        zip(("small", "large"), (f"{results}/saes/{s}.h5" for s in names(wildcards)))
    )


def stitching_inputs(wildcards):
    """What stitching a pair reads: both SAEs, their codes, and the eval activations."""
    small, large = names(wildcards)
    return {
        **sae_files(wildcards),
        "codes_small": f"{results}/codes/{small}.h5",
        "codes_large": f"{results}/codes/{large}.h5",
        "activations": shards("eval"),
    }


def names(wildcards):
    """Names of the smaller and the larger SAE of a pair."""
    return wildcards.pair.split("--")
