"""A small config to change."""

import copy
import re
from pathlib import Path
from typing import Any

import yaml
from helpers.checkout import ROOT
from sae_stitching.config.study import load_study

SCHEMA_PATH = ROOT / "schemas" / "config.schema.yaml"
SCHEMA = yaml.safe_load(SCHEMA_PATH.read_text(encoding="utf-8"))
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
