"""Sparse codes: one type for training, encoding, the stored codes and the stitching.

An SAE's code is mostly zeros, so that everything but the encoder's forward product costs only
as much as the active latents. The three products that are needed, with codes f in CSR form:

    decode      x̂ = f W_dec                          (token, d_model)
    dot         ⟨g_t, W_i⟩ for every active (t, i)    (nnz)
    outer       fᵀ g                                   (d_sae, d_model)

`encode_active` and `decode` are their differentiable forms: the gradient of each is made of the
others, which is why a training step needs no dense product but one.

Where many latents are active, as in the first steps of most trainings, a product of dense codes
takes less time than one of sparse ones. `encode_active` and `decode` decide that for each product
by the entries that take part in it (`_DENSE_ABOVE`).

PyTorch does the products. What has to be moved around for them takes it longer than a pass over
memory should, so on a CPU that is compiled by Numba; elsewhere it is left to PyTorch.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

# Share of entries from which a product of dense codes takes less time, in float32 and in bfloat16.
# On one core and on two, with 576 and with 2304 latents, those of the gradients cross between 17
# and 22 % in float32 (AVX2), and between 10 and 14 % in bfloat16 in half the time (AVX-512); where
# that takes less (AMX), earlier. A GPU multiplies still faster beside what it reads from memory: on
# an H100, with 2304 and with 24,576 latents, they cross at 2.5 to 3.5 % and at 0.1 to 0.2 %.
_DENSE_ABOVE = {"cpu": (0.2, 0.1), "cuda": (0.03, 0.0015)}

# PyTorch says once a process that sparse CSR tensors are in beta and that it does not check them;
# nothing here follows from it.
warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
warnings.filterwarnings("ignore", message="Sparse invariant checks are implicitly disabled")


@dataclass(frozen=True)
class SparsePattern:
    """Where the active latents of a block of tokens are, in CSR form.

    Attributes
    ----------
    indptr : (token + 1) int64
        Entries ``indptr[t]:indptr[t + 1]`` belong to token t.
    indices : (nnz) int64
        Latent of each entry.
    d_sae : int
        Size of the dictionary.
    """

    indptr: Int[Tensor, " token+1"]
    indices: Int[Tensor, " nnz"]
    d_sae: int

    @property
    def n_tokens(self) -> int:
        """Number of tokens."""
        return len(self.indptr) - 1

    @cached_property
    def rows(self) -> Int[Tensor, " nnz"]:
        """Token of each entry, (nnz) int64."""
        tokens = torch.arange(self.n_tokens, device=self.indptr.device)
        return tokens.repeat_interleave(self.indptr.diff(), output_size=len(self.indices))

    @cached_property
    def counts(self) -> Int[Tensor, " d_sae"]:
        """Number of tokens on which each latent is active, (d_sae) int64."""
        return torch.bincount(self.indices, minlength=self.d_sae)

    @cached_property
    def _transposed(self) -> tuple[Tensor, Tensor, Tensor]:
        # The same entries ordered by latent: where those of each begin, their tokens, and order.
        if self.indices.is_cpu:
            from sae_stitching.sparse import kernels

            starts = starts_of(self.counts)
            rows, order = torch.empty_like(self.indices), torch.empty_like(self.indices)
            kernels.by_latent(*_arrays(self.indptr, self.indices, starts.clone(), rows, order))
            return starts, rows, order
        # Sorting 32-bit keys is twice as fast as 64-bit.
        latents, order = self.indices.int().sort(stable=True)
        every = torch.arange(self.d_sae + 1, dtype=torch.int32, device=latents.device)
        starts = torch.searchsorted(latents, every)
        return starts, self.rows[order], order

    def matmul(
        self, values: Float[Tensor, " nnz"], dense: Float[Tensor, "d_sae d"]
    ) -> Float[Tensor, "token d"]:
        """Codes times `dense` (d_sae, d): the (token, d) sums of active rows.

        Parameters
        ----------
        values : (nnz) float
            Value of each entry.
        dense : (d_sae, d) float
            E.g. the decoder.
        """
        if not len(self.indices):
            return dense.new_zeros(self.n_tokens, dense.shape[1])
        return _weighted_sums(self.indptr, self.indices, values, dense)

    def dot(
        self, left: Float[Tensor, "token d"], right: Float[Tensor, "d_sae d"]
    ) -> Float[Tensor, " nnz"]:
        """Inner product of ``left[t]`` and ``right[i]`` for every entry (t, i), (nnz).

        Parameters
        ----------
        left : (token, d) float
        right : (d_sae, d) float
        """
        if not len(self.indices):
            return left.new_zeros(0)
        zeros = left.new_zeros(len(self.indices))
        pattern = torch.sparse_csr_tensor(
            self.indptr, self.indices, zeros, (self.n_tokens, self.d_sae), check_invariants=False
        )
        return torch.sparse.sampled_addmm(pattern, left, right.T, beta=0.0).values()

    def outer(
        self, values: Float[Tensor, " nnz"], dense: Float[Tensor, "token d"]
    ) -> Float[Tensor, "d_sae d"]:
        """Transposed codes times `dense` (token, d): (d_sae, d).

        Parameters
        ----------
        values : (nnz) float
        dense : (token, d) float
        """
        if not len(self.indices):
            return dense.new_zeros(self.d_sae, dense.shape[1])
        starts, rows, order = self._transposed
        # PyTorch's product of a sparse matrix takes four times as long on a CPU (MKL), and on a GPU
        # (cuSPARSE) its last bits differ from one time to the next.
        return _weighted_sums(starts, rows, values[order], dense)

    def to_dense(
        self, values: Float[Tensor, " nnz"], dtype: torch.dtype | None = None
    ) -> Float[Tensor, "token d_sae"]:
        """These values as a matrix, zero elsewhere, of type `dtype` or theirs."""
        dtype = dtype or values.dtype
        if not values.is_cpu:
            dense = values.new_zeros(self.n_tokens, self.d_sae, dtype=dtype)
            dense[self.rows, self.indices] = values.to(dtype)
            return dense
        from sae_stitching.sparse import kernels

        dense = values.new_zeros(self.n_tokens, self.d_sae)
        kernels.match_threads()
        kernels.scatter(*_arrays(self.indptr, self.indices, values, dense))
        return dense.to(dtype)

    def of_dense(self, dense: Float[Tensor, "token d_sae"]) -> Float[Tensor, " nnz"]:
        """Value of a matrix at every entry, (nnz)."""
        if not dense.is_cpu or dense.dtype == torch.bfloat16:  # which NumPy does not know
            return dense[self.rows, self.indices]
        from sae_stitching.sparse import kernels

        values = dense.new_empty(len(self.indices))
        kernels.match_threads()
        kernels.gather(*_arrays(self.indptr, self.indices, dense, values))
        return values

    def sum_by_latent(self, values: Float[Tensor, " nnz"]) -> Float[Tensor, " d_sae"]:
        """Sum of the values of each latent over the tokens, (d_sae)."""
        if values.is_cpu:
            sums = torch.zeros(self.d_sae, dtype=torch.float64)
            sums.index_add_(0, self.indices, values.detach().double())
        # On a GPU too each sum in order: bincount adds in the order in which threads come.
        elif not len(values) or _pays_dense(self, values.dtype):
            sums = self.to_dense(values).sum(0, dtype=torch.float64)
        else:
            starts, _, order = self._transposed
            sums = torch.segment_reduce(
                values[order].double(), "sum", offsets=starts, initial=0.0, unsafe=True
            )
        return sums.to(values.dtype)


def _weighted_sums(indptr: Tensor, indices: Tensor, weights: Tensor, rows: Tensor) -> Tensor:
    # CSR matrix times dense: of each bag of indices the weighted sum of these rows, in order.
    return embedding_bag(
        indices,
        rows,
        indptr,
        mode="sum",
        per_sample_weights=weights.to(rows.dtype),
        include_last_offset=True,
    )


def starts_of(counts: Tensor) -> Tensor:
    """Where each group begins, and behind the last of them where it ends: (groups + 1) int64."""
    starts = torch.zeros(len(counts) + 1, dtype=torch.int64, device=counts.device)
    torch.cumsum(counts, 0, out=starts[1:])
    return starts


@dataclass(frozen=True)
class SparseCodes:
    """Activations of the active latents of a block of tokens.

    Attributes
    ----------
    pattern : SparsePattern
        Where the latents are active.
    values : (nnz) float
        Their activations f > 0.

    Examples
    --------
    >>> import torch
    >>> from sae_stitching import SparseCodes
    >>> codes = SparseCodes.from_dense(torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 3.0]]))
    >>> codes.pattern.indices.tolist(), codes.values.tolist()
    ([1, 0, 2], [2.0, 1.0, 3.0])
    >>> codes.tokens(1, 2).to_dense().tolist()
    [[1.0, 0.0, 3.0]]
    """

    pattern: SparsePattern
    values: Float[Tensor, " nnz"] = field(repr=False)

    @classmethod
    def from_dense(cls, codes: Float[Tensor, "token d_sae"]) -> SparseCodes:
        """Keep the positive entries of dense codes (token, d_sae)."""
        return cls.from_mask(codes, codes > 0)

    @classmethod
    def from_mask(
        cls, values: Float[Tensor, "token d_sae"], mask: Bool[Tensor, "token d_sae"]
    ) -> SparseCodes:
        """Keep the entries of `values` (token, d_sae) where `mask` is true."""
        return cls._at(values, mask.reshape(-1).nonzero().squeeze(1))

    @classmethod
    def from_positions(
        cls, values: Float[Tensor, "token d_sae"], positions: Int[Tensor, " n"]
    ) -> SparseCodes:
        """Keep the entries of `values` (token, d_sae) at flat `positions` where positive."""
        positions = positions.sort().values
        return cls._at(values, positions[values.reshape(-1)[positions] > 0])

    @classmethod
    def _at(cls, values: Tensor, flat: Tensor) -> SparseCodes:
        n_tokens, d_sae = values.shape
        bounds = torch.arange(0, (n_tokens + 1) * d_sae, d_sae, device=values.device)
        # The flat positions are sorted, so that a search finds where each token starts; summing
        # a mask along its rows takes several times as long.
        indptr = torch.searchsorted(flat, bounds)
        kept = values.reshape(-1)[flat]
        if kept.dtype == torch.bfloat16:
            kept = kept.float()
        return cls(SparsePattern(indptr, flat % d_sae, d_sae), kept)

    @property
    def d_sae(self) -> int:
        """Size of the dictionary."""
        return self.pattern.d_sae

    @property
    def n_tokens(self) -> int:
        """Number of tokens."""
        return self.pattern.n_tokens

    def __len__(self) -> int:
        return len(self.values)

    def to_dense(self) -> Float[Tensor, "token d_sae"]:
        """The codes as a matrix."""
        return self.pattern.to_dense(self.values)

    def tokens(self, start: int, end: int) -> SparseCodes:
        """Codes of tokens ``start:end``."""
        indptr = self.pattern.indptr[start : end + 1]
        entries = slice(int(indptr[0]), int(indptr[-1]))
        pattern = SparsePattern(indptr - indptr[0], self.pattern.indices[entries], self.d_sae)
        return SparseCodes(pattern, self.values[entries])

    def blocks(self) -> Iterator[SparseCodes]:
        """All codes, as stored ones are read by blocks."""
        yield self

    def select(self, keep: Bool[Tensor, " nnz"]) -> SparseCodes:
        """Only the entries where `keep` (nnz) is true."""
        indptr, indices = self.pattern.indptr, self.pattern.indices
        if not keep.is_cpu:
            pattern = SparsePattern(starts_of(keep)[indptr], indices[keep], self.d_sae)
            return SparseCodes(pattern, self.values[keep])
        from sae_stitching.sparse import kernels

        counts = torch.empty(self.n_tokens, dtype=torch.int64)
        kernels.match_threads()
        kernels.count_kept(*_arrays(indptr, keep, counts))
        starts = starts_of(counts)
        kept, values = indices.new_empty(int(starts[-1])), self.values.new_empty(int(starts[-1]))
        kernels.collect_kept(*_arrays(indptr, keep, indices, self.values, starts, kept, values))
        return SparseCodes(SparsePattern(starts, kept, self.d_sae), values)

    def without_zeros(self) -> SparseCodes:
        """The same codes without entries of value zero, or with them where they are few."""
        few = 2 * int(torch.count_nonzero(self.values)) < len(self)
        return self.select(self.values != 0) if few else self

    def double(self) -> SparseCodes:
        """The same codes in float64."""
        return SparseCodes(self.pattern, self.values.double())

    def matmul(self, dense: Float[Tensor, "d_sae d"]) -> Float[Tensor, "token d"]:
        """Codes times `dense`, e.g. the decoder."""
        return self.pattern.matmul(self.values, dense)


def encode_active(
    x: Tensor,
    W_enc_t: Tensor,
    b_enc: Tensor,
    b_dec: Tensor | None,
    codes: SparseCodes,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Make the pre-activations of active latents differentiable.

    Parameters
    ----------
    x : (token, d_model)
        The encoder's input before `b_dec` is subtracted; no gradient flows to it.
    W_enc_t : (d_sae, d_model)
        Encoder, one row a latent, so that its gradient is the `outer` product.
    b_enc : (d_sae)
    b_dec : (d_model) or None
        Subtracted from `x` where the SAE does so.
    codes : SparseCodes
        Pattern and values that the dense forward product found.
    dtype
        Precision of products with dense codes; that of `W_enc_t` if not given.

    Returns
    -------
    (nnz)
        ``codes.values``, with the gradients of ``(x - b_dec) @ W_enc + b_enc`` behind them.
    """
    dtype = dtype or W_enc_t.dtype
    return _EncodeActive.apply(W_enc_t, b_enc, b_dec, x, codes, dtype)  # type: ignore[no-any-return]


def decode(
    values: Tensor, W_dec: Tensor, pattern: SparsePattern, dtype: torch.dtype | None = None
) -> Tensor:
    """Differentiable ``f W_dec`` (token, d_model) of codes with these values.

    Products with dense codes have the precision `dtype`, or that of `W_dec`.
    """
    return _Decode.apply(values, W_dec, pattern, dtype or W_dec.dtype)  # type: ignore[no-any-return]


def of_latents(parameter: Tensor, pattern: SparsePattern) -> Tensor:
    """`parameter` (d_sae) at every entry of the pattern, differentiably: (nnz)."""
    return _OfLatents.apply(parameter, pattern)  # type: ignore[no-any-return]


class _EncodeActive(torch.autograd.Function):
    @staticmethod
    def forward(ctx, W_enc_t, b_enc, b_dec, x, codes, dtype):  # noqa: ARG004
        ctx.save_for_backward(W_enc_t, b_dec, x)
        ctx.pattern, ctx.dtype = codes.pattern, dtype
        return codes.values.clone()

    @staticmethod
    def backward(ctx, *grad_outputs):
        (grad,) = grad_outputs
        W_enc_t, b_dec, x = ctx.saved_tensors
        # A JumpReLU passes nothing back from below its threshold, where most entries may be.
        codes = SparseCodes(ctx.pattern, grad.contiguous()).without_zeros()
        grad_b_enc = codes.pattern.sum_by_latent(codes.values)
        grad_W = _Factor(codes, ctx.dtype).outer(x)
        if b_dec is None:
            return grad_W, grad_b_enc, None, None, None, None
        # Σ_t df_ti (x_t − b_dec): the bias part is of rank one, and the gradient that reaches
        # b_dec through the input is −Σ_ti df_ti W_enc_i, a sum over latents alone.
        grad_W.addr_(grad_b_enc, b_dec, alpha=-1.0)
        return grad_W, grad_b_enc, -(grad_b_enc @ W_enc_t), None, None, None


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, W_dec, pattern, dtype):
        ctx.save_for_backward(W_dec)
        ctx.pattern, ctx.dtype = pattern, dtype
        # Entries below a JumpReLU's threshold have a gradient, but no activation.
        ctx.codes = _Factor(SparseCodes(pattern, values.detach()).without_zeros(), dtype)
        return ctx.codes.matmul(W_dec)

    @staticmethod
    def backward(ctx, *grad_outputs):
        (grad,) = grad_outputs
        (W_dec,) = ctx.saved_tensors
        grad = grad.contiguous()
        grad_W = ctx.codes.outer(grad) if ctx.needs_input_grad[1] else None
        return _dot(ctx.pattern, grad, W_dec, ctx.dtype), grad_W, None, None


class _OfLatents(torch.autograd.Function):
    @staticmethod
    def forward(ctx, parameter, pattern):
        ctx.pattern = pattern
        return parameter[pattern.indices]

    @staticmethod
    def backward(ctx, *grad_outputs):
        return ctx.pattern.sum_by_latent(grad_outputs[0]), None


class _Factor:
    """Codes as a factor of products, dense where that takes less time."""

    def __init__(self, codes: SparseCodes, dtype: torch.dtype) -> None:
        self._codes = codes
        pays = _pays_dense(codes.pattern, dtype)
        self._dense = codes.pattern.to_dense(codes.values, dtype) if pays else None

    def matmul(self, dense: Tensor) -> Tensor:
        if self._dense is None:
            return self._codes.matmul(dense)
        return (self._dense @ dense.to(self._dense.dtype)).to(dense.dtype)

    def outer(self, dense: Tensor) -> Tensor:
        if self._dense is None:
            return self._codes.pattern.outer(self._codes.values, dense)
        return (self._dense.T @ dense.to(self._dense.dtype)).to(dense.dtype)


def _dot(pattern: SparsePattern, left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    if not _pays_dense(pattern, dtype):
        return pattern.dot(left, right)
    return pattern.of_dense(left.to(dtype) @ right.to(dtype).T).to(left.dtype)


def _pays_dense(pattern: SparsePattern, dtype: torch.dtype) -> bool:
    shares = _DENSE_ABOVE[pattern.indices.device.type]
    share = shares[dtype == torch.bfloat16]
    return len(pattern.indices) > share * pattern.n_tokens * pattern.d_sae


def _arrays(*tensors: Tensor) -> Iterator[np.ndarray]:
    return (tensor.detach().contiguous().numpy() for tensor in tensors)
