"""Read what the command line names of a config, and end with one line if it cannot be read.

Run by the profiles, before Snakemake reads it.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from sae_stitching.config_files import read_config
from sae_stitching.errors import StudyError


def check(given: argparse.Namespace) -> None:
    """Check the config of Snakemake's arguments."""
    try:
        read_config(given.configfile or [], given.config or [])
    except StudyError as error:
        print(f"error in the config: {error}", file=sys.stderr)
        sys.exit(1)


check(globals()["given"])
