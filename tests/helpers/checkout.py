"""Where things lie in this checkout."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "workflow_scripts"
LIBRARY = SCRIPTS / "sae_stitching"
