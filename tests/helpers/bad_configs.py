"""Configs that are wrong, and the one line that is said of each."""

import datetime
from typing import Any

from helpers.study_configs import DUMP, GREEDY, HUB, REMOVED, STITCHED

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
        "choose auto, saelens, gemma-scope, dictionary-learning, sparsify, gemma-scope-2, "
        "qwen-scope, llama-scope, llama-scope-r1-distill, connor-rob, goodfire, deepseek-r1, "
        "openai or apollo",
    ),
    (
        {"saes[1].pretrained": {**HUB, "trust": ["bos"]}},
        "saes[1].pretrained.trust[0]: 'bos' is unknown; "
        "choose hook, model, revision, center_writing_weights or fold_value_biases",
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
        "sae.safetensors or params.safetensors or checkpoints/final.safetensors; name the folder "
        "of an SAE, or its file of weights",
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
