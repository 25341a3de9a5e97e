"""One pass over the tokens of a pair, and the sums that every effect follows from.

We start from the whole smaller SAE with residual r = x − x̂0. An operation o takes some of its
latents out and puts some of the larger SAE's in. On token t that adds

    d_ot = Σ_{in} W_dec1_i f1_i − Σ_{out} W_dec0_i f0_i

to the reconstruction, and the mixed bias adds βΔb with Δb = b_dec1 − b_dec0. With the residual
without the change in bias, q_t = r_t − Σ_o d_ot over the operations that are applied,

    SSE = Σ_t ‖q_t − βΔb‖² = Σ_t ‖q_t‖² − 2 β Δb·Σ_t q_t + T β² ‖Δb‖².

Σ_t q_t needs only the sum of every latent's activations, so that what is left for each experiment
is Σ_t ‖q_t‖². Everything is computed in float64.

Where SAEs normalise each token, biases are s_t times as large on token t, see `normalization`:

    SSE = Σ_t ‖q_t − s_t βΔb‖² = Σ_t ‖q_t‖² − 2 β Δb·Σ_t s_t q_t + β² ‖Δb‖² Σ_t s_t².
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vecdot

from sae_stitching.base.errors import StudyError
from sae_stitching.base.progress import Progress
from sae_stitching.saes.normalization import scaled
from sae_stitching.sparse.codes import SparseCodes
from sae_stitching.stitching.operations import Operations
from sae_stitching.stitching.pairs import EvalBlock, EvalPair
from sae_stitching.stitching.walks import Walk

if TYPE_CHECKING:
    from jaxtyping import Float, Int


class PairSums:
    """Both decoders, and what `residuals` sums over the tokens.

    Latents are numbered through both SAEs, those of the larger after those of the smaller.

    Parameters
    ----------
    pair
    operations

    Attributes
    ----------
    W_dec, b_dec : tuple of Tensor
        Of the smaller SAE and of the larger, in float64.
    delta_b : (d_model) float64
        Δb.
    operation_of : (d_small + d_large) int64
        Operation that takes out or puts in each latent, −1 where none does.
    latents : (changed) int64
        Those that one does.
    sign : (changed) float64
        −1 for those that go, 1 for those that come.
    n_tokens : int
    bias_weight : float
        Σ_t s_t², which is the number of tokens where all s_t are 1.
    sse_small : float
        Σ_t ‖r_t‖².

    Raises
    ------
    StudyError
        If the operations are of SAEs of other sizes.
    """

    def __init__(self, pair: EvalPair, operations: Operations) -> None:
        self.pair, self.operations = pair, operations
        found = len(operations.small), len(operations.large)
        if found != (pair.small.d_sae, pair.large.d_sae):
            raise StudyError(
                f"subgraphs: of SAEs of {found[0]} and {found[1]} latents, but these have "
                f"{pair.small.d_sae} and {pair.large.d_sae}; delete the subgraphs and run again"
            )
        self.d_small = pair.small.d_sae
        self.operation_of = np.concatenate([operations.small, operations.large])
        self.latents = np.flatnonzero(self.operation_of >= 0)
        self.sign = np.where(self.latents < self.d_small, -1.0, 1.0)
        self.W_dec = pair.small.W_dec.double(), pair.large.W_dec.double()
        self.b_dec = pair.small.b_dec.double(), pair.large.b_dec.double()
        self.delta_b = self.b_dec[1] - self.b_dec[0]
        self.W_along_bias = torch.cat([W @ self.delta_b for W in self.W_dec])
        self.sse_small = self._sse_large = 0.0
        self.n_tokens = self.bias_weight = 0
        self._r_sum = torch.zeros(pair.small.d_model, dtype=torch.float64)
        self._count = np.zeros(len(self.operation_of), dtype=np.int64)
        self._total = np.zeros(len(self.operation_of))

    def residuals(self, label: str, *, large: bool = False) -> Iterator[tuple[EvalBlock, Tensor]]:
        """Go through the tokens once: each block, with its codes in float64, and r on it.

        Parameters
        ----------
        label
            Names the work in the log.
        large
            Sum up the squared error of the larger SAE too.

        Yields
        ------
        block : EvalBlock
        r : (token, d_model) float64
            Residual of the smaller SAE, which may be written over.
        """
        progress = Progress(self.pair.n_tokens, label)
        for block in self.pair.blocks():
            x, scale = block.x.double(), block.scale
            codes = block.codes_small.double(), block.codes_large.double()
            for part, of_sae in zip(self.sides, codes, strict=True):
                self._count[part] += of_sae.pattern.counts.numpy()
                along = of_sae if scale is None else scaled(of_sae, scale)
                self._total[part] += of_sae.pattern.sum_by_latent(along.values).numpy()
            # The error of the larger SAE first: its memory is free again for the other.
            if large:
                self._sse_large += self._residual(x, codes, scale, 1).square_().sum().item()
            r = self._residual(x, codes, scale, 0)
            self.n_tokens += len(x)
            self.bias_weight += len(x) if scale is None else scale.square().sum().item()
            self.sse_small += vecdot(r, r).sum().item()
            self._r_sum += r.sum(0) if scale is None else scale @ r
            del x
            yield replace(block, codes_small=codes[0], codes_large=codes[1]), r
            progress.update(len(r))

    @property
    def sides(self) -> tuple[slice, slice]:
        """The latents of the smaller SAE, and those of the larger."""
        return slice(0, self.d_small), slice(self.d_small, None)

    def _residual(
        self, x: Tensor, codes: tuple[SparseCodes, SparseCodes], scale: Tensor | None, which: int
    ) -> Tensor:
        x_hat, b_dec = codes[which].matmul(self.W_dec[which]), self.b_dec[which]
        x_hat = x_hat.add_(b_dec) if scale is None else x_hat.addr_(scale, b_dec)
        return torch.sub(x, x_hat, out=x_hat)

    @property
    def mse_small(self) -> float:
        """MSE of the smaller SAE."""
        return self.sse_small / (self.n_tokens * self.pair.small.d_model)

    @property
    def mse_large(self) -> float:
        """MSE of the larger SAE, where `residuals` was asked for it."""
        return self._sse_large / (self.n_tokens * self.pair.small.d_model)

    @property
    def l0_small(self) -> float:
        """Mean number of active latents of the smaller SAE."""
        return float(self._count[: self.d_small].sum()) / self.n_tokens

    @property
    def l0_large(self) -> float:
        """Mean number of active latents of the larger SAE."""
        return float(self._count[self.d_small :].sum()) / self.n_tokens

    @property
    def delta_l0(self) -> Float[np.ndarray, " operation"]:
        """Change of the mean number of active latents by each operation."""
        return self.by_operation(self.sign * self._count[self.latents] / self.n_tokens)

    @property
    def along_bias(self) -> Float[np.ndarray, " operation"]:
        """Δb·Σ_t s_t d_ot of each operation."""
        W_along_bias = self.W_along_bias.numpy()[self.latents]
        return self.by_operation(self.sign * self._total[self.latents] * W_along_bias)

    def by_operation(
        self, of_latent: Float[np.ndarray, " changed"]
    ) -> Float[np.ndarray, " operation"]:
        """Sum over the latents of each operation."""
        operation = self.operation_of[self.latents]
        # Without latents bincount gives integers, whatever it would add up.
        return np.bincount(operation, of_latent, self.operations.n).astype(np.float64, copy=False)

    def mse(self, q_squared: Any, along_bias: Any, n_small: Any, n_large: Any) -> Any:
        """MSE with the mixed bias (Eq. 5), of numbers or of arrays.

        Parameters
        ----------
        q_squared
            Σ_t ‖q_t‖².
        along_bias
            Δb·Σ_t s_t d_t of all that has been added.
        n_small, n_large
            Latents of either SAE.
        """
        beta = n_large / np.maximum(n_small + n_large, 1)
        q_along_bias = float(self.delta_b @ self._r_sum) - along_bias
        bias_squared = float(self.delta_b @ self.delta_b)
        sse = q_squared - 2 * beta * q_along_bias + self.bias_weight * beta**2 * bias_squared
        return sse / (self.n_tokens * self.pair.small.d_model)

    def walk(
        self,
        changes: Float[np.ndarray, " operation"],
        order: Int[np.ndarray, " operation"] | slice = slice(None),
    ) -> Walk:
        """Walk through operations.

        Parameters
        ----------
        changes
            Of Σ_t ‖q_t‖² by each operation, given those before it.
        order
            Operations to apply, one after the other; all of them by default.
        """
        n_small = self.d_small - running(self.operations.n_small[order])
        n_large = running(self.operations.n_large[order])
        q_squared = self.sse_small + running(changes[order])
        mse = self.mse(q_squared, running(self.along_bias[order]), n_small, n_large)
        return Walk(n_small + n_large, mse, self.l0_small + running(self.delta_l0[order]))


def running(values: np.ndarray) -> np.ndarray:
    """Sum of all before each value, and of all."""
    return np.concatenate([np.zeros(1, values.dtype), np.cumsum(values)])
