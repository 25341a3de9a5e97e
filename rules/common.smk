# The study's config, checked, and what all rules share.

import hashlib
import sys
from pathlib import Path

_scripts = Path(workflow.basedir) / "workflow_scripts"
sys.path.insert(0, str(_scripts))

from sae_stitching.errors import StudyError
from sae_stitching.provenance import code_hash
from sae_stitching.study import PAIR_SEPARATOR, load_study, pair_name

try:
    study = load_study(
        config,
        schema_path=Path(workflow.basedir) / "schemas" / "config.schema.yaml",
        base=workflow.basedir,
    )
except StudyError as error:
    # Snakemake would put the place in this file around it; the place that matters is the key.
    print(f"error in the config: {error}", file=sys.stderr)
    sys.exit(1)

results = f"results/{study['study']}"
cache = study["cache"]
model_source = study["sources"].get(study["model"]["name"], {})
text_source = study["sources"].get(study["text"]["source"], {})
saes = {sae["name"]: sae for sae in study["saes"]}
pairs = [pair_name(*pair) for pair in study["stitching"]["pairs"]]
path = study["stitching"]["transition"]
steps = [pair_name(*step) for step in zip(path, path[1:])]


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
    return {"study": study["study"], **shared_job(rule, **settings)}


def shared_job(rule, **settings):
    """Params of a rule whose result all studies share."""
    return {"code": code_hash(_scripts / f"{rule}.py"), **settings}


def folder_hash(folder):
    """SHA-256 of the files in a folder of the repository: what a page is made of besides code."""
    digest = hashlib.sha256()
    for path in sorted((Path(workflow.basedir) / folder).iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


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
    return wildcards.pair.split(PAIR_SEPARATOR)


def fetched(name):
    """Where a fetched source is kept; its checksum is part of the path, so a new pin is a new file."""
    source = study["sources"][name]
    return (
        f"{cache}/sources/{name}/{source['sha256'][:16]}/{Path(source['member']).name}"
    )


def model_folder():
    """Folder of a model that rules make, or None where TransformerLens finds it by itself."""
    name = study["model"]["name"]
    if model_source.get("kind") == "gguf-model":
        return f"{cache}/models/{name}/{model_source['sha256'][:16]}"
    if model_source.get("kind") == "random-model":
        return f"{results}/model"
    return None


def text_inputs():
    """Files that the text is read from, where it is not a dataset."""
    if study["text"]["source"] == "files":
        return study["text"]["files"]
    return [fetched(study["text"]["source"])] if text_source else []
