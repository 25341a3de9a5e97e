"""SAE stitching: compare sparse autoencoders of different dictionary sizes.

Implements the stitching operation of Leask, Bussmann et al., "Sparse Autoencoders Do Not
Find Canonical Units of Analysis" (ICLR 2025), and what it needs: sparse codes, training,
decoder similarity, insertions, swaps and transitions.

The public names, listed in ``__init__.pyi`` beside this file, are loaded when they are first
used: torch takes seconds to import.
"""

import lazy_loader

__version__ = "0.2.0"

# Modules of this package and the workflow's scripts import from each other directly, never from
# here: which code a result depends on is told by those imports.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
