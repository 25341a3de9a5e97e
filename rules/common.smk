# The study's config, checked, and what all rules share.

import contextlib
import hashlib
import math
import os
import re
import sys
from itertools import combinations
from pathlib import Path

from sae_stitching import formats
from sae_stitching.base.errors import StudyError
from sae_stitching.activations.language_model import HEADS, model_facts
from sae_stitching.base.names import pair_name, split_pair_name
from sae_stitching.tables.published import PUBLISHED
from sae_stitching.tables.register import RESULTS
from sae_stitching.matching.seed_agreement import MATCHED_UP_TO
from sae_stitching.config.study import (
    series,
    longest_series,
    hub_references,
    is_jumprelu,
    read_study,
    sae_sizes,
    seed_groups,
    stitched_sources,
)

try:
    study = read_study(
        workflow.basedir,
        workflow.config_settings.configfiles,
        workflow.config_settings.config_args,
        alone=workflow.config_settings.replace_workflow_config,
    )
except StudyError as error:
    # Snakemake would put the place in this file around it; the place that matters is the key.
    print(f"error in the config: {error}", file=sys.stderr)
    sys.exit(1)

results = f"results/{study['study']}"


pathvars:
    results=results,
    logs=f"{results}/logs",
    benchmarks=f"{results}/benchmarks",


cache = study["cache"]
model_source = study["sources"].get(study["model"]["name"], {})
text_source = study["sources"].get(study["text"]["source"], {})
# What the files of pretrained SAEs are held against, see agreement.Activations.
study_activations = {
    "hook": study["model"]["hook"],
    "model": study["model"]["name"],
    "dtype": study["model"]["dtype"],
    "center_writing_weights": study["model"]["center_writing_weights"],
    "revision": study["model"].get("revision"),
    "published": not model_source and not Path(study["model"]["name"]).is_dir(),
    "context": study["tokens"]["context"],
    "skip_first_position": study["activations"]["skip_first_position"],
}
# What comes from the Hugging Face hub, and where it is written down which commit each is.
hub = {
    part: dict(zip(("kind", "name", "revision"), reference))
    for part, reference in hub_references(study).items()
}
repositories = {
    f"{reference['kind']}s/{reference['name']}@{reference['revision']}": reference
    for reference in hub.values()
}
# What its results depend on beside the commit, which is among the inputs.
model_settings = {
    key: value for key, value in study["model"].items() if key != "revision"
}
# The files are inputs; where they lie is no part of the result.
text_settings = {key: value for key, value in study["text"].items() if key != "files"}
# Whether some text is left out, once there are enough tokens.
text_is_limited = None not in (
    study["tokens"]["max_train_sequences"],
    study["tokens"]["max_eval_sequences"],
)
# Sources that come from the package index.
fetched_sources = [
    name
    for name in {study["model"]["name"]: None, study["text"]["source"]: None}
    if "member" in study["sources"].get(name, {})
]
saes = {sae["name"]: sae for sae in study["saes"]}
pretrained = {name: sae for name, sae in saes.items() if "pretrained" in sae}
trained = {name: sae for name, sae in saes.items() if name not in pretrained}
stitched = {recipe["name"]: recipe for recipe in study["stitched"]}
all_saes = [*saes, *stitched]
# Latents of each; of a stitched SAE the most that it may have.
sizes = sae_sizes(study)
pairs = [pair_name(*pair) for pair in study["stitching"]["pairs"]]
# SAEs that are looked at latent by latent.
explored = [
    *saes,
    *(s for s in stitched if any(s in p for p in study["stitching"]["pairs"])),
]
path = study["stitching"]["transition"]
steps = [pair_name(*step) for step in zip(path, path[1:])]
# Pairs for which ways to select latents are compared.
selection_pairs = steps or pairs
# Series that are compared, and the steps from size to size inside them.
compared_series = {
    key: names
    for key, names in longest_series(study["saes"]).items()
    if any(pair_name(*step) in pairs for step in zip(names, names[1:]))
}
series_steps = [
    [*key, pair_name(*step)]
    for key, names in compared_series.items()
    for step in zip(names, names[1:])
    if pair_name(*step) in pairs
]
# Pairs of SAEs trained for equally many steps, where the study trains some for different numbers
# of steps.
convergence_pairs = [
    {
        "architecture": architecture,
        "seed": seed,
        "steps": n_steps,
        "tokens": n_steps * saes[small]["batch_size"],
        "small": small,
        "large": large,
    }
    for (architecture, seed, n_steps), names in series(study["saes"]).items()
    for small, large in zip(names, names[1:])
    if n_steps is not None and pair_name(small, large) in pairs
]
convergence_saes = list(
    dict.fromkeys(
        pair[side] for pair in convergence_pairs for side in ("small", "large")
    )
)
# Pairs of the study whose connected subgraphs the paper counts.
published_subgraphs = [
    name
    for pair in (PUBLISHED[study["paper"]].subgraphs if study["paper"] else ())
    if (name := pair_name(*pair)) in pairs
]

# Pairs for Figure 16 alone: seeds of one training that stitching.pairs leaves out.
seeds = seed_groups(study["saes"])
seed_pairs = [
    pair_name(*two)
    for group in seeds
    for two in combinations(group, 2)
    if pair_name(*two) not in pairs and pair_name(*two[::-1]) not in pairs
]
# Every two seeds of one training, and what they have in common.
comparisons = [
    {
        "sae": sae,
        "other": other,
        "d_sae": sizes[sae],
        "architecture": saes[sae]["architecture"],
        "tokens": saes[sae]["steps"] * saes[sae]["batch_size"],
    }
    for group in seeds
    for sae, other in combinations(group, 2)
    if sae in trained
]
compared_seeds = [name for group in seeds for name in group if name in trained]
# What Figures 18 and 19 are drawn for.
jumprelu = {name for name, sae in saes.items() if is_jumprelu(sae)}
jumprelu_pairs = [
    pair_name(*pair)
    for pair in study["stitching"]["pairs"]
    if jumprelu.issuperset(pair)
]

# What of the register this study has.
has = {
    "steps": bool(steps),
    "trained": bool(trained),
    "stitched": bool(stitched),
    "jumprelu_pairs": bool(jumprelu_pairs),
    "jumprelu_steps": bool(steps) and jumprelu.issuperset(path),
    "comparisons": bool(comparisons),
    "convergence_pairs": bool(convergence_pairs),
    "several_series": len(compared_series) > 1,
    "ce_tokens": study["evaluation"]["ce_tokens"] > 0,
    "paper": bool(study["paper"]),
}
shown = [result for result in RESULTS if not result.when or has[result.when]]
tables = {result.name: result.table for result in shown if result.table}
sections = {result.name: result.section for result in RESULTS}


def in_report(path, name, caption, **labels):
    """Mark a result of the register for the report, with the caption report/<caption>.rst."""
    return report(
        path,
        caption=f"../report/{caption}.rst",
        category=sections[name],
        labels=labels or None,
    )


def figure(name, pair=None):
    """Files of a figure as `save_figure` writes them; the report shows the PNG."""
    prefix = f"<results>/figures/{name}{f'_{pair}' if pair else ''}"
    labels = {"Figure": name.removeprefix("figure").replace("_", " ")}
    if pair:
        labels["Pair"] = pair
    return [
        f"{prefix}.pdf",
        in_report(f"{prefix}.png", name, f"figures/{name}", **labels),
        f"{prefix}.csv",
    ]


def files_of(result):
    """Files of a result of the register that the study is to have."""
    each = {"": [None], "pairs": pairs, "jumprelu_pairs": jumprelu_pairs}[result.each]
    found = [
        file for pair in each if result.figure for file in figure(result.name, pair)
    ]
    if result.table:
        found += [f"<results>/tables/{result.name}.csv"]
    if result.table or not result.figure:
        found += [f"<results>/report/{result.name}.html"]
    return found


def one_of(choices):
    """Pattern of these names; of no name at all where there are none."""
    return "|".join(map(re.escape, choices)) or "(?!)"


wildcard_constraints:
    sae=one_of(all_saes),
    pair=one_of([*pairs, *seed_pairs]),
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
    return {"code": code[rule], **settings}


def drawing(rule, **settings):
    """Params of a rule that draws."""
    return job(rule, **settings, dpi=study["figures"]["dpi"])


def chosen(section, *keys):
    """Some keys of a section of the config."""
    return {key: study[section][key] for key in keys}


def folder_hash(folder):
    """SHA-256 of the files in a folder of the repository: what a page is made of besides code."""
    digest = hashlib.sha256()
    for path in sorted((Path(workflow.basedir) / folder).iterdir()):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def literal(path):
    """A path from the config as input of a rule: itself, or a link to it where it has braces.

    Snakemake takes what stands in braces for a wildcard, and knows no way to say otherwise.
    """
    if not set("{}") & set(path):
        return path
    folder, name = os.path.split(os.path.abspath(path))
    plain = re.sub("[{}]", "_", name)
    # Files may look for others beside them, so that where it can be the folder is what is linked.
    target = folder if plain == name else os.path.join(folder, name)
    link = Path(".snakemake", "names", hashlib.sha256(target.encode()).hexdigest()[:16])
    if plain != name:
        link = link / plain
    link.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        link.symlink_to(target)
    return str(link / name if plain == name else link)


def shards(split):
    """Activation shards of a split, in order."""
    n = study["activations"][f"{split}_shards"]
    return [f"{results}/activations/{split}/{shard:04d}.h5" for shard in range(n)]


def shard_file(path):
    """A shard of activations, which goes when its last reader is done where the study says so."""
    return temp(path) if study["activations"]["temporary"] else path


def commits(*parts):
    """Files that say which commits of the hub these parts of the study are, if they come from it."""
    return [
        f"{results}/hub/commits/{repository}.json"
        for repository, reference in repositories.items()
        if any(hub.get(part) == reference for part in parts)
    ]


def pretrained_source(name):
    """Where a pretrained SAE comes from; local files are inputs, and where they lie is no matter."""
    source = pretrained[name]["pretrained"]
    where = ("repo", "path") if source["repo"] else ()
    published = source["published"] or {}
    return {
        **{key: source[key] for key in (*where, "format", "trust")},
        "model": published.get("model") or "",
        "settings": published.get("settings", {}),
    }


def published_numbers(*keys):
    """What SAELens's registry tells of the SAEs that are named by their release, where it does."""
    told = {
        name: sae["pretrained"]["published"] or {} for name, sae in pretrained.items()
    }
    numbers = {
        name: {key: facts[key] for key in keys if facts.get(key) is not None}
        for name, facts in told.items()
    }
    return {name: found for name, found in numbers.items() if found}


def pretrained_files(wildcards):
    """Local files of a pretrained SAE, or the folder of those that were fetched from the hub."""
    source = pretrained[wildcards.sae]["pretrained"]
    if source["repo"] is not None:
        return {
            "fetched": f"{results}/hub/saes/{wildcards.sae}",
            "commits": commits(f"saes/{wildcards.sae}"),
        }
    layout = formats.find_local(source["path"], source["format"])
    # Not every format has settings.
    parts = {"weights": layout.weights, "settings": layout.settings, "run": layout.run}
    return {key: literal(str(path)) for key, path in parts.items() if path is not None}


def selection_shard():
    """Training activations on which latents are selected."""
    return shards("train")[:1]


def recipe_inputs(wildcards):
    """What stitching an SAE reads: other SAEs, tokens and θ of pairs where it needs them."""
    recipe = stitched[wildcards.sae]
    return {
        "saes": [f"{results}/saes/{name}.h5" for name in stitched_sources(recipe)],
        "activations": selection_shard() if measures(recipe) else [],
        "subgraphs": [f"{results}/subgraphs/{p}.h5" for p in threshold_pairs(recipe)],
    }


def measures(recipe):
    """Whether latents are chosen by their effect, or an SAE may be TopK and needs a threshold."""
    return (
        any(swap["components"] == "improving" for swap in recipe["swap"])
        or any(insert["select"] != "novel" for insert in recipe["insert"])
        or any(
            saes[name].get("architecture", "topk") == "topk"
            and not is_jumprelu(saes[name])
            for name in stitched_sources(recipe)
            if name in saes
        )
    )


def threshold_pairs(recipe):
    """Pairs whose θ a recipe takes, since it gives none of its own."""
    asked = [
        part["sae"]
        for part in (*recipe["swap"], *recipe["insert"])
        if part["threshold"] is None and part.get("select", "novel") == "novel"
    ]
    return [pair_name(recipe["base"], name) for name in dict.fromkeys(asked)]


def trained_base(name):
    """The SAE that a stitched one goes back to."""
    while name in stitched:
        name = stitched[name]["base"]
    return name


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
    return split_pair_name(wildcards.pair)


def fetched(name):
    """What a study calls a fetched source: a link to the file in the cache."""
    return f"{results}/sources/{name}/{Path(study['sources'][name]['member']).name}"


def cached_source(name):
    """Where a fetched source is kept; its checksum is part of the path, so a new pin is a new file."""
    source = study["sources"][name]
    return (
        f"{cache}/sources/{name}/{source['sha256'][:16]}/{Path(source['member']).name}"
    )


def cached_model(name):
    """Where a converted model is kept, by its checksum and by the code that converts."""
    checksum = study["sources"][name]["sha256"]
    converter = code["prepare_gguf_model"]
    return f"{cache}/models/{name}/{checksum[:16]}-{converter[:8]}"


def model_folder():
    """Folder of a model that rules make or fetch, or None where there is a local one."""
    if "model" in hub:
        return f"{results}/hub/model"
    if model_source.get("kind") == "gguf-model":
        return f"{results}/models/{study['model']['name']}"
    if model_source.get("kind") == "random-model":
        return f"{results}/model"
    return None


def text_inputs():
    """Files that the text is read from, where it is not a local dataset."""
    if study["text"]["source"] == "files":
        return [literal(path) for path in study["text"]["files"]]
    if "text" in hub:
        return [f"{results}/corpus/text.h5"]
    return [fetched(study["text"]["source"])] if text_source else []
