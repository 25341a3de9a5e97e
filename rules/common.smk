# The study's config, checked, and what all rules share.

import contextlib
import hashlib
import json
import math
import os
import re
import runpy
import shlex
import sys
from itertools import combinations
from pathlib import Path

from snakemake_interface_executor_plugins.settings import ExecMode

# Jobs on a cluster read this file too, but they are no runs of their own.
is_driver = workflow.exec_mode == ExecMode.DEFAULT

_scripts = Path(workflow.basedir) / "workflow_scripts"
own_code = runpy.run_path(str(_scripts / "own_code.py"))["OwnCode"](_scripts)
try:
    own_code.install()
except ImportError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)

# Hashes of what the rules' scripts run, when the run began: a job that finds its code changed since
# is refused, as its result would be known by the wrong hash. Jobs of a cluster inherit them.
_inherited = "SAE_STITCHING_CODE"
if is_driver or _inherited not in os.environ:
    code = {script.stem: own_code.hash(script.stem) for script in _scripts.glob("*.py")}
    os.environ[_inherited] = json.dumps(code)
else:
    code = json.loads(os.environ[_inherited])

# Snakemake puts the paths of the scripts and of Python into format strings and command lines as they
# are, and on Python's path folders are parted by colons. What that cannot be is said at once.
for _what, _path, _cannot in (
    ("the checkout's folder", str(_scripts.parent.resolve()), f"{{}}{os.pathsep}"),
    ("Python, as it was started,", sys.executable, " \t\n{}'\"\\$`*?[]()<>|&;#!~"),
):
    if _found := sorted(set(_path) & set(_cannot)):
        print(
            f"error: {_path!r}: {_what} has {_found[0]!r} in its path, which Snakemake's jobs cannot "
            "have; move it to a folder of another name",
            file=sys.stderr,
        )
        sys.exit(1)

# Scripts find their job.py before anything else of that name. Snakemake puts their folder at the end
# of the path, and conda's activation leaves nothing of the variable as it is in this process.
_first = shlex.quote(str(_scripts.resolve()))
shell.prefix(f"export PYTHONPATH={_first}${{{{PYTHONPATH:+:$PYTHONPATH}}}}; ")

# What somebody has set for a notebook or to find a bug is not for jobs.
for _name in (
    "MATPLOTLIBRC",
    "MPLBACKEND",
    "NUMBA_DISABLE_JIT",
    "NVIDIA_TF32_OVERRIDE",
    "PYTHONINSPECT",
    "PYTHONOPTIMIZE",
    "PYTHONWARNINGS",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
):
    os.environ.pop(_name, None)

from sae_stitching import formats
from sae_stitching.base.errors import StudyError
from sae_stitching.activations.language_model import model_facts
from sae_stitching.base.names import pair_name, split_pair_name
from sae_stitching.tables.published import PUBLISHED
from sae_stitching.matching.seed_agreement import MATCHED_UP_TO
from sae_stitching.config.study import (
    longest_series,
    series,
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
# SAEs that the explorer shows latent by latent.
explored = [
    *saes,
    *(s for s in stitched if any(s in p for p in study["stitching"]["pairs"])),
]
path = study["stitching"]["transition"]
steps = [pair_name(*step) for step in zip(path, path[1:])]
# Pairs for which ways to select latents are compared.
selection_pairs = steps or pairs
# Series of SAEs that are compared, and the steps from size to size inside them.
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
# Pairs of SAEs trained for the same steps, where the study trains some for different numbers.
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

# Where the report shows what a rule makes; the sections are listed by name, in the paper's order.
SECTIONS = {
    member: section
    for section, members in {
        "1 The study": ("summary", "training_curve"),
        "2 Stitching (Section 4)": ("figure3", "plot_figure4", "figure5", "pairs"),
        "3 Similarity of latents (Appendix A.3)": ("figure7", "figure8"),
        "4 Latent families (Appendix A.4)": ("figure12", "components"),
        "5 Properties of the SAEs (Appendix A.5)": (
            "sae_properties",
            "reproduction",
            "plot_reproduction",
            "cross_entropy",
        ),
        "6 Classifying, swapping, inserting (Appendix A.6)": (
            *(f"figure{number}" for number in range(13, 18)),
        ),
        "7 JumpReLU SAEs (Appendix A.6)": ("plot_figure18", "figure19"),
        "8 Beyond the paper": (
            "orders",
            "significance",
            "seed_agreement",
            "convergence",
            "families",
            "family_transitions",
            "selection",
            "stitched",
        ),
    }.items()
    for member in members
}
# Tables that the report shows, with their titles.
TABLES = {
    "sae_properties": "Properties of the SAEs",
    "pairs": "Pairs of SAEs",
    **(
        {"cross_entropy": "Cross-entropy of the language model"}
        if study["evaluation"]["ce_tokens"]
        else {}
    ),
    "components": "Types of latent families",
    "significance": "Insertion effects that differ from zero",
    **({"seed_agreement": "Agreement of seeds"} if comparisons else {}),
    **(
        {"convergence": "Numbers against the steps of training"}
        if convergence_pairs
        else {}
    ),
    **({"orders": "Orders of insertion"} if steps else {}),
    **(
        {"families": "SAEs of one architecture and seed"}
        if len(compared_series) > 1
        else {}
    ),
    # Without training there are no training activations to select on, unless they are asked for.
    **({"selection": "Ways to select latents"} if trained else {}),
    **({"stitched": "Stitched SAEs"} if stitched else {}),
    **({"reproduction": "The paper and this study"} if study["paper"] else {}),
}


def in_report(path, rule, **labels):
    """Mark a result for the report, with the caption report/<rule>.rst."""
    return report(
        path,
        caption=f"../report/{rule}.rst",
        category=SECTIONS[rule],
        labels=labels or None,
    )


def figure(name, rule=None, **labels):
    """Files of a figure as `save_figure` writes them; the report shows the PNG."""
    prefix = f"{results}/figures/{name}"
    shown = {"Figure": name.removeprefix("figure").partition("_{")[0].replace("_", " ")}
    return [
        f"{prefix}.pdf",
        in_report(f"{prefix}.png", rule or name, **shown, **labels),
        f"{prefix}.csv",
    ]


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
    return {key: source[key] for key in (*where, "format", "trust")}


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
    return {
        key: literal(str(path))
        for key, path in (("weights", layout.weights), ("settings", layout.settings))
        if path is not None
    }


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


# Resources. They follow the size of the work as far as the config tells it. What only the data can
# tell is assumed: the d_model of Gemma 2 2B while the model is not fetched, ten million tokens
# where no number of sequences is set, and cores that multiply matrices at 20 GFLOP/s.

d_model = (model_source or model_facts(model_folder() or study["model"]["name"])).get(
    "d_model", 2304
)


def scaled(amount):
    """A resource: `amount`, or what it gives for the wildcards, once more at every attempt."""

    def resource(wildcards, attempt):
        return math.ceil(attempt * (amount(wildcards) if callable(amount) else amount))

    return resource


def matrix_mb(*names):
    """Megabytes of a float32 matrix (d_sae, d_model) of each of these SAEs."""
    return sum(4e-6 * sizes[name] * d_model for name in names)


def agreement_mb(comparison):
    """Megabytes of matching two SAEs of one size: their cosines, and twice more in float64."""
    d_sae = min(comparison["d_sae"], MATCHED_UP_TO)
    return 2 * matrix_mb(comparison["sae"]) + 24e-6 * d_sae**2


def n_tokens(split):
    """Tokens of a split."""
    sequences = study["tokens"][f"max_{split}_sequences"]
    if sequences is not None:
        return sequences * study["tokens"]["context"]
    return 10e6 * (study["tokens"]["eval_fraction"] if split == "eval" else 1)


def product_minutes(rows, *names):
    """Minutes of the product of `rows` vectors of d_model with a matrix of each of these SAEs."""
    return sum(2 * rows * sizes[name] * d_model for name in names) / 20e9 / 60


def stitching_mb(wildcards):
    """Memory of a pass over a pair's codes: both decoders in float64, and a block of tokens."""
    return 1500 + 2 * matrix_mb(*names(wildcards))


def orders_mb(wildcards):
    """Megabytes of a job that walks through many orders: also a block of latent by latent."""
    entries = min(sum(sizes[name] for name in names(wildcards)) ** 2, 2**28)
    return stitching_mb(wildcards) + 25e-6 * entries


def stitching_minutes(wildcards):
    """Minutes of a pass over a pair's codes, at a thousand tokens a second."""
    return 30 + n_tokens("eval") / 60e3


def selection_mb(*names):
    """Memory of choosing among latents: tokens, codes, and decoders in float64 several times."""
    tokens = study["stitching"]["selection_tokens"]
    return 2000 + 1e-6 * tokens * (8 * d_model + 4000) + 10 * matrix_mb(*names)


def selection_minutes(*names):
    """Minutes of choosing among latents, each SAE encoded a few times."""
    tokens = study["stitching"]["selection_tokens"]
    return 30 + tokens / 10e3 + 10 * product_minutes(tokens, *names)


def training_mb(wildcards):
    """Memory of training: the matrices with gradients and moments, and a batch before sparsity."""
    sae = saes[wildcards.sae]
    batch = 4e-6 * sae["batch_size"] * sae["d_sae"]
    buffer = 4e-6 * sae["shuffle_buffer"] * d_model
    return 2000 + 12 * matrix_mb(wildcards.sae) + 4 * batch + 2 * buffer


def training_minutes(wildcards):
    """Minutes of training on two cores; no more than two days, since more is for a GPU."""
    sae = saes[wildcards.sae]
    # The encoder's product is dense; the rest of a step takes no longer than that.
    steps = 2 * product_minutes(sae["steps"] * sae["batch_size"], wildcards.sae)
    return min(60 + steps, 2880)
