"""Operations one after the other, and what they leave of the error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float, Int


@dataclass(frozen=True)
class Walk:
    """The stitched SAE before the first operation and after each.

    Attributes
    ----------
    n_latents : (operation + 1) int64
    mse : (operation + 1) float64
        Mean over tokens and over d_model.
    l0 : (operation + 1) float64
        Mean number of active latents.
    """

    n_latents: Int[np.ndarray, " operation+1"]
    mse: Float[np.ndarray, " operation+1"]
    l0: Float[np.ndarray, " operation+1"]
