"""Operations on latents: what a stitched SAE is made by (Section 4.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from jaxtyping import Int


@dataclass(frozen=True)
class Operations:
    """Which operation takes out, or puts in, each latent.

    Attributes
    ----------
    small : (d_small) int64
        Operation that takes the latent out of the smaller SAE, −1 where none does.
    large : (d_large) int64
        Operation that puts the latent of the larger SAE in, −1 where none does.
    n : int
        Number of operations; cumulative ones are applied in this order.
    """

    small: Int[np.ndarray, " d_small"]
    large: Int[np.ndarray, " d_large"]
    n: int

    @classmethod
    def insertions(
        cls, latents: Int[np.ndarray, " operation"], d_small: int, d_large: int
    ) -> Operations:
        """Put latents of the larger SAE in, one an operation, in this order.

        Examples
        --------
        >>> from sae_stitching.stitching.operations import Operations
        >>> Operations.insertions(np.array([2, 0]), d_small=2, d_large=3)
        Operations(small=array([-1, -1]), large=array([ 1, -1,  0]), n=2)
        """
        return cls(_one_by_one([], d_small), _one_by_one(latents, d_large), len(latents))

    @classmethod
    def drops(
        cls, latents: Int[np.ndarray, " operation"], d_small: int, d_large: int
    ) -> Operations:
        """Take latents of the smaller SAE out, one an operation, in this order."""
        return cls(_one_by_one(latents, d_small), _one_by_one([], d_large), len(latents))

    def then(self, later: Operations) -> Operations:
        """Apply these, then others, which act on other latents of the same two SAEs."""
        sides = ((self.small, later.small), (self.large, later.large))
        small, large = (np.where(after >= 0, after + self.n, before) for before, after in sides)
        return Operations(small, large, self.n + later.n)

    @property
    def n_small(self) -> Int[np.ndarray, " operation"]:
        """Latents that each operation takes out, (n) int64."""
        return np.bincount(self.small[self.small >= 0], minlength=self.n)

    @property
    def n_large(self) -> Int[np.ndarray, " operation"]:
        """Latents that each operation puts in, (n) int64."""
        return np.bincount(self.large[self.large >= 0], minlength=self.n)


def _one_by_one(latents: Sequence[int] | np.ndarray, d_sae: int) -> np.ndarray:
    operation_of = np.full(d_sae, -1)
    operation_of[latents] = np.arange(len(latents))
    return operation_of
