"""corpus/tokens.h5: the sequences that a study trains and evaluates on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sae_stitching.base.record import record, stored

if TYPE_CHECKING:
    from jaxtyping import Int32


@record()
class Split:
    """Sequences of one split."""

    tokens: Int32[np.ndarray, "sequence context"]
    """Numbers in the tokenizer's vocabulary; the first of each sequence is BOS."""
    document: Int32[np.ndarray, " sequence"]
    """Document that each sequence is of, counted as they were read."""


@record("tokens", "corpus/tokens.h5")
class Tokens:
    """Documents cut into sequences of one length, in two splits of whole documents."""

    tokenizer: str
    """The model whose tokenizer it is."""
    context: int = stored(unit="tokens")
    """Length of a sequence, BOS included."""
    bos: int
    """Number of the BOS token."""
    train: Split
    """What SAEs are trained on."""
    eval: Split
    """What they are measured on."""
