"""The config: what is accepted, what it resolves to, and what is said of what is not."""

import copy
import datetime
import json
import re
import string
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from sae_stitching.base.errors import StudyError
from sae_stitching.base.names import pair_name, split_pair_name
from sae_stitching.config.study import (
    is_jumprelu,
    load_study,
    own_stitched,
    sae_sizes,
    seed_groups,
    stitched_sources,
)
from snakemake.common.configfile import load_configfile
from snakemake.utils import update_config

ROOT = Path(__file__).parents[2]
SCHEMA_PATH = ROOT / "schemas" / "config.schema.yaml"
SCHEMA = yaml.safe_load(SCHEMA_PATH.read_text(encoding="utf-8"))
PRESETS = sorted((ROOT / "presets").glob("*.yaml"))

RANDOM = {"kind": "random-model", "n_layers": 2, "d_model": 32, "n_heads": 2, "context": 64}
DUMP = {
    "kind": "mediawiki-dump",
    "package": "gensim",
    "version": "4.4.0",
    "wheel_sha256": "0" * 64,
    "member": "text.bz2",
    "sha256": "a" * 64,
}
CONFIG = {
    "study": "test",
    "sources": {"small": RANDOM, "wiki": DUMP},
    "model": {"name": "small", "hook": "blocks.1.hook_resid_pre"},
    "text": {"source": "wiki"},
    "tokens": {"context": 32},
    "saes": [{"d_sae": 64}, {"d_sae": 128}, {"d_sae": 256}],
}
HUB = {"repo": "somebody/saes", "revision": "0123456789abcdef" * 2 + "01234567", "path": "768"}
REMOVED = object()
STITCHED = {"name": "mixed", "base": 64, "insert": [{"sae": 128, "select": "novel"}]}
GREEDY = {"sae": 128, "select": "greedy"}


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """Copy CONFIG with values set at dotted paths."""
    config = copy.deepcopy(CONFIG)
    for path, value in changes.items():
        *parents, last = [int(p) if p.isdigit() else p for p in re.split(r"[.\[\]]+", path) if p]
        place: Any = config
        for parent in parents:
            place = place[parent] if isinstance(place, list) else place.setdefault(parent, {})
        if value is REMOVED:
            del place[last]
        else:
            place[last] = copy.deepcopy(value)
    return config


def load(changes: dict[str, Any] | None = None, base: Path = ROOT) -> dict[str, Any]:
    return load_study(changed(changes or {}), SCHEMA_PATH, base)


COMPLAINTS: list[tuple[dict[str, Any], str]] = [
    # Keys
    ({"training.lrr": 1.0}, "training.lrr: unknown key; did you mean lr?"),
    ({"trainings": {}}, "trainings: unknown key; did you mean training?"),
    ({"saes[1].dsae": 5}, "saes[1].dsae: unknown key; did you mean d_sae?"),
    ({"model.HOOK": "x"}, "model.HOOK: unknown key; did you mean hook?"),
    ({"threshold": 0.7}, "threshold: unknown key; did you mean stitching.threshold?"),
    ({"similarity.context": 3}, "similarity.context: unknown key; did you mean tokens.context?"),
    (
        {"dtype": "float32"},
        "dtype: unknown key; did you mean model.dtype or activations.dtype?",
    ),
    ({"figures.colour": "red"}, "figures.colour: unknown key; the keys here are dpi"),
    ({"sources.small.layers": 3}, "sources.small.layers: unknown key; did you mean n_layers?"),
    (
        {"sources.small.package": "x"},
        "sources.small.package: unknown key; the keys here are kind, architecture, n_layers, "
        "d_model, n_heads, context, seed",
    ),
    ({"tokens": {1: 2}}, "tokens.1: the key is not text; put it in quotes"),
    ({"training": {True: 2}}, "training.True: the key is not text; put it in quotes"),
    ({"figures": {"a\nb": 2}}, "figures.'a\\nb': unknown key; the keys here are dpi"),
    ({"study": REMOVED}, "study: this key is missing, and it has no default; give it"),
    ({"model.hook": REMOVED}, "model.hook: this key is missing, and it has no default; give it"),
    ({"saes[2]": {"k": 3}}, "saes[2].d_sae: this key is missing, and it has no default; give it"),
    (
        {"sources.wiki.sha256": REMOVED},
        "sources.wiki.sha256: this key is missing, and it has no default; give it",
    ),
    (
        {"sources.new": {"package": "x"}},
        "sources.new.kind: this key is missing, and it has no default; give it",
    ),
    # Types
    (
        {"training.lr": "1e-3"},
        "training.lr: '1e-3' is text, not a number; YAML needs a decimal point: 1.0e-3",
    ),
    (
        {"saes[1].lr": "1.0e3"},
        "saes[1].lr: '1.0e3' is text, not a number; YAML needs a sign on the exponent: 1.0e+3",
    ),
    (
        {"training.sparsity_coefficient": "1e0"},
        "training.sparsity_coefficient: '1e0' is text, not a number; YAML needs a decimal point "
        "and a sign on the exponent: 1.0e+0",
    ),
    (
        {"training.lr": "1.0e-3"},
        "training.lr: '1.0e-3' is text, not a number; write 1.0e-3 without quotes",
    ),
    (
        {"stitching.threshold": "7e-1"},
        "stitching.threshold: '7e-1' is text, not a number; YAML needs a decimal point: 7.0e-1",
    ),
    (
        {"training.steps": "1e3"},
        "training.steps: '1e3' is text, not a whole number; write 1000 without quotes",
    ),
    (
        {"saes[1].d_sae": "768"},
        "saes[1].d_sae: '768' is text, not a whole number; write 768 without quotes",
    ),
    (
        {"saes[1].d_sae": "big"},
        "saes[1].d_sae: 'big' is text, not a whole number; give a whole number",
    ),
    ({"saes[0].d_sae": 64.5}, "saes[0].d_sae: 64.5 is not a whole number; give one"),
    (
        {"training.steps": True},
        "training.steps: true is not a whole number; give a whole number "
        "(YAML reads yes, no, on and off as true and false)",
    ),
    (
        {"study": False},
        "study: false is not text; put it in quotes "
        "(YAML reads yes, no, on and off as true and false)",
    ),
    (
        {"activations.skip_first_position": 1},
        "activations.skip_first_position: 1 is a number, not true or false; give true or false",
    ),
    (
        {"model.center_writing_weights": "yes"},
        "model.center_writing_weights: 'yes' is text, not true or false; give true or false",
    ),
    (
        {"training.steps": None},
        "training.steps: nothing is given; give a whole number, or remove the key for its default",
    ),
    ({"model.name": None}, "model.name: nothing is given; give text"),
    (
        {"tokens": None},
        "tokens: nothing is given; give a mapping (key: value), or remove the key for its default",
    ),
    ({"study": 768}, 'study: 768 is a number, not text; put it in quotes: "768"'),
    (
        {"sources.wiki.python_version": 3.11},
        'sources.wiki.python_version: 3.11 is a number, not text; put it in quotes: "3.11"',
    ),
    (
        {"study": datetime.date(2024, 5, 1)},
        'study: YAML reads 2024-05-01 as a date; put it in quotes: "2024-05-01"',
    ),
    ({"cache": b"x"}, "cache: bytes is no type for a config; give text or number"),
    (
        {"saes": {"a": {"d_sae": 5}}},
        "saes: this is a mapping, not a list; begin each entry with '- '",
    ),
    (
        {"training": [1]},
        "training: this is a list, not a mapping (key: value); give a mapping (key: value)",
    ),
    (
        {"text.files": "corpus/*.txt"},
        "text.files: 'corpus/*.txt' is text, not a list; write ['corpus/*.txt']",
    ),
    ({"stitching.transition": 3}, "stitching.transition: 3 is a number, not a list; give a list"),
    # Ranges and choices
    (
        {"saes[0].d_sae": -5},
        "saes[0].d_sae: -5 is out of range; give a whole number at least 1",
    ),
    (
        {"activations.eval_shards": 0},
        "activations.eval_shards: 0 is out of range; give a whole number at least 1",
    ),
    (
        {"tokens.eval_fraction": 1},
        "tokens.eval_fraction: 1 is out of range; give a number above 0 and below 1",
    ),
    (
        {"tokens.eval_fraction": 0.0},
        "tokens.eval_fraction: 0.0 is out of range; give a number above 0 and below 1",
    ),
    ({"tokens.context": 1}, "tokens.context: 1 is out of range; give a whole number at least 2"),
    ({"training.lr": 0}, "training.lr: 0 is out of range; give a number above 0"),
    ({"training.lr": float("nan")}, "training.lr: nan is not a finite number; give one"),
    (
        {"training.betas[1]": 1.0, "training.betas": [0.9, 1.0]},
        "training.betas[1]: 1.0 is out of range; give a number at least 0 and below 1",
    ),
    ({"training.betas": [0.9]}, "training.betas: the list has 1 entry; give exactly 2"),
    (
        {"stitching.threshold": -1},
        "stitching.threshold: -1 is out of range; give a number above -1 and at most 1",
    ),
    (
        {"stitching.threshold": 1.5},
        "stitching.threshold: 1.5 is out of range; give a number above -1 and at most 1",
    ),
    (
        {"stitching.threshold": "atuo"},
        "stitching.threshold: 'atuo' is unknown; give a number above -1 and at most 1, or auto",
    ),
    (
        {"similarity.floor": 1},
        "similarity.floor: 1 is out of range; give a number at least -1 and below 1",
    ),
    (
        {"training.seed": -1},
        "training.seed: -1 is out of range; give a whole number at least 0 and at most 4294967295",
    ),
    (
        {"model.dtype": "float16"},
        "model.dtype: 'float16' is unknown; choose auto, bfloat16 or float32",
    ),
    (
        {"saes[0].architecture": "gatid"},
        "saes[0].architecture: 'gatid' is unknown; choose relu, topk, batchtopk, jumprelu or gated",
    ),
    (
        {"sources.small.kind": "model"},
        "sources.small.kind: 'model' is unknown; choose gguf-model, mediawiki-dump or random-model",
    ),
    (
        {"stitching.pairs": "some"},
        "stitching.pairs: 'some' is unknown; "
        "give all, adjacent, family or a list of pairs such as [[small, large]]",
    ),
    ({"model.name": "a\nb"}, "model.name: 'a\\nb' is not allowed; write it on one line"),
    (
        {"training.steps": 2**64},
        "training.steps: the number has too many digits; give a smaller one",
    ),
    ({"text.separator": ""}, "text.separator: the text is empty; give one or remove the key"),
    # Names
    (
        {"study": "../other"},
        "study: '../other' is not allowed; "
        "use letters, digits, '.', '_' and '-', with a letter or digit first",
    ),
    (
        {"study": "name\n"},
        "study: 'name\\n' is not allowed; "
        "use letters, digits, '.', '_' and '-', with a letter or digit first",
    ),
    (
        {"sources.my wiki": DUMP},
        "sources.my wiki: 'my wiki' is not allowed; "
        "use letters, digits, '.', '_' and '-', with a letter or digit first",
    ),
    (
        {"saes[0].name": "a--b"},
        "saes[0].name: 'a--b' is not allowed; use letters, digits, '.', '_' and single '-' "
        "between them, with a letter or digit first ('--' stands between the SAEs of a pair)",
    ),
    (
        {"saes[0].name": 21 * "x"},
        "saes[0].name: xxxxxxxxxxxxxxxxxxxxx repeats 'x' 20 times at its end, which Snakemake does "
        "not allow; choose another name",
    ),
    (
        {"stitched": [{**STITCHED, "name": "a" + 20 * "01"}]},
        "stitched[0].name: a0101010101010101010101010101010101010101 repeats '01' 20 times at its "
        "end, which Snakemake does not allow; choose another name",
    ),
    (
        {"sources.wiki.sha256": "A1"},
        "sources.wiki.sha256: 'A1' is not allowed; "
        "give the 64 lower-case hexadecimal digits that sha256sum prints",
    ),
    (
        {"sources.files": DUMP},
        "sources.files: text.source has its own meaning for this name; choose another",
    ),
    # Model
    (
        {"sources.small.n_heads": 3},
        "sources.small.d_model: 32 does not suit 3 heads; give a multiple of 6",
    ),
    (
        {"model.name": "wiki"},
        "model.name: wiki is a source of kind mediawiki-dump, not a model; "
        "name a source of kind gguf-model or random-model",
    ),
    ({"model.name": "smal"}, "model.name: 'smal' is unknown; did you mean small?"),
    (
        {"model.name": "./nowhere"},
        "model.name: there is no folder ./nowhere; "
        "check the path (a relative one starts from the working directory)",
    ),
    (
        {"model.name": "models/nowhere/"},
        "model.name: there is no folder models/nowhere/; "
        "check the path (a relative one starts from the working directory)",
    ),
    (
        {"model.name": "schemas/"},
        "model.name: schemas/ holds no config.json; name a folder that save_pretrained wrote",
    ),
    (
        {"model.hook": "blocks.2.hook_resid_pre"},
        "model.hook: blocks.2.hook_resid_pre is beyond small, which has 2 layers (0 to 1)",
    ),
    (
        {"tokens.context": 65},
        "tokens.context: 65 tokens are more than small can read at once; give 64 or less",
    ),
    # Text
    (
        {"text.source": "wikki"},
        "text.source: 'wikki' is unknown; did you mean wiki?",
    ),
    (
        {"text.source": "pile"},
        "text.source: 'pile' is unknown; did you mean files?",
    ),
    (
        {"text.source": "zz"},
        "text.source: 'zz' is unknown; choose wiki, files or dataset",
    ),
    (
        {"text.source": "small"},
        "text.source: small is a source of kind random-model, not a text; "
        "name a source of kind mediawiki-dump",
    ),
    (
        {"text.source": "files"},
        "text.files: no file is named; give some, such as [corpus/*.txt]",
    ),
    (
        {"text.source": "files", "text.files": ["presets/tiny.txt", "none/*.txt"]},
        "text.files[1]: no file matches none/*.txt; "
        "check the path (a relative one starts from the working directory)",
    ),
    (
        {"text.source": "dataset"},
        "text.dataset.path: this key is missing; name the dataset, as for load_dataset",
    ),
    # Shards
    (
        {"tokens.max_train_sequences": 3},
        "activations.train_shards: 4 shards are more than the 3 sequences that "
        "tokens.max_train_sequences keeps; give 3 or less",
    ),
    (
        {"activations.eval_shards": 10_001},
        "activations.eval_shards: 10001 files are too many, each with a job of its own; give 10000 "
        "or less",
    ),
    # What would come out in a job only
    (
        {"tokens.context": 2},
        "tokens.context: of 2 tokens, the first of which activations.skip_first_position leaves "
        "out, none can be predicted; give 3 or more, or evaluation.ce_tokens: 0",
    ),
    (
        {"text.max_documents": 1},
        "text.max_documents: of 1 document none is left to train on, or none to evaluate on; give "
        "2 or more",
    ),
    (
        {"tokens.max_train_sequences": 50, "training.batch_size": 1551},
        "training.batch_size: 1551 tokens a batch of SAE 64 are more than the 1550 that "
        "tokens.max_train_sequences leaves; give 1550 or less",
    ),
    (
        {"sources.small.architecture": "llama", "model.center_writing_weights": True},
        "model.center_writing_weights: small normalises by RMS, which sees the mean, so centring "
        "would change the model; only LayerNorm models allow it",
    ),
    # SAEs
    ({"saes": [{"d_sae": 64}]}, "saes: the list has 1 entry; give at least 2"),
    ({"saes": []}, "saes: the list has 0 entries; give at least 2"),
    (
        {"saes[1].d_sae": 64},
        "saes[1].name: saes[0] is named 64 too; give each its own name, such as 64-b",
    ),
    (
        {"saes[0].name": "A", "saes[2].name": "a"},
        "saes[2].name: saes[0] is named A too; give each its own name, such as a-b",
    ),
    (
        {"saes[0].architecture": "topk", "training.k": 65},
        "training.k: 65 is more than the 64 latents of SAE 64; give 64 or less",
    ),
    # Pretrained SAEs
    (
        {"saes[1].pretrained": {}},
        "saes[1].pretrained.path: this key is missing, and it has no default; give it",
    ),
    (
        {"saes[1].pretrained": {**HUB, "revison": 1}},
        "saes[1].pretrained.revison: unknown key; did you mean revision?",
    ),
    (
        {"saes[1].pretrained": HUB, "saes[1].lr": 1.0},
        "saes[1].lr: this SAE is not trained but read from files; remove this key or pretrained",
    ),
    (
        {"saes[1].pretrained": {**HUB, "repo": "gpt2"}},
        "saes[1].pretrained.repo: 'gpt2' is not allowed; write it as owner/name",
    ),
    (
        {"saes[1].pretrained": {**HUB, "revision": "0123abc"}},
        "saes[1].pretrained.revision: '0123abc' is not allowed; "
        "give all 40 digits of a commit, in quotes, or a branch or a tag",
    ),
    (
        {"saes[1].pretrained": {"repo": HUB["repo"], "path": "768"}},
        "saes[1].pretrained.revision: this key is missing; give the commit of somebody/saes, "
        "all 40 digits",
    ),
    (
        {"saes[1].pretrained": {"revision": HUB["revision"], "path": "768"}},
        "saes[1].pretrained.revision: a local path has no revision; remove it or name a repo",
    ),
    (
        {"saes[1].pretrained": {**HUB, "path": "../768"}},
        "saes[1].pretrained.path: ../768 is no path inside a repository; give one",
    ),
    (
        {"saes[1].pretrained": {**HUB, "format": "sae-lens"}},
        "saes[1].pretrained.format: 'sae-lens' is unknown; "
        "choose auto, saelens, gemma-scope, dictionary-learning or sparsify",
    ),
    (
        {"saes[1].pretrained": {**HUB, "trust": ["bos"]}},
        "saes[1].pretrained.trust[0]: 'bos' is unknown; "
        "choose hook, model, revision or center_writing_weights",
    ),
    (
        {"saes[1].pretrained": {**HUB, "trust": "hook"}},
        "saes[1].pretrained.trust: 'hook' is text, not a list; write ['hook']",
    ),
    (
        {"saes[1].pretrained": {"path": "nowhere"}},
        "saes[1].pretrained.path: there is no file or folder nowhere; check the path (a relative "
        "one starts from the working directory), or name the repo that holds it",
    ),
    (
        {"saes[1].pretrained": {"path": "."}},
        "saes[1].pretrained.path: .: there is no sae_weights.safetensors or params.npz or ae.pt or "
        "sae.safetensors; name the folder of an SAE",
    ),
    # The paper
    (
        {"paper": "gpt2"},
        "paper: 'gpt2' is unknown; choose gpt2-small or gemma-2-2b, or remove the key",
    ),
    (
        {"paper": "gemma-2-2b"},
        "paper: no SAE of the study is named as one of gemma-2-2b (16384, 32768); name them after "
        "their sizes or remove the key",
    ),
    (
        {"training.architecture": "batchtopk", "saes[1].k": 129},
        "saes[1].k: 129 is more than the 128 latents of SAE 128; give 128 or less",
    ),
    (
        {"saes[1].steps": 50},
        "training.lr_warmup_steps: 100 is more than the 50 steps of SAE 128; give fewer",
    ),
    # Stitching
    (
        {"stitching.pairs": [[64, 129]]},
        "stitching.pairs[0][1]: there is no SAE named 129; did you mean 128?",
    ),
    (
        {"stitching.pairs": [["xyz", 128]]},
        "stitching.pairs[0][0]: there is no SAE named xyz; choose 64, 128 or 256",
    ),
    (
        {"stitching.pairs": [[64, 64]]},
        "stitching.pairs[0]: 64 cannot be paired with itself; name two SAEs",
    ),
    (
        {"stitching.pairs": [[64, 128], [128, 256], ["64", "128"]]},
        "stitching.pairs[2]: [64, 128] is given twice, first as stitching.pairs[0]; remove one",
    ),
    (
        {"stitching.pairs": [[128, 64]]},
        "stitching.pairs[0]: 128 (128 latents) is larger than 64 (64); "
        "put the smaller first: [64, 128]",
    ),
    (
        {"stitching.pairs": [[64, 128, 256]]},
        "stitching.pairs[0]: the list has 3 entries; give exactly 2",
    ),
    (
        {"stitched": [STITCHED], "stitching.pairs": [["mixd", 256]]},
        "stitching.pairs[0][0]: there is no SAE named mixd; did you mean mixed?",
    ),
    (
        {"stitched": [STITCHED], "stitching.transition": [64, "mixed"]},
        "stitching.transition[1]: mixed is a stitched SAE, whose size is known only when it is "
        "made; name SAEs of saes",
    ),
    # Stitched SAEs
    ({"stitched": {}}, "stitched: this is a mapping, not a list; begin each entry with '- '"),
    (
        {"stitched": [{"base": 64}]},
        "stitched[0].name: this key is missing, and it has no default; give it",
    ),
    (
        {"stitched": [{"name": "a--b", "base": 64}]},
        "stitched[0].name: 'a--b' is not allowed; use letters, digits, '.', '_' and single '-' "
        "between them, with a letter or digit first ('--' stands between the SAEs of a pair)",
    ),
    (
        {"stitched": [{**STITCHED, "bases": 64}]},
        "stitched[0].bases: unknown key; did you mean base?",
    ),
    (
        {"stitched": [{**STITCHED, "base": 129}]},
        "stitched[0].base: there is no SAE named 129; did you mean 128?",
    ),
    (
        {"stitched": [STITCHED], "stitched[0].insert[0].sae": "xyz"},
        "stitched[0].insert[0].sae: there is no SAE named xyz; choose 64, 128 or 256",
    ),
    (
        {"stitched": [{**STITCHED, "base": "mixed"}]},
        "stitched[0].base: mixed cannot be stitched from itself; name another SAE",
    ),
    (
        {"stitched": [{**STITCHED, "base": "later"}, {**STITCHED, "name": "later"}]},
        "stitched[0].base: later is stitched only after mixed; put stitched[1] before it",
    ),
    (
        {"stitched": [STITCHED], "stitched[0].insert[0].sae": 64},
        "stitched[0].insert[0].sae: all latents of 64, the base, are in already; name another SAE",
    ),
    (
        {"stitched": [STITCHED], "stitched[0].swap": [{"sae": "64"}]},
        "stitched[0].swap[0].sae: all latents of 64, the base, are in already; name another SAE",
    ),
    (
        {"stitched": [{"name": "none", "base": 64}]},
        "stitched[0]: nothing is stitched to 64; give swap or insert",
    ),
    (
        {"stitched": [{**STITCHED, "name": 128}]},
        "stitched[0].name: saes[1] is named 128 too; give each its own name, such as 128-stitched",
    ),
    (
        {"stitched": [STITCHED, {**STITCHED, "name": "Mixed"}]},
        "stitched[1].name: stitched[0] is named Mixed too; give each its own name, such as "
        "Mixed-stitched",
    ),
    (
        {"stitched": [STITCHED], "stitched[0].insert[0].select": "best"},
        "stitched[0].insert[0].select: 'best' is unknown; choose novel, effect or greedy",
    ),
    (
        {"stitched": [STITCHED], "stitched[0].insert[0]": {"sae": 128}},
        "stitched[0].insert[0].select: this key is missing, and it has no default; give it",
    ),
    (
        {"stitched": [STITCHED], "stitched[0].insert[0]": {**GREEDY, "n": 129}},
        "stitched[0].insert[0].n: 129 is more than the 128 latents of SAE 128; give 128 or less",
    ),
    (
        {"stitched": [STITCHED], "stitched[0].insert[0]": {**GREEDY, "n": 0}},
        "stitched[0].insert[0].n: 0 is out of range; give a whole number at least 1",
    ),
    (
        {"stitched": [STITCHED], "stitched[0].insert[0].n": 5},
        "stitched[0].insert[0].n: novel latents are as many as there are below the threshold; "
        "remove n, or select by effect or greedy",
    ),
    (
        {"stitched": [STITCHED], "stitched[0].insert[0]": {**GREEDY, "threshold": 0.5}},
        "stitched[0].insert[0].threshold: to select by greedy takes no threshold; remove it, or "
        "select novel",
    ),
    (
        {"stitched": [STITCHED], "stitched[0].insert[0].threshold": -1},
        "stitched[0].insert[0].threshold: -1 is out of range; give a number above -1 and at most 1",
    ),
    (
        {"stitched": [STITCHED], "stitched[0].swap": [{"sae": 128}, {"sae": "128"}]},
        "stitched[0].swap[1].sae: 128 is swapped twice; make it one entry",
    ),
    (
        {"stitched": [STITCHED], "stitched[0].swap": [{"sae": 128, "components": "some"}]},
        "stitched[0].swap[0].components: 'some' is unknown; give all, improving or a list of "
        "numbers such as [0, 3]",
    ),
    (
        {"stitched": [STITCHED], "stitched[0].swap": [{"sae": 128, "components": [3, 0, 3]}]},
        "stitched[0].swap[0].components: 3 is given twice; remove one",
    ),
    (
        {"stitched": [STITCHED], "stitched[0].swap": [{"sae": 128, "components": [0, 128]}]},
        "stitched[0].swap[0].components: there can be no connected subgraph 128 with SAE 128, "
        "which has 128 latents; give 127 or less",
    ),
    (
        {"stitched": [STITCHED], "stitched[0].swap": [{"sae": 128, "components": [-1]}]},
        "stitched[0].swap[0].components[0]: -1 is out of range; give a whole number at least 0",
    ),
    (
        {
            "stitched": [STITCHED],
            "stitching": {"threshold": "auto", "pairs": [[128, 256]], "transition": []},
        },
        "stitched[0].insert[0].threshold: nothing is given, and stitching.threshold is auto, but "
        "[64, 128] is no pair that would have one; give a number, or add it to stitching.pairs",
    ),
    (
        {"stitching.selection_tokens": 0},
        "stitching.selection_tokens: 0 is out of range; give a whole number at least 1",
    ),
    ({"stitching.pairs": []}, "stitching.pairs: the list has 0 entries; give at least 1"),
    (
        {"stitching.pairs": [64, 128]},
        "stitching.pairs[0]: 64 is a number, not a list; give a list",
    ),
    (
        {"stitching.threshold": 0.2},
        "stitching.threshold: 0.2 is below similarity.floor (0.3), and edges under the floor are "
        "not kept; lower similarity.floor",
    ),
    (
        {"stitching.transition": [64]},
        "stitching.transition: one SAE is named; name two or more, or none ([]) for no transition",
    ),
    (
        {"stitching.transition": [64, 65]},
        "stitching.transition[1]: there is no SAE named 65; choose 64, 128 or 256",
    ),
    (
        {"stitching.transition": [128, 64]},
        "stitching.transition: 64 (64 latents) comes after 128 (128); "
        "order the SAEs by growing size",
    ),
    (
        {"stitching.pairs": [[64, 128]], "stitching.transition": [64, 256]},
        "stitching.transition: its step from 64 to 256 is no pair; "
        "add [64, 256] to stitching.pairs or name other SAEs",
    ),
    (
        {"stitching.pairs": [[64, 256]]},
        "stitching.transition: its step from 64 to 128 is no pair; "
        "add [64, 128] to stitching.pairs or name other SAEs",
    ),
]


@pytest.mark.parametrize(("changes", "message"), COMPLAINTS, ids=[m for _, m in COMPLAINTS])
def test_complaint(
    changes: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError) as caught:
        load(changes)
    assert str(caught.value) == message


def test_config_that_is_no_mapping() -> None:
    with pytest.raises(StudyError, match=r"^config: this is a list, not a mapping"):
        load_study([], SCHEMA_PATH)  # type: ignore[arg-type]


def test_complaint_of_the_hook_names_the_key() -> None:
    with pytest.raises(StudyError) as caught:
        load({"model.hook": "nonsense"})
    assert str(caught.value).startswith("model.hook: ")
    assert "\n" not in str(caught.value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
        max_leaves=4,
    ),
    st.sampled_from([*SCHEMA["properties"], "saes[1].d_sae", "saes[0]", "training.betas"]),
)
def test_any_value_is_accepted_or_complained_of_in_one_line(value: Any, path: str) -> None:
    try:
        study = load({"training.betas": [0.9, 0.99], path: value})
    except StudyError as error:
        assert re.fullmatch(r"[a-z]+[^\n]*: [^\n]+", str(error))
    else:
        json.dumps(study, allow_nan=False)


# What a config resolves to


def test_defaults_are_filled_in() -> None:
    study = load()
    assert list(study) == list(SCHEMA["properties"])
    for section, value in study.items():
        if isinstance(value, dict) and section != "sources":
            assert list(value) == list(SCHEMA["properties"][section]["properties"])
    assert study["cache"] == "cache"
    assert study["tokens"] == {
        "context": 32,
        "eval_fraction": 0.1,
        "max_train_sequences": None,
        "max_eval_sequences": None,
        "seed": 0,
    }
    assert study["text"]["dataset"] == {
        "path": None,
        "name": None,
        "split": "train",
        "column": "text",
        "revision": None,
    }
    assert study["sources"]["small"] == {**RANDOM, "architecture": "gpt2", "seed": 0}
    assert study["sources"]["wiki"]["platform"] is None


def test_each_sae_has_all_keys_of_training() -> None:
    study = load(
        {"training.steps": 700, "saes[1]": {"name": "wide", "d_sae": 128, "steps": 900, "k": 7}}
    )
    training = study["training"]
    assert study["saes"] == [
        {"name": "64", "d_sae": 64, **training},
        {"name": "wide", "d_sae": 128, **training, "steps": 900, "k": 7},
        {"name": "256", "d_sae": 256, **training},
    ]
    assert training["steps"] == 700
    assert training["lr"] == 1e-3
    assert all(list(sae) == ["name", "d_sae", *training] for sae in study["saes"])


def test_sae_does_not_depend_on_the_other_saes() -> None:
    alone = load({"saes": [{"d_sae": 64}, {"d_sae": 128, "lr": 2}]})
    among = load({"saes": [{"d_sae": 512}, {"lr": 2.0, "d_sae": 128}, {"d_sae": 64}]})
    assert repr(alone["saes"][1]) == repr(among["saes"][1])


def test_a_pretrained_sae_has_no_key_of_training() -> None:
    study = load({"saes[0]": {"d_sae": 64, "pretrained": HUB}})
    assert study["saes"][0] == {
        "name": "64",
        "d_sae": 64,
        "pretrained": {**HUB, "format": "auto", "trust": []},
    }
    assert study["saes"][1] == {"name": "128", "d_sae": 128, **study["training"]}


@pytest.mark.parametrize(
    ("path", "there", "format"),
    [
        ("folder", ["cfg.json", "sae_weights.safetensors", "sparsity.safetensors"], "saelens"),
        ("folder", ["cfg.json", "sae.safetensors"], "sparsify"),
        ("folder", ["config.json", "ae.pt"], "dictionary-learning"),
        ("folder", ["params.npz"], "gemma-scope"),
        ("folder/params.npz", ["params.npz"], "gemma-scope"),
        ("folder/ae_100.pt", ["ae_100.pt", "config.json", "ae.pt"], "dictionary-learning"),
        ("folder/sae.safetensors", ["cfg.json", "sae.safetensors"], "sparsify"),
    ],
)
def test_the_format_goes_by_the_files(
    tmp_path: Path, path: str, there: list[str], format: str
) -> None:
    (tmp_path / "folder").mkdir()
    for name in there:
        (tmp_path / "folder" / name).write_text("not looked into")
    for wanted in ("auto", format):
        pretrained = {"path": path, "format": wanted}
        study = load({"saes[0].pretrained": pretrained}, base=tmp_path)
        assert study["saes"][0]["pretrained"] == {
            "repo": None,
            "revision": None,
            "path": str(tmp_path / path),
            "format": format,
            "trust": [],
        }
        # Resolved once more, it stays as it is.
        assert load({"saes": study["saes"]}, base=tmp_path)["saes"] == study["saes"]


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/1", HUB["revision"]])
def test_a_revision_may_be_a_branch_or_a_tag(revision: str) -> None:
    study = load({"saes[0].pretrained": {**HUB, "revision": revision}})
    assert study["saes"][0]["pretrained"]["revision"] == revision


def test_files_of_two_formats_and_missing_ones_are_named(tmp_path: Path) -> None:
    def complaint(path: str, format: str = "auto") -> str:
        with pytest.raises(StudyError) as caught:
            load({"saes[0].pretrained": {"path": path, "format": format}}, base=tmp_path)
        return (
            str(caught.value).removeprefix("saes[0].pretrained.path: ").replace(str(tmp_path), "")
        )

    (tmp_path / "sae_weights.safetensors").touch()
    missing = (
        "/cfg.json: no such file, but saelens has it beside sae_weights.safetensors; get it too"
    )
    assert complaint("sae_weights.safetensors") == missing
    assert complaint(str(tmp_path)) == missing
    wrong = ": there is no ae.pt; name the folder of an SAE"
    assert complaint(str(tmp_path), "dictionary-learning") == wrong
    for name in ("cfg.json", "params.npz", "mine.safetensors"):
        (tmp_path / name).write_text("not looked into")
    assert complaint(str(tmp_path)) == ": may be saelens and gemma-scope; name the format"
    unknown = "/mine.safetensors: its name does not tell whose format it is; name the format"
    assert complaint("mine.safetensors") == unknown


@pytest.mark.parametrize(
    ("stitching", "pairs", "transition"),
    [
        ({}, [["a", "b"], ["a", "c"], ["b", "c"]], ["a", "b", "c"]),
        ({"pairs": "adjacent"}, [["a", "b"], ["b", "c"]], ["a", "b", "c"]),
        ({"pairs": [["a", "c"]], "transition": ["a", "c"]}, [["a", "c"]], ["a", "c"]),
        ({"pairs": [["a", "c"]], "transition": []}, [["a", "c"]], []),
    ],
)
def test_pairs_go_by_size(
    stitching: dict[str, Any], pairs: list[list[str]], transition: list[str]
) -> None:
    sizes = [{"name": "c", "d_sae": 9}, {"name": "a", "d_sae": 2}, {"name": "b", "d_sae": 5}]
    study = load({"saes": sizes, "stitching": stitching})
    assert study["stitching"]["pairs"] == pairs
    assert study["stitching"]["transition"] == transition


def test_seeds_of_one_size_are_paired_in_config_order_without_transition() -> None:
    seeds = [{"name": name, "d_sae": 64, "seed": i} for i, name in enumerate("zxy")]
    study = load({"saes": seeds})
    assert study["stitching"]["pairs"] == [["z", "x"], ["z", "y"], ["x", "y"]]
    assert study["stitching"]["transition"] == []
    study = load({"saes": seeds, "stitching.pairs": [["x", "z"], ["z", "x"]]})
    assert study["stitching"]["pairs"] == [["x", "z"], ["z", "x"]]


def test_seeds_are_told_from_other_saes_of_one_size() -> None:
    saes = [
        {"d_sae": 64},
        {"name": "64-b", "d_sae": 64, "seed": 1},
        {"name": "64-k", "d_sae": 64, "seed": 2, "lr": 0.01},
        {"d_sae": 128},
        {"name": "64-c", "d_sae": 64, "seed": 7},
    ]
    assert seed_groups(load({"saes": saes})["saes"]) == [["64", "64-b", "64-c"]]
    assert seed_groups(load({"saes": saes[2:4]})["saes"]) == []


def test_jumprelu_saes_are_known_by_architecture_or_format() -> None:
    assert is_jumprelu({"architecture": "jumprelu"})
    assert is_jumprelu({"pretrained": {"format": "gemma-scope"}})
    assert not is_jumprelu({"architecture": "relu"})
    assert not is_jumprelu({"pretrained": {"format": "saelens"}})


def test_transition_takes_the_first_sae_of_each_size() -> None:
    saes = [{"d_sae": 64}, {"name": "64-b", "d_sae": 64}, {"d_sae": 128}]
    study = load({"saes": saes})
    assert study["stitching"]["transition"] == ["64", "128"]
    saes = [{"d_sae": 64}, {"name": "64-b", "d_sae": 64}, {"d_sae": 128}]
    with pytest.raises(StudyError, match="its step from 64 to 128 is no pair"):
        load({"saes": saes, "stitching.pairs": "adjacent"})


def test_stitched_saes_are_resolved() -> None:
    more = {
        "name": 7,
        "base": "mixed",
        "swap": [{"sae": 256, "threshold": 1, "components": [2, 0]}],
        "insert": [{**GREEDY, "n": 5}, {"sae": 256, "select": "effect"}],
    }
    stitching = {"pairs": [["7", 64], [64, "mixed"]], "transition": []}
    study = load({"stitched": [STITCHED, more], "stitching": stitching})
    novel = {"sae": "128", "select": "novel", "threshold": 0.7, "n": None}
    assert study["stitched"] == [
        {"name": "mixed", "base": "64", "swap": [], "insert": [novel]},
        {
            "name": "7",
            "base": "mixed",
            "swap": [{"sae": "256", "threshold": 1.0, "components": [2, 0]}],
            "insert": [
                {"sae": "128", "select": "greedy", "threshold": None, "n": 5},
                {"sae": "256", "select": "effect", "threshold": None, "n": None},
            ],
        },
    ]
    # Of a stitched SAE the size is not known, so that it can stand on either side.
    assert study["stitching"]["pairs"] == [["7", "64"], ["64", "mixed"]]
    assert load_study(study, SCHEMA_PATH, ROOT) == study
    assert [stitched_sources(recipe) for recipe in study["stitched"]] == [
        ["64", "128"],
        ["mixed", "256", "128"],
    ]
    # The most latents that there can be: none of an SAE twice.
    found = {"64": 64, "128": 128, "256": 256, "mixed": 192, "7": 192 + 5 + 256}
    assert sae_sizes(study) == found


def test_stitched_saes_are_no_pairs_unless_they_are_named() -> None:
    plain, stitched = load(), load({"stitched": [STITCHED]})
    assert stitched["stitching"] == plain["stitching"]
    for pairs in ("all", "adjacent", "family"):
        study = load({"stitched": [STITCHED], "stitching.pairs": pairs})
        assert not any("mixed" in pair for pair in study["stitching"]["pairs"])


def test_an_automatic_threshold_is_that_of_the_pair() -> None:
    study = load({"stitched": [STITCHED], "stitching.threshold": "auto"})
    assert study["stitched"][0]["insert"][0]["threshold"] is None
    assert load_study(study, SCHEMA_PATH, ROOT) == study


def test_the_default_stitched_saes_go_with_the_default_saes() -> None:
    default = changed({"stitched": [STITCHED]})
    assert own_stitched(default, default) == default
    others = {**default, "saes": [{"d_sae": 64}, {"d_sae": 256}]}
    assert own_stitched(others, default)["stitched"] == []
    enough = {**default, "saes": [{"d_sae": 128}, {"name": "64", "d_sae": 60}]}
    assert own_stitched(enough, default) == enough
    # What a study says itself stands, be it wrong.
    own = {**others, "stitched": [{**STITCHED, "name": "mine"}]}
    assert own_stitched(own, default) == own
    # So does what the default study itself says.
    wrong = changed({"stitched": [{**STITCHED, "base": 65}]})
    assert own_stitched(wrong, wrong) == wrong
    for broken in (5, [5], [{"name": "x"}], None):
        bad = {**others, "stitched": broken}
        assert own_stitched(bad, {**default, "stitched": broken}) == bad


def test_what_suffices_is_accepted() -> None:
    assert load({"tokens.context": 3})
    assert load({"tokens.context": 2, "evaluation.ce_tokens": 0})
    assert load({"tokens.context": 2, "activations.skip_first_position": False})
    assert load({"tokens.max_train_sequences": 50, "training.batch_size": 1550})
    assert load({"model.center_writing_weights": True})


def test_numbers_have_one_spelling() -> None:
    first = load({"training.steps": 1.0e3, "training.sparsity_coefficient": 2})
    second = load({"training.sparsity_coefficient": 2.0, "training.steps": 1000})
    assert json.dumps(first) == json.dumps(second)
    assert load({"stitching.threshold": 1})["stitching"]["threshold"] == 1.0
    assert load({"stitching.threshold": "auto"})["stitching"]["threshold"] == "auto"


def test_names_may_be_whole_numbers() -> None:
    study = load({"saes[0].name": 7, "stitching": {"pairs": [[7, 128]], "transition": [7, "128"]}})
    assert study["saes"][0]["name"] == "7"
    assert study["stitching"]["pairs"] == [["7", "128"]]


def test_config_is_left_alone_and_its_order_does_not_matter() -> None:
    config = changed({})
    study = load_study(config, SCHEMA_PATH, ROOT)
    assert config == CONFIG
    backwards = OrderedDict(reversed(config.items()))
    assert json.dumps(load_study(backwards, SCHEMA_PATH, ROOT)) == json.dumps(study)


def test_pair_name_splits_into_the_names() -> None:
    assert pair_name("576", "1152-b") == "576--1152-b"
    assert split_pair_name("576--1152-b") == ("576", "1152-b")


@given(st.lists(st.text(string.ascii_letters + "019._-", min_size=1), min_size=2, max_size=2))
def test_pair_name_of_accepted_names_is_unambiguous(names: list[str]) -> None:
    saes = [{"name": name, "d_sae": 4} for name in names]
    try:
        load({"saes": saes})
    except StudyError:
        return
    assert list(split_pair_name(pair_name(*names))) == names


# Files and folders


def test_text_files_are_matched_in_the_working_directory_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, base = tmp_path / "here", tmp_path / "base"
    for name in ("here/b.txt", "here/a.txt", "here/deep/c.txt", "base/a.txt", "base/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("text")
    (here / "odd[1].txt").write_text("text")
    monkeypatch.chdir(here)

    def files(*patterns: str) -> list[str]:
        return load({"text": {"source": "files", "files": list(patterns)}}, base)["text"]["files"]

    assert files("b.txt", "a.txt", "a.*") == ["a.txt", "b.txt"]
    assert files("**/c.txt", "d.txt") == [str(base / "d.txt"), "deep/c.txt"]
    assert files(str(here / "a.txt")) == [str(here / "a.txt")]
    assert files("odd[1].txt") == ["odd[1].txt"]
    with pytest.raises(StudyError) as caught:
        files("deep")
    assert str(caught.value) == "text.files[0]: deep is a folder; name its files: deep/*.txt"


def test_model_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "models" / "mine"
    folder.mkdir(parents=True)
    with pytest.raises(StudyError, match=r"^model.name: ./models/mine holds no config.json; "):
        load({"model.name": "./models/mine"})
    (folder / "config.json").write_text("{}")
    assert load({"model.name": "models/mine/"})["model"]["name"] == "models/mine"
    assert load({"model.name": str(folder)}, ROOT)["model"]["name"] == str(folder)
    monkeypatch.chdir(ROOT)
    assert load({"model.name": "models/mine"}, tmp_path)["model"]["name"] == str(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load({"model.name": "~/models/mine"})["model"]["name"] == str(folder)
    assert load({"cache": "~/cache"})["cache"] == str(tmp_path / "cache")


def test_other_model_names_are_left_to_transformer_lens() -> None:
    assert load({"model.name": "gpt2"})["model"]["name"] == "gpt2"
    assert load({"model.name": "someone/small"})["model"]["name"] == "someone/small"


def test_keys_of_an_unused_kind_of_text_are_allowed() -> None:
    text = load({"text.files": ["none/*.txt"], "text.dataset.path": "some/data"})["text"]
    assert text["source"] == "wiki"
    assert load({"text.source": "dataset", "text.dataset.path": "some/data"})


# What is shipped


@pytest.mark.parametrize("preset", [None, *PRESETS], ids=lambda path: path.stem if path else "-")
def test_shipped_config(
    preset: Path | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # as with snakemake --directory
    config = load_configfile(ROOT / "config.yaml")
    if preset:
        update_config(config, load_configfile(preset))
    config = own_stitched(config, load_configfile(ROOT / "config.yaml"))
    study = load_study(config, SCHEMA_PATH, ROOT)
    assert json.loads(json.dumps(study, allow_nan=False)) == study
    again = load_study(study, SCHEMA_PATH, ROOT)
    assert json.dumps(again) == json.dumps(study)


def test_studies_have_names_of_their_own() -> None:
    names = [load_configfile(path)["study"] for path in (ROOT / "config.yaml", *PRESETS)]
    assert len(set(names)) == len(names)


def test_tiny_needs_nothing_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_configfile(ROOT / "config.yaml")
    update_config(config, load_configfile(ROOT / "presets" / "tiny.yaml"))
    study = load_study(config, SCHEMA_PATH, ROOT)
    assert study["sources"][study["model"]["name"]]["kind"] == "random-model"
    assert study["text"]["files"] == [str(ROOT / "presets" / "tiny.txt")]
    documents = Path(study["text"]["files"][0]).read_text("utf-8").split(study["text"]["separator"])
    assert len(documents) >= 12


# The schema itself


def walk(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """List every key that a config may have, as (path, schema)."""
    found = []
    for key, sub in schema.get("properties", {}).items():
        found += [(f"{path}.{key}", sub), *walk(sub, f"{path}.{key}")]
    for keyword in ("items", "additionalProperties", "else", "then"):
        if isinstance(sub := schema.get(keyword), dict):
            found += walk(sub, f"{path}.{keyword}")
    for key, sub in schema.get("$defs", {}).items():
        found += [(f"$defs.{key}", sub), *walk(sub, f"$defs.{key}")]
    return found


KEYS = walk(SCHEMA)


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """Follow $ref; what stands beside it goes first."""
    target: Any = SCHEMA
    if "$ref" not in schema:
        return schema
    for part in schema["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return {**resolved(target), **schema}


def test_schema_is_valid() -> None:
    Draft202012Validator.check_schema(SCHEMA)


def test_walk_finds_the_keys() -> None:
    paths = [path for path, _ in KEYS]
    assert {".training.lr", ".saes.items.d_sae", "$defs.gguf-model.sha256"} <= set(paths)


@pytest.mark.parametrize(("path", "sub"), KEYS, ids=[path for path, _ in KEYS])
def test_key_of_the_schema(path: str, sub: dict[str, Any]) -> None:
    full = resolved(sub)
    assert full["description"].endswith("."), path
    if full.get("type") == "object" and "kind" not in full.get("properties", {}):
        assert full["additionalProperties"] is not True
        assert "additionalProperties" in full
    if "pattern" in full:
        assert full["errorMessage"]
    if "default" in full:
        Draft202012Validator(SCHEMA).evolve(schema=sub).validate(full["default"])


def test_every_optional_key_has_a_default() -> None:
    def missing(schema: dict[str, Any], path: str) -> list[str]:
        required = schema.get("required", [])
        return [
            f"{path}.{key}"
            for key, sub in schema.get("properties", {}).items()
            if key not in required and "default" not in sub
        ]

    assert missing(SCHEMA, "") == []
    for path, sub in KEYS:
        assert missing(sub, path) == [], path


def test_sae_entries_may_set_every_key_of_training() -> None:
    keys = SCHEMA["properties"]["saes"]["items"]["properties"]
    training = SCHEMA["properties"]["training"]["properties"]
    assert list(keys) == ["name", "d_sae", "pretrained", *training]
    for key in SCHEMA["properties"]["training"]["properties"]:
        assert keys[key] == {"$ref": f"#/properties/training/properties/{key}"}
