"""Read what the command line names of a config, and end with one line if it cannot be read.

Run by the profiles, before Snakemake reads it.
"""

import argparse
import runpy
import sys
from pathlib import Path

_own = runpy.run_path(str(Path(__file__).with_name("own_code.py")))["OwnCode"]
try:
    _own(Path(__file__).parent).install()
except ImportError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(1)

from sae_stitching.base.errors import StudyError
from sae_stitching.config.files import read_config


def check(given: argparse.Namespace) -> None:
    """Check the config of Snakemake's arguments."""
    try:
        read_config(given.configfile or [], given.config or [])
    except StudyError as error:
        print(f"error in the config: {error}", file=sys.stderr)
        sys.exit(1)


check(globals()["given"])
