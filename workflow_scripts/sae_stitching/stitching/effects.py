"""The stitching operation (Section 4.1), exact for many operations in one pass over the codes.

A stitched SAE takes the latents L0 from one SAE and L1 from another:

    x̂ = α b_dec0 + (1 − α) b_dec1 + Σ_{L0} W_dec0_i f0_i + Σ_{L1} W_dec1_i f1_i,
    α = |L0| / (|L0| + |L1|)                                                        (Eq. 5)

In the words of `sums`, an operation o on its own gives

    SSE_o = Σ_t ‖r_t − β_o Δb − d_ot‖²,   β = 1 − α,

with d_ot nonzero only where one of its latents is active. So the errors follow from sums over the
tokens where o is active, and all operations together cost as much as decoding the codes a few
times. The tokens are gone through in blocks, so that only a block of activations and codes is in
memory beside both decoders. `independent_effects` applies each operation on its own to the smaller
SAE (Figures 4 and 14), `cumulative_effects` one after the other (Figures 5 and 15).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vecdot, vector_norm

from sae_stitching.sparse.codes import SparsePattern, starts_of
from sae_stitching.stitching.operations import Operations
from sae_stitching.stitching.pairs import EvalBlock, EvalPair
from sae_stitching.stitching.sums import PairSums
from sae_stitching.stitching.walks import Walk

if TYPE_CHECKING:
    from jaxtyping import Float, Int

# Elements of the largest temporary matrix: 256 Ki float64 values are 2 MiB, so that what is made
# of it next still finds it in the cache.
_ELEMENTS = 1 << 18


@dataclass(frozen=True)
class IndependentEffects:
    """What each operation does on its own to the smaller SAE.

    Attributes
    ----------
    delta_mse : (operation) float64
        MSE of the stitched SAE minus MSE of the smaller SAE, per element of the activations.
    standard_error : (operation) float64
        Of `delta_mse` over the eval tokens, clustered by sequence; NaN for a single sequence.
    delta_l0 : (operation) float64
        Change in the mean number of active latents.
    n_active : (operation) int64
        Tokens on which the operation changes anything but the bias.
    mse_small, mse_large, l0_small, l0_large : float
        Of the two SAEs themselves.
    n_tokens : int
    """

    delta_mse: Float[np.ndarray, " operation"]
    standard_error: Float[np.ndarray, " operation"]
    delta_l0: Float[np.ndarray, " operation"]
    n_active: Int[np.ndarray, " operation"]
    mse_small: float
    mse_large: float
    l0_small: float
    l0_large: float
    n_tokens: int


@dataclass(frozen=True)
class CumulativeEffects(Walk):
    """The stitched SAE before the first operation and after each, and the larger SAE.

    Attributes
    ----------
    n_latents, mse, l0 : (operation + 1)
        As of any `Walk`.
    mse_large, l0_large : float
        Of the larger SAE itself, which a whole transition ends at.
    n_tokens : int
    """

    mse_large: float
    l0_large: float
    n_tokens: int


def independent_effects(
    pair: EvalPair, operations: Operations, label: str = "stitch"
) -> IndependentEffects:
    """Apply every operation on its own to the smaller SAE.

    Parameters
    ----------
    pair
    operations
    label
        Names the work in the log.

    Notes
    -----
    The standard error treats the mean over tokens as a ratio over sequences, whose tokens are
    not independent: with C_so the sum of the change in squared error over sequence s of T_s
    tokens and δ_o = Σ_s C_so / T,

        Var(δ_o) = S/(S − 1) · Σ_s (C_so − T_s δ_o)² / T².

    C_so is a part that all operations share, of the bias alone, and L_so, which is nonzero only
    where o is active in s; expanding the square leaves sums over those. Where SAEs normalise each
    token, the bias of s weighs U_s, the sum of the squared scales, instead of T_s.
    """
    n = operations.n
    sums = _EffectSums(pair, operations)
    n_small, n_large = pair.small.d_sae - operations.n_small, operations.n_large
    beta = torch.from_numpy(n_large / np.maximum(n_small + n_large, 1))
    # Per operation: Σ_s L, Σ_s L p, Σ_s L T, Σ_s L² and Σ_s L v, with p_s = −2 Δb·Σ_{t∈s} s_t r_t
    # and v_s = U_s − T_s, which is zero without a norm.
    of_operation = torch.zeros(5, n, dtype=torch.float64)
    # Over sequences: Σ p, Σ p², Σ pT, ΣT², Σ pv, Σ Tv, Σ v², their number.
    p_sum = pp = pt = tt = pv = tv = vv = 0.0
    n_sequences = 0
    n_active = torch.zeros(n, dtype=torch.int64)
    for block, r in sums.residuals(label, large=True):
        groups = sums.groups(block)
        _, sequence = torch.unique_consecutive(block.sequence, return_inverse=True)
        tokens = torch.bincount(sequence).double()
        r_along_bias, v = r @ sums.delta_b, torch.zeros_like(tokens)
        if block.scale is not None:
            r_along_bias *= block.scale
            v = torch.bincount(sequence, weights=block.scale.square()) - tokens
        p = torch.bincount(sequence, weights=-2.0 * r_along_bias)
        n_sequences += len(tokens)
        p_sum += p.sum().item()
        pp += (p @ p).item()
        pt += (p @ tokens).item()
        tt += (tokens @ tokens).item()
        pv, tv, vv = pv + (p @ v).item(), tv + (tokens @ v).item(), vv + (v @ v).item()
        operation, key = groups.operation, sequence[groups.token]
        projected, squared, along_bias = groups.terms(r)
        if block.scale is not None:
            along_bias = along_bias * block.scale[groups.token]
        change = squared - 2.0 * projected + 2.0 * beta[operation] * along_bias
        n_active += torch.bincount(operation, minlength=n)
        key, inverse = torch.unique(operation * len(tokens) + key, return_inverse=True)
        L = change.new_zeros(len(key)).index_add_(0, inverse, change)
        operation, s = key // len(tokens), key % len(tokens)
        for row, term in enumerate((L, L * p[s], L * tokens[s], L * L, L * v[s])):
            of_operation[row].index_add_(0, operation, term)

    L, Lp, LT, LL, Lv = of_operation
    T, bb = float(sums.n_tokens), sums.delta_b @ sums.delta_b
    delta = (L + beta * p_sum + beta**2 * bb * float(sums.bias_weight)) / T
    # Σ_s (L + β p + κ T + β² ‖Δb‖² v)²
    kappa = beta**2 * bb - delta
    square = (
        beta**2 * pp + 2 * beta * kappa * pt + kappa**2 * tt + 2 * (beta * Lp + kappa * LT) + LL
    )
    square += 2 * beta**2 * bb * (Lv + beta * pv + kappa * tv) + (beta**2 * bb) ** 2 * vv
    if n_sequences > 1:
        variance = n_sequences / (n_sequences - 1) * square.clamp(min=0.0) / T**2
    else:
        variance = torch.full_like(square, torch.nan)
    d_model = pair.small.d_model
    return IndependentEffects(
        delta_mse=(delta / d_model).numpy(),
        standard_error=(variance.sqrt() / d_model).numpy(),
        delta_l0=sums.delta_l0,
        n_active=n_active.numpy(),
        mse_small=sums.mse_small,
        mse_large=sums.mse_large,
        l0_small=sums.l0_small,
        l0_large=sums.l0_large,
        n_tokens=sums.n_tokens,
    )


def cumulative_effects(
    pair: EvalPair, operations: Operations, label: str = "stitch"
) -> CumulativeEffects:
    """Apply the operations one after the other, and measure after each.

    Parameters
    ----------
    pair
    operations
    label
        Names the work in the log.

    Notes
    -----
    ‖q_t‖² changes only at operations that are active on t: q_t is followed from one of them to the
    next, token by token.
    """
    sums = _EffectSums(pair, operations)
    changes = torch.zeros(operations.n, dtype=torch.float64)
    for block, r in sums.residuals(label, large=True):
        groups = sums.groups(block)
        changes.index_add_(0, groups.operation, groups.changes(r))
    walk = sums.walk(changes.numpy())
    return CumulativeEffects(
        **vars(walk),
        mse_large=sums.mse_large,
        l0_large=sums.l0_large,
        n_tokens=sums.n_tokens,
    )


class _EffectSums(PairSums):
    """Sums over the tokens where the operations are active."""

    def __init__(self, pair: EvalPair, operations: Operations) -> None:
        super().__init__(pair, operations)
        # The norm is a reduction; ⟨W_i, W_i⟩ would first be a matrix of products, a copy of W.
        self.squared_norms = torch.cat([vector_norm(W, dim=1).square() for W in self.W_dec])

    def groups(self, block: EvalBlock) -> _Groups:
        """What the operations add on a block of `residuals`."""
        n, operation_of = self.operations.n, torch.from_numpy(self.operation_of)
        small, large = block.codes_small, block.codes_large
        latent = torch.cat([small.pattern.indices, large.pattern.indices + self.d_small])
        token = torch.cat([small.pattern.rows, large.pattern.rows])
        value = torch.cat([small.values, large.values])
        touched = operation_of[latent] >= 0
        latent, token, value = latent[touched], token[touched], value[touched]
        key, order = torch.sort(token * n + operation_of[latent], stable=True)
        latent, value = latent[order], value[order]
        group, sizes = torch.unique_consecutive(key, return_counts=True)
        value = torch.where(latent < self.d_small, -value, value)
        return _Groups(self, group // n, group % n, starts_of(sizes), latent, value)

    def decode(self, pattern: SparsePattern, values: Tensor) -> Tensor:
        """Codes of latents of both SAEs times the decoders, (row, d_model)."""
        parts = [part.matmul(values[kept], W) for W, kept, part in self._by_sae(pattern)]
        return parts[0] if len(parts) == 1 else parts[0].add_(parts[1])

    def dot(self, pattern: SparsePattern, left: Tensor) -> Tensor:
        """Inner product of ``left[row]`` and the decoder direction of every entry, (nnz)."""
        result = left.new_empty(len(pattern.indices))
        for W, kept, part in self._by_sae(pattern):
            result[kept] = part.dot(left, W)
        return result

    def _by_sae(self, pattern: SparsePattern) -> Iterator[tuple[Tensor, Tensor, SparsePattern]]:
        # The part of a pattern in each SAE that it has latents of: a matrix of both decoders
        # would be a second copy of them.
        of_large = pattern.indices >= self.d_small
        for W, kept, first in zip(
            self.W_dec, (~of_large, of_large), (0, self.d_small), strict=True
        ):
            if kept.any():
                latent = pattern.indices[kept] - first
                yield W, kept, SparsePattern(starts_of(kept)[pattern.indptr], latent, len(W))


@dataclass(frozen=True)
class _Groups:
    """What the operations add on a block: a group of latents for each (token, operation).

    Groups are ordered by token and, of one token, by operation. Entries
    ``indptr[g]:indptr[g + 1]`` are those of group g; values that are taken out are negative.
    """

    sums: _EffectSums
    token: Tensor
    operation: Tensor
    indptr: Tensor
    latent: Tensor
    value: Tensor

    def vectors(self, first: int, last: int) -> Tensor:
        """d of the groups ``first:last``, (group, d_model)."""
        indptr = self.indptr[first : last + 1]
        entries = slice(int(indptr[0]), int(indptr[-1]))
        pattern = SparsePattern(
            indptr - indptr[0], self.latent[entries], len(self.sums.operation_of)
        )
        return self.sums.decode(pattern, self.value[entries])

    def terms(self, r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """d·r, ‖d‖² and d·Δb of every group; `r` is the residual of the block."""
        sums = self.sums
        tokens = self.indptr[self._starts(len(r))]
        pattern = SparsePattern(tokens, self.latent, len(sums.operation_of))
        projected = self.value * sums.dot(pattern, r)
        along_bias = self.value * sums.W_along_bias[self.latent]
        squared = self.value.square() * sums.squared_norms[self.latent]
        sizes = self.indptr.diff()
        if len(self.value) > len(sizes):
            # Where a group has several latents, ‖d‖² needs d itself; elsewhere, as in
            # insertions, d = ± f W_dec_i needs no vector of its own.
            of_entry = torch.arange(len(sizes)).repeat_interleave(sizes)
            projected, along_bias, squared = (
                torch.bincount(of_entry, weights=term, minlength=len(sizes))
                for term in (projected, along_bias, squared)
            )
            several = self._select(sizes > 1)
            norms = [vecdot(d, d) for d in several._chunks()]
            squared[sizes > 1] = torch.cat(norms)
        return projected, squared, along_bias

    def changes(self, r: Tensor) -> Tensor:
        """Change of ‖q‖² by every group, the operations of a token in order; `r` becomes q."""
        from sae_stitching.stitching.kernels import walk

        arrays = (r, self._starts(len(r)), self.indptr, self.latent, self.value, *self.sums.W_dec)
        return torch.from_numpy(walk(*(array.numpy() for array in arrays)))

    def _starts(self, n_tokens: int) -> Tensor:
        # First group of each token, and the end.
        return torch.searchsorted(self.token, torch.arange(n_tokens + 1))

    def _chunks(self) -> Iterator[Tensor]:
        # The vectors of all groups, so many at once as bounds memory.
        n = len(self.token)
        step = max(1, _ELEMENTS // self.sums.pair.small.d_model)
        for first in range(0, n, step):
            yield self.vectors(first, min(first + step, n))

    def _select(self, keep: Tensor) -> _Groups:
        # Only the groups where `keep` is true.
        sizes = self.indptr.diff()
        entries = keep.repeat_interleave(sizes)
        return _Groups(
            self.sums,
            self.token[keep],
            self.operation[keep],
            starts_of(sizes[keep]),
            self.latent[entries],
            self.value[entries],
        )
