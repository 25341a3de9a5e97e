"""How Sphinx builds the documentation."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))
sys.path.insert(0, str(Path(__file__).parent.parent / "workflow_scripts"))

from sae_stitching import __version__

project = "SAE stitching"
author = "The SAE stitching authors"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "config_keys",
]
# tutorial.ipynb is shown, which is made from tutorial.md and has its pictures.
exclude_patterns = ["_build", "tutorial.md"]
html_theme = "furo"
html_title = project

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"

# A word in single backticks is a name.
default_role = "code"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
