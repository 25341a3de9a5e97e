"""activations/<split>/<shard>.h5: what the language model computes at its hook."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sae_stitching.base.record import record, stored

if TYPE_CHECKING:
    from jaxtyping import Float16, Float32, Int32


@record("activations", "activations/{train,eval}/<shard>.h5")
class Shard:
    """Activations of one shard of a split, in the order of sequence and position.

    They lie in chunks of 64 tokens with HDF5's checksum and no compression, as training reads them.
    """

    hook: str
    """Hook of the language model that the activations are of."""
    model: str
    """The language model."""
    d_model: int
    """Size of the activations."""
    split: str
    """train or eval."""
    shard: int
    """Number of the shard, from 0."""
    n_shards: int
    """Shards of the split."""
    context: int = stored(unit="tokens")
    """Length of a sequence, BOS included."""
    activations: Float16[np.ndarray, "token d_model"] | Float32[np.ndarray, "token d_model"]
    """At the hook, as the language model computes them."""
    position: Int32[np.ndarray, " token"]
    """Place of the token in its sequence."""
    sequence: Int32[np.ndarray, " token"]
    """Sequence of the token, counted within the split."""
    provenance: str
    """How they were made, as in every file."""
