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
decoding the codes a few times. `independent_effects` applies each operation on its own to the
smaller SAE (Figures 4 and 14), `cumulative_effects` one after the other (Figures 5 and 15).

Everything is computed in float64.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.linalg import vecdot

from sae_stitching.batches import ActivationShards
from sae_stitching.codes import StoredCodes
from sae_stitching.errors import StudyError
from sae_stitching.progress import Progress
from sae_stitching.sae import SAE
from sae_stitching.sparse import SparseCodes, SparsePattern

# Elements of the largest temporary matrix: 256 Ki float64 values are 2 MiB, so that what is made
# of it next still finds it in the cache.
_ELEMENTS = 1 << 18


@dataclass(frozen=True)
class EvalBlock:
    """Tokens of whole sequences, with their activations and both SAEs' codes."""

    x: Tensor
    sequence: Tensor
    codes_small: SparseCodes
    codes_large: SparseCodes


@dataclass(frozen=True)
class EvalPair:
    """Two SAEs and the eval tokens that they are compared on.

    Attributes
    ----------
    small, large : SAE
    blocks : callable
        Returns an iterator over the eval tokens in blocks of whole sequences.
    n_tokens : int
    """

    small: SAE
    large: SAE
    blocks: Callable[[], Iterator[EvalBlock]]
    n_tokens: int

    @classmethod
    def in_memory(cls, small: SAE, large: SAE, x: Tensor, sequence: Tensor) -> "EvalPair":
        """Compare on activations in memory.

        Parameters
        ----------
        small, large : SAE
        x : (token, d_model)
        sequence : (token) int
            Sequence of each token; tokens of one sequence are consecutive.
        """
        codes = small.encode(x), large.encode(x)
        return cls(small, large, lambda: iter([EvalBlock(x, sequence, *codes)]), len(x))

    @classmethod
    def stored(
        cls,
        small: SAE,
        large: SAE,
        shards: ActivationShards,
        codes_small: StoredCodes,
        codes_large: StoredCodes,
    ) -> "EvalPair":
        """Compare on cached activations and stored codes, a block at a time.

        Raises
        ------
        StudyError
            If the codes and the activations differ in number of tokens.
        """
        for codes in (codes_small, codes_large):
            if codes.n_tokens != shards.n_tokens:
                raise StudyError(
                    f"{codes.path}: codes of {codes.n_tokens} tokens, but activations of "
                    f"{shards.n_tokens}; delete it and run again"
                )

        def blocks() -> Iterator[EvalBlock]:
            for block in shards.blocks():
                end = block.start + len(block.activations)
                yield EvalBlock(
                    block.activations,
                    block.sequence,
                    codes_small.tokens(block.start, end),
                    codes_large.tokens(block.start, end),
                )

        return cls(small, large, blocks, shards.n_tokens)


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

    small: Tensor
    large: Tensor
    n: int

    @property
    def n_small(self) -> Tensor:
        """Latents that each operation takes out, (n) int64."""
        return torch.bincount(self.small[self.small >= 0], minlength=self.n)

    @property
    def n_large(self) -> Tensor:
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

    delta_mse: np.ndarray
    standard_error: np.ndarray
    delta_l0: np.ndarray
    n_active: np.ndarray
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

    mse: np.ndarray
    l0: np.ndarray
    n_latents: np.ndarray
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
        r, codes_small, codes_large = stitch.start(block)
        _, sequence = torch.unique_consecutive(block.sequence, return_inverse=True)
        tokens = torch.bincount(sequence).double()
        p = torch.bincount(sequence, weights=-2.0 * (r @ stitch.delta_b))
        n_sequences += len(tokens)
        p_sum += p.sum().item()
        pp += (p @ p).item()
        pt += (p @ tokens).item()
        tt += (tokens @ tokens).item()
        keys, changes = [], []
        for first, groups in stitch.groups(codes_small, codes_large):
            projected, squared, along_bias = groups.terms(r[first:], stitch)
            change = squared - 2.0 * projected + 2.0 * beta[groups.operation] * along_bias
            keys.append(groups.operation * len(tokens) + sequence[first + groups.token])
            changes.append(change)
            n_active += torch.bincount(groups.operation, minlength=n)
        if keys:
            key, inverse = torch.unique(torch.cat(keys), return_inverse=True)
            L = torch.bincount(inverse, weights=torch.cat(changes), minlength=len(key))
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

    ‖q_kt‖² changes only at operations that are active on t: per token it is followed through a
    cumulative sum of their d. Σ_t q_kt needs only the sum of every latent's activations.
    """
    n = operations.n
    stitch = _Stitch(pair, operations)
    steps = torch.zeros(n, dtype=torch.float64)
    r_sum = torch.zeros(pair.small.d_model, dtype=torch.float64)
    progress = Progress(pair.n_tokens, label)
    for block in pair.blocks():
        r, codes_small, codes_large = stitch.start(block)
        r_sum += r.sum(0)
        for first, groups in stitch.groups(codes_small, codes_large):
            squared, previous = groups.running(r[first:], stitch)
            steps.index_add_(0, groups.operation, squared - previous)
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


@dataclass(frozen=True)
class _Groups:
    """What the operations add on some tokens: one group for each (token, operation)."""

    token: Tensor
    operation: Tensor
    pattern: SparsePattern
    values: Tensor

    def vectors(self, stitch: "_Stitch") -> Tensor:
        """d of every group, (group, d_model)."""
        return self.pattern.matmul(self.values, stitch.W_dec)

    def terms(self, r: Tensor, stitch: "_Stitch") -> tuple[Tensor, Tensor, Tensor]:
        """d·r, ‖d‖² and d·Δb of every group; `r` starts at this chunk's first token."""
        n_tokens = int(self.token[-1]) + 1 if len(self.token) else 0
        bounds = torch.arange(n_tokens + 1)
        indptr = torch.searchsorted(self.token, bounds)
        if len(self.values) == len(self.token):
            # One latent a group, as in insertions: d = ± f W_dec_i needs no vector of its own.
            latent, f = self.pattern.indices, self.values
            pattern = SparsePattern(indptr, latent, len(stitch.W_dec))
            projected = f * pattern.dot(r[:n_tokens], stitch.W_dec)
            return projected, f**2 * stitch.squared_norms[latent], f * stitch.along_bias[latent]
        d = self.vectors(stitch)
        pattern = SparsePattern(indptr, torch.arange(len(d)), len(d))
        return pattern.dot(r[:n_tokens], d), vecdot(d, d), d @ stitch.delta_b

    def running(self, r: Tensor, stitch: "_Stitch") -> tuple[Tensor, Tensor]:
        """‖q‖² after every group and before it, the operations of a token in order."""
        C = self.vectors(stitch)
        # In place, and NumPy's: PyTorch's sum down the columns takes fifteen times as long.
        np.cumsum(C.numpy(), axis=0, out=C.numpy())
        is_head = torch.ones(len(self.token), dtype=torch.bool)
        is_head[1:] = self.token[1:] != self.token[:-1]
        heads = is_head.nonzero().squeeze(1)
        # The sum runs on from token to token. With s = r + the sum before a token's first group,
        # q = s − C, and ‖q‖² = ‖s‖² − 2 s·C + ‖C‖² needs no matrix of q.
        r_heads = r[self.token[heads]]
        s = r_heads.clone()
        s[1:] += C[heads[1:] - 1]
        indptr = torch.cat([heads, torch.tensor([len(C)])])
        s_dot_C = SparsePattern(indptr, torch.arange(len(C)), len(C)).dot(s, C)
        squared = vecdot(s, s)[is_head.cumsum(0) - 1] - 2.0 * s_dot_C + vecdot(C, C)
        previous = squared.roll(1)
        previous[heads] = vecdot(r_heads, r_heads)
        return squared, previous


class _Stitch:
    """Both decoders side by side, and the sums that every experiment needs."""

    def __init__(self, pair: EvalPair, operations: Operations) -> None:
        self.pair, self.operations = pair, operations
        found = len(operations.small), len(operations.large)
        if found != (pair.small.d_sae, pair.large.d_sae):
            raise StudyError(
                f"subgraphs: of SAEs of {found[0]} and {found[1]} latents, but these have "
                f"{pair.small.d_sae} and {pair.large.d_sae}; delete the subgraphs and run again"
            )
        self.operation_of = torch.cat([operations.small, operations.large])
        self.W_dec = torch.cat([pair.small.W_dec, pair.large.W_dec]).double()
        self.delta_b = pair.large.b_dec.double() - pair.small.b_dec.double()
        self.squared_norms = vecdot(self.W_dec, self.W_dec)
        self.along_bias = self.W_dec @ self.delta_b
        self.sse_small = self.sse_large = 0.0
        self.n_tokens = 0
        d_small, d_all = pair.small.d_sae, len(self.W_dec)
        # Taking out subtracts, putting in adds.
        self.sign = torch.ones(d_all, dtype=torch.float64)
        self.sign[:d_small] = -1.0
        self.count = torch.zeros(d_all, dtype=torch.int64)
        self.total = torch.zeros(d_all, dtype=torch.float64)

    def start(self, block: EvalBlock) -> tuple[Tensor, SparseCodes, SparseCodes]:
        """Residual of the smaller SAE on a block, and both codes, in float64."""
        x = block.x.double()
        codes_small, codes_large = block.codes_small.double(), block.codes_large.double()
        d_small = self.pair.small.d_sae
        r = x - codes_small.matmul(self.W_dec[:d_small]) - self.pair.small.b_dec.double()
        e = x - codes_large.matmul(self.W_dec[d_small:]) - self.pair.large.b_dec.double()
        self.sse_small += r.square().sum().item()
        self.sse_large += e.square().sum().item()
        self.n_tokens += len(x)
        for codes, part in (
            (codes_small, slice(0, d_small)),
            (codes_large, slice(d_small, None)),
        ):
            self.count[part] += codes.pattern.counts
            self.total[part] += codes.pattern.sum_by_latent(codes.values)
        return r, codes_small, codes_large

    def groups(
        self, codes_small: SparseCodes, codes_large: SparseCodes
    ) -> Iterator[tuple[int, _Groups]]:
        """Groups of a block, in chunks of tokens that bound memory, with the first token."""
        d_small, n = self.pair.small.d_sae, self.operations.n
        latent = torch.cat([codes_small.pattern.indices, codes_large.pattern.indices + d_small])
        token = torch.cat([codes_small.pattern.rows, codes_large.pattern.rows])
        value = torch.cat([codes_small.values, codes_large.values])
        touched = self.operation_of[latent] >= 0
        latent, token, value = latent[touched], token[touched], value[touched]
        key = token * n + self.operation_of[latent]
        order = torch.argsort(key, stable=True)
        latent, value, key = latent[order], value[order] * self.sign[latent[order]], key[order]
        group, sizes = torch.unique_consecutive(key, return_counts=True)
        ends = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        token, operation = group // n, group % n
        n_tokens = codes_small.n_tokens
        per_token = max(1.0, len(group) / max(n_tokens, 1)) * self.W_dec.shape[1]
        step = max(1, int(_ELEMENTS / per_token))
        bounds = torch.arange(0, n_tokens + step, step).clamp(max=n_tokens)
        cuts = torch.searchsorted(token, bounds).tolist()
        for first, low, high in zip(bounds.tolist(), cuts, cuts[1:], strict=False):
            if low == high:
                continue
            entries = slice(int(ends[low]), int(ends[high]))
            pattern = SparsePattern(
                ends[low : high + 1] - ends[low], latent[entries], len(self.W_dec)
            )
            yield (
                first,
                _Groups(token[low:high] - first, operation[low:high], pattern, value[entries]),
            )

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
