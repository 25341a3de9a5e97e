"""Operations one after the other, and what they leave of the error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sae_stitching.base.record import record, stored

if TYPE_CHECKING:
    from jaxtyping import Float64, Int64


@record()
class Walk:
    """The stitched SAE before the first operation and after each."""

    n_latents: Int64[np.ndarray, " operation+1"] = stored(unit="latents")
    """Latents of the stitched SAE."""
    mse: Float64[np.ndarray, " operation+1"] = stored(unit="activation²")
    """Mean over tokens and over d_model."""
    l0: Float64[np.ndarray, " operation+1"] = stored(unit="latents a token")
    """Mean number of active latents."""
