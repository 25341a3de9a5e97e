"""SAE stitching: compare sparse autoencoders of different dictionary sizes.

Implements the stitching operation of Leask, Bussmann et al., "Sparse Autoencoders Do Not
Find Canonical Units of Analysis" (ICLR 2025), and what it needs: sparse codes, training,
decoder similarity, insertions, swaps and transitions.
"""

__version__ = "0.1.0"
