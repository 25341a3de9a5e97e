"""The stitching operation (Section 4.1), exact for many operations in one pass over the codes.

A stitched SAE takes the latents L0 from one SAE and L1 from another:

    x̂ = α b_dec0 + (1 − α) b_dec1 + Σ_{L0} W_dec0_i f0_i + Σ_{L1} W_dec1_i f1_i,
    α = |L0| / (|L0| + |L1|)                                                        (Eq. 5)

We start from the whole smaller SAE with residual r = x − x̂0. An operation o takes some of its
latents out and puts some of the larger SAE's in. On token t that adds

    d_ot = Σ_{in} W_dec1_i f1_i − Σ_{out} W_dec0_i f0_i

to the reconstruction, nonzero only where one of the latents is active, and the mixed bias adds
β_o Δb with β = 1 − α and Δb = b_dec1 − b_dec0. So

    SSE_o = Σ_t ‖r_t − β_o Δb − d_ot‖²

follows from sums over the tokens where o is active, and all operations together cost as much as
decoding the codes a few times. The tokens are gone through in blocks, so that only a block of
activations and codes is in memory beside both decoders. `independent_effects` applies each
operation on its own to the smaller SAE (Figures 4 and 14), `cumulative_effects` one after the
other (Figures 5 and 15).

Everything is computed in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vecdot, vector_norm

from sae_stitching.activations.shards import Activations, ActivationShards
from sae_stitching.base.compiled import compiled
from sae_stitching.base.errors import StudyError
from sae_stitching.base.progress import Progress
from sae_stitching.saes.encoding import StoredCodes
from sae_stitching.saes.sae import SAE, Decoder, taken_in
from sae_stitching.sparse.codes import SparseCodes, SparsePattern

if TYPE_CHECKING:
    from jaxtyping import Float, Int

# Elements of the largest temporary matrix: 256 Ki float64 values are 2 MiB, so that what is made
# of it next still finds it in the cache.
_ELEMENTS = 1 << 18


@dataclass(frozen=True)
class EvalBlock:
    """Tokens of whole sequences, with their activations and both SAEs' codes."""

    x: Float[Tensor, "token d_model"]
    sequence: Int[Tensor, " token"]
    codes_small: SparseCodes
    codes_large: SparseCodes


@dataclass(frozen=True)
class EvalPair:
    """Two SAEs and the eval tokens that they are compared on.

    Attributes
    ----------
    small, large : SAE or Decoder
        Of each only the decoder is used; in float64 it is not copied.
    blocks : callable
        Returns an iterator over the eval tokens in blocks of whole sequences.
    n_tokens : int

    Examples
    --------
    >>> import torch
    >>> from sae_stitching import SAE, EvalPair
    >>> W_dec = torch.eye(2)
    >>> large = SAE(W_dec.T, W_dec, torch.zeros(2), torch.zeros(2), "relu")
    >>> small = SAE(W_dec[:, :1], W_dec[:1], torch.zeros(1), torch.zeros(2), "relu")
    >>> pair = EvalPair.in_memory(small, large, torch.ones(3, 2), torch.tensor([0, 0, 1]))
    >>> [(block.codes_small.to_dense().sum(1) > 0).tolist() for block in pair.blocks()]
    [[True, True, True]]
    """

    small: SAE | Decoder
    large: SAE | Decoder
    blocks: Callable[[], Iterator[EvalBlock]]
    n_tokens: int

    @classmethod
    def in_memory(
        cls,
        small: SAE,
        large: SAE,
        x: Float[Tensor, "token d_model"],
        sequence: Int[Tensor, " token"],
    ) -> EvalPair:
        """Compare on activations in memory.

        Parameters
        ----------
        small, large : SAE
        x : (token, d_model)
            Tensor or NumPy array.
        sequence : (token) int
            Sequence of each token; tokens of one sequence are consecutive. Standard errors are
            clustered by it.

        Raises
        ------
        StudyError
            If the shapes do not fit together, or a number is not finite.
        """
        activations = Activations(x, sequence)
        small, large = taken_in(small, "small"), taken_in(large, "large")
        codes = (sae.encode(activations.x) for sae in (small, large))
        return cls.stored(small, large, activations, *codes)

    @classmethod
    def stored(
        cls,
        small: SAE | Decoder,
        large: SAE | Decoder,
        activations: Activations | ActivationShards,
        codes_small: SparseCodes | StoredCodes,
        codes_large: SparseCodes | StoredCodes,
    ) -> EvalPair:
        """Compare on cached activations and stored codes, a block at a time.

        Parameters
        ----------
        small, large : SAE or Decoder
        activations
            On disk, or in memory.
        codes_small, codes_large
            Of each SAE over all these tokens.

        Raises
        ------
        StudyError
            If the codes and the activations differ in number of tokens.
        """
        for side, codes in (("small", codes_small), ("large", codes_large)):
            if codes.n_tokens != activations.n_tokens:
                path = getattr(codes, "path", None)
                remedy = "delete it and run again" if path else "encode these activations"
                raise StudyError(
                    f"{path or f'codes_{side}'}: codes of {codes.n_tokens} tokens, but activations "
                    f"of {activations.n_tokens}; {remedy}"
                )

        def blocks() -> Iterator[EvalBlock]:
            for block in activations.blocks():
                end = block.start + len(block.activations)
                yield EvalBlock(
                    block.activations,
                    block.sequence,
                    codes_small.tokens(block.start, end),
                    codes_large.tokens(block.start, end),
                )

        return cls(small, large, blocks, activations.n_tokens)


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

    small: Int[Tensor, " d_small"]
    large: Int[Tensor, " d_large"]
    n: int

    @property
    def n_small(self) -> Int[Tensor, " n"]:
        """Latents that each operation takes out, (n) int64."""
        return torch.bincount(self.small[self.small >= 0], minlength=self.n)

    @property
    def n_large(self) -> Int[Tensor, " n"]:
        """Latents that each operation puts in, (n) int64."""
        return torch.bincount(self.large[self.large >= 0], minlength=self.n)


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
class CumulativeEffects:
    """The stitched SAE before the first operation and after each.

    Attributes
    ----------
    mse, l0 : (operation + 1) float64
    n_latents : (operation + 1) int64
    mse_large, l0_large : float
        Of the larger SAE itself, which a whole transition ends at.
    n_tokens : int
    """

    mse: Float[np.ndarray, " operation+1"]
    l0: Float[np.ndarray, " operation+1"]
    n_latents: Int[np.ndarray, " operation+1"]
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
    where o is active in s; expanding the square leaves sums over those.
    """
    n = operations.n
    stitch = _Stitch(pair, operations)
    n_small, n_large = pair.small.d_sae - operations.n_small, operations.n_large
    beta = n_large.double() / (n_small + n_large).clamp(min=1)
    # Per operation: Σ_s L, Σ_s L p, Σ_s L T and Σ_s L², with p_s = −2 Δb·Σ_{t∈s} r_t.
    sums = torch.zeros(4, n, dtype=torch.float64)
    # Over sequences: Σ p, Σ p², Σ pT, ΣT², their number.
    p_sum = pp = pt = tt = 0.0
    n_sequences = 0
    n_active = torch.zeros(n, dtype=torch.int64)
    progress = Progress(pair.n_tokens, label)
    for block in pair.blocks():
        r, groups = stitch.start(block)
        _, sequence = torch.unique_consecutive(block.sequence, return_inverse=True)
        tokens = torch.bincount(sequence).double()
        p = torch.bincount(sequence, weights=-2.0 * (r @ stitch.delta_b))
        n_sequences += len(tokens)
        p_sum += p.sum().item()
        pp += (p @ p).item()
        pt += (p @ tokens).item()
        tt += (tokens @ tokens).item()
        operation, key = groups.operation, sequence[groups.token]
        projected, squared, along_bias = groups.terms(r)
        change = squared - 2.0 * projected + 2.0 * beta[operation] * along_bias
        n_active += torch.bincount(operation, minlength=n)
        key, inverse = torch.unique(operation * len(tokens) + key, return_inverse=True)
        L = change.new_zeros(len(key)).index_add_(0, inverse, change)
        operation, s = key // len(tokens), key % len(tokens)
        for row, term in enumerate((L, L * p[s], L * tokens[s], L * L)):
            sums[row].index_add_(0, operation, term)
        progress.update(len(block.x))

    L, Lp, LT, LL = sums
    T, bb = float(stitch.n_tokens), stitch.delta_b @ stitch.delta_b
    delta = (L + beta * p_sum + beta**2 * bb * T) / T
    kappa = beta**2 * bb - delta
    square = (
        beta**2 * pp + 2 * beta * kappa * pt + kappa**2 * tt + 2 * (beta * Lp + kappa * LT) + LL
    )
    if n_sequences > 1:
        variance = n_sequences / (n_sequences - 1) * square.clamp(min=0.0) / T**2
    else:
        variance = torch.full_like(square, torch.nan)
    d_model = pair.small.d_model
    return IndependentEffects(
        delta_mse=(delta / d_model).numpy(),
        standard_error=(variance.sqrt() / d_model).numpy(),
        delta_l0=stitch.delta_l0().numpy(),
        n_active=n_active.numpy(),
        mse_small=stitch.sse_small / (T * d_model),
        mse_large=stitch.sse_large / (T * d_model),
        l0_small=stitch.l0_small,
        l0_large=stitch.l0_large,
        n_tokens=stitch.n_tokens,
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
    With q_k = r − Σ_{o≤k} d_o, the residual without the change in bias after k operations,

        SSE_k = Σ_t ‖q_kt − β_k Δb‖² = Σ_t ‖q_kt‖² − 2 β_k Δb·Σ_t q_kt + T β_k² ‖Δb‖².

    ‖q_kt‖² changes only at operations that are active on t: q_kt is followed from one of them to
    the next, token by token. Σ_t q_kt needs only the sum of every latent's activations.
    """
    n = operations.n
    stitch = _Stitch(pair, operations)
    steps = torch.zeros(n, dtype=torch.float64)
    r_sum = torch.zeros(pair.small.d_model, dtype=torch.float64)
    progress = Progress(pair.n_tokens, label)
    for block in pair.blocks():
        r, groups = stitch.start(block)
        r_sum += r.sum(0)
        steps.index_add_(0, groups.operation, groups.changes(r))
        progress.update(len(block.x))

    T, delta_b = float(stitch.n_tokens), stitch.delta_b
    n_small = pair.small.d_sae - _running(operations.n_small)
    n_large = _running(operations.n_large)
    beta = n_large.double() / (n_small + n_large).clamp(min=1)
    q_squared = stitch.sse_small + _running(steps)
    q_along_bias = delta_b @ r_sum - _running(stitch.sum_along_bias())
    sse = q_squared - 2 * beta * q_along_bias + T * beta**2 * (delta_b @ delta_b)
    return CumulativeEffects(
        mse=(sse / (T * pair.small.d_model)).numpy(),
        l0=(stitch.l0_small + _running(stitch.delta_l0())).numpy(),
        n_latents=(n_small + n_large).numpy(),
        mse_large=stitch.sse_large / (T * pair.small.d_model),
        l0_large=stitch.l0_large,
        n_tokens=stitch.n_tokens,
    )


def _running(values: Tensor) -> Tensor:
    # Cumulative sum with the state before the first operation in front.
    return torch.cat([values.new_zeros(1), values.cumsum(0)])


class _Stitch:
    """Both decoders, and the sums that every experiment needs.

    Latents are numbered through both SAEs, those of the larger after those of the smaller.
    """

    def __init__(self, pair: EvalPair, operations: Operations) -> None:
        self.pair, self.operations = pair, operations
        found = len(operations.small), len(operations.large)
        if found != (pair.small.d_sae, pair.large.d_sae):
            raise StudyError(
                f"subgraphs: of SAEs of {found[0]} and {found[1]} latents, but these have "
                f"{pair.small.d_sae} and {pair.large.d_sae}; delete the subgraphs and run again"
            )
        self.operation_of = torch.cat([operations.small, operations.large])
        self.d_small = pair.small.d_sae
        self.W_dec = pair.small.W_dec.double(), pair.large.W_dec.double()
        self.b_dec = pair.small.b_dec.double(), pair.large.b_dec.double()
        self.delta_b = self.b_dec[1] - self.b_dec[0]
        # The norm is a reduction; ⟨W_i, W_i⟩ would first be a matrix of products, a copy of W.
        self.squared_norms = torch.cat([vector_norm(W, dim=1).square() for W in self.W_dec])
        self.along_bias = torch.cat([W @ self.delta_b for W in self.W_dec])
        self.sse_small = self.sse_large = 0.0
        self.n_tokens = 0
        d_all = len(self.operation_of)
        # Taking out subtracts, putting in adds.
        self.sign = torch.ones(d_all, dtype=torch.float64)
        self.sign[: self.d_small] = -1.0
        self.count = torch.zeros(d_all, dtype=torch.int64)
        self.total = torch.zeros(d_all, dtype=torch.float64)

    def start(self, block: EvalBlock) -> tuple[Tensor, _Groups]:
        """Residual of the smaller SAE on a block, and what the operations add there."""
        x = block.x.double()
        both = block.codes_small.double(), block.codes_large.double()
        self.n_tokens += len(x)
        for codes, part in zip(
            both, (slice(0, self.d_small), slice(self.d_small, None)), strict=True
        ):
            self.count[part] += codes.pattern.counts
            self.total[part] += codes.pattern.sum_by_latent(codes.values)
        # The error of the larger SAE first: its memory is free again for the other.
        self.sse_large += self._residual(x, both, 1).square_().sum().item()
        r = self._residual(x, both, 0)
        self.sse_small += vecdot(r, r).sum().item()
        return r, self._groups(*both)

    def _residual(self, x: Tensor, both: tuple[SparseCodes, SparseCodes], which: int) -> Tensor:
        x_hat = both[which].matmul(self.W_dec[which]).add_(self.b_dec[which])
        return torch.sub(x, x_hat, out=x_hat)

    def _groups(self, codes_small: SparseCodes, codes_large: SparseCodes) -> _Groups:
        n = self.operations.n
        latent = torch.cat(
            [codes_small.pattern.indices, codes_large.pattern.indices + self.d_small]
        )
        token = torch.cat([codes_small.pattern.rows, codes_large.pattern.rows])
        value = torch.cat([codes_small.values, codes_large.values])
        touched = self.operation_of[latent] >= 0
        latent, token, value = latent[touched], token[touched], value[touched]
        key = token * n + self.operation_of[latent]
        key, order = torch.sort(key, stable=True)
        latent, value = latent[order], value[order]
        group, sizes = torch.unique_consecutive(key, return_counts=True)
        indptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        return _Groups(self, group // n, group % n, indptr, latent, value * self.sign[latent])

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
                before = torch.cat([pattern.indptr.new_zeros(1), kept.cumsum(0)])
                latent = pattern.indices[kept] - first
                yield W, kept, SparsePattern(before[pattern.indptr], latent, len(W))

    @property
    def l0_small(self) -> float:
        """Mean number of active latents of the smaller SAE."""
        return float(self.count[: self.pair.small.d_sae].sum()) / self.n_tokens

    @property
    def l0_large(self) -> float:
        """Mean number of active latents of the larger SAE."""
        return float(self.count[self.pair.small.d_sae :].sum()) / self.n_tokens

    def delta_l0(self) -> Tensor:
        """Change of the mean number of active latents by each operation."""
        return self._by_operation(self.sign * self.count / self.n_tokens)

    def sum_along_bias(self) -> Tensor:
        """Δb·Σ_t d_ot of each operation."""
        return self._by_operation(self.sign * self.total * self.along_bias)

    def _by_operation(self, of_latent: Tensor) -> Tensor:
        touched = self.operation_of >= 0
        return torch.bincount(
            self.operation_of[touched],
            weights=of_latent[touched],
            minlength=self.operations.n,
        ).double()


@dataclass(frozen=True)
class _Groups:
    """What the operations add on a block: a group of latents for each (token, operation).

    Groups are ordered by token and, of one token, by operation. Entries
    ``indptr[g]:indptr[g + 1]`` are those of group g; values that are taken out are negative.
    """

    stitch: _Stitch
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
            indptr - indptr[0], self.latent[entries], len(self.stitch.operation_of)
        )
        return self.stitch.decode(pattern, self.value[entries])

    def terms(self, r: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """d·r, ‖d‖² and d·Δb of every group; `r` is the residual of the block."""
        stitch = self.stitch
        tokens = self.indptr[self._starts(len(r))]
        pattern = SparsePattern(tokens, self.latent, len(stitch.operation_of))
        projected = self.value * stitch.dot(pattern, r)
        along_bias = self.value * stitch.along_bias[self.latent]
        squared = self.value.square() * stitch.squared_norms[self.latent]
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
        arrays = (r, self._starts(len(r)), self.indptr, self.latent, self.value, *self.stitch.W_dec)
        return torch.from_numpy(_walk(*(array.numpy() for array in arrays)))

    def _starts(self, n_tokens: int) -> Tensor:
        # First group of each token, and the end.
        return torch.searchsorted(self.token, torch.arange(n_tokens + 1))

    def _chunks(self) -> Iterator[Tensor]:
        # The vectors of all groups, so many at once as bounds memory.
        n = len(self.token)
        step = max(1, _ELEMENTS // self.stitch.pair.small.d_model)
        for first in range(0, n, step):
            yield self.vectors(first, min(first + step, n))

    def _select(self, keep: Tensor) -> _Groups:
        # Only the groups where `keep` is true.
        sizes = self.indptr.diff()
        entries = keep.repeat_interleave(sizes)
        indptr = torch.cat([sizes.new_zeros(1), sizes[keep].cumsum(0)])
        return _Groups(
            self.stitch,
            self.token[keep],
            self.operation[keep],
            indptr,
            self.latent[entries],
            self.value[entries],
        )


# Sums may be taken in any order, as PyTorch takes them; without that they are not vectorised.
@compiled(fastmath={"reassoc", "nsz", "contract"})
def _walk(
    q: np.ndarray,
    starts: np.ndarray,
    indptr: np.ndarray,
    latent: np.ndarray,
    value: np.ndarray,
    W_small: np.ndarray,
    W_large: np.ndarray,
) -> np.ndarray:
    # A row of q stays in the fastest cache while all that is taken from it is read once.
    d_small, d_model = W_small.shape
    change = np.empty(len(indptr) - 1)
    for token in range(len(q)):
        row = q[token]
        before = 0.0
        for k in range(d_model):
            before += row[k] * row[k]
        for group in range(starts[token], starts[token + 1]):
            for entry in range(indptr[group], indptr[group + 1]):
                i = latent[entry]
                d = W_small[i] if i < d_small else W_large[i - d_small]
                for k in range(d_model):
                    row[k] -= value[entry] * d[k]
            after = 0.0
            for k in range(d_model):
                after += row[k] * row[k]
            change[group] = after - before
            before = after
    return change
