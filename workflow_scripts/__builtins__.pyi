# For type checkers: what Snakemake puts into a script before it runs.
from typing import Any

snakemake: Any
