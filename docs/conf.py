"""How Sphinx builds the documentation."""

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "extensions"))
sys.path.insert(0, str(Path(__file__).parent.parent / "workflow_scripts"))

from docutils import nodes
from sae_stitching import __all__ as public
from sae_stitching import __version__
from sphinx.addnodes import pending_xref

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


def unlink_dimensions(_: Any, document: nodes.document) -> None:
    """Leave the words of a shape as they are, such as Float[Tensor, "token d_model"].

    Sphinx takes them for names, and where several classes have an attribute of that name it warns
    that it cannot tell which is meant.
    """
    for reference in list(document.findall(pending_xref)):
        name = reference["reftarget"]
        if reference["refdomain"] == "py" and "." not in name and name not in public:
            reference.replace_self(reference.children)


def setup(app: Any) -> None:
    """Register what is done to every page."""
    app.connect("doctree-read", unlink_dimensions)
