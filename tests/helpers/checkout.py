"""Where things lie in this checkout, and copies of it."""

import shutil
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "workflow_scripts"
LIBRARY = SCRIPTS / "sae_stitching"
# What a checkout needs to run, beside its scripts.
PARTS = ("Snakefile", "config.yaml", "envs", "presets", "profiles", "report", "rules", "schemas")


def copy_checkout(folder: Path) -> Path:
    """Copy what a checkout needs to run."""
    folder.mkdir(parents=True)
    for part in PARTS:
        kind = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        kind(ROOT / part, folder / part)
    no_cache = shutil.ignore_patterns("__pycache__")
    shutil.copytree(SCRIPTS, folder / SCRIPTS.name, ignore=no_cache)
    return folder


def files(folder: Path) -> set[str]:
    """Paths below a folder of all files in it."""
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
