"""The same operations in many orders, at the price of little more than one.

In the words of `stitching`, an order puts operations o one after the other, each adding d_ot to the
reconstruction of token t. Without the bias, the squared error after the operations O is

    Σ_t ‖r_t − Σ_{o∈O} d_ot‖² = Σ_t ‖r_t‖² − 2 Σ_{o∈O} b_o + Σ_{o,p∈O} G_op,
    b_o = Σ_t d_ot·r_t,    G_op = Σ_t d_ot·d_pt.

Neither b nor G knows of the order. With ±f for latents that come or go, d_ot = Σ_{l∈o} ±f_tl W_l,
so that G follows from FᵀF, which sparse codes make cheap, and the decoders' inner products. An
order only says which entries of G are summed when: a walk through n operations costs n² additions,
and no data.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse import hstack, vstack

from sae_stitching.base.progress import Progress
from sae_stitching.sparse.csr import to_csr
from sae_stitching.stitching.effects import EvalPair, Operations

# Entries of G held at once: 2 GiB in float64. More latents take more passes over the codes.
_ELEMENTS = 1 << 28
# Codes that are multiplied at once.
_NONZEROS = 1 << 25
# Rows of G that are summed in one order at once, so that they stay in the cache.
_ROWS = 64


@dataclass(frozen=True)
class Walk:
    """The stitched SAE before the first operation of an order and after each.

    Attributes
    ----------
    mse, l0 : (operation + 1) float64
    n_latents : (operation + 1) int64
    """

    mse: np.ndarray
    l0: np.ndarray
    n_latents: np.ndarray


class OrderSums:
    """What the operations do to the smaller SAE, in any order.

    Parameters
    ----------
    pair
    operations
        Which latents each operation takes out or puts in; their own order plays no part.
    label
        Names the work in the log.

    Attributes
    ----------
    sse : float
        Σ_t ‖r_t‖².
    b : (operation) float64
        b_o.
    along_bias : (operation) float64
        Δb·Σ_t d_ot.
    W : (latent, d_model) float64
        Decoder directions of the latents that take part, negative for those that go.
    """

    def __init__(self, pair: EvalPair, operations: Operations, label: str = "orders") -> None:
        self._pair = pair
        d_small, d_model = pair.small.d_sae, pair.small.d_model
        operation_of = torch.cat([operations.small, operations.large]).numpy()
        self._n = operations.n
        self._latents = np.flatnonzero(operation_of >= 0)
        self._operation = operation_of[self._latents]
        sign = np.where(self._latents < d_small, -1.0, 1.0)
        W_small, b_small = pair.small.W_dec.double(), pair.small.b_dec.double()
        W = torch.cat([W_small, pair.large.W_dec.double()]).numpy()
        self.W = W[self._latents] * sign[:, None]
        delta_b = (pair.large.b_dec.double() - b_small).numpy()

        d_all = len(operation_of)
        count, total, along_r = np.zeros(d_all), np.zeros(d_all), np.zeros(d_all)
        r_sum = np.zeros(d_model)
        self.sse, self._n_tokens = 0.0, 0
        n_active_small = 0
        progress = Progress(pair.n_tokens, label)
        for block in pair.blocks():
            small, large = block.codes_small.double(), block.codes_large.double()
            r = block.x.double() - small.matmul(W_small) - b_small
            self.sse += r.square().sum().item()
            self._n_tokens += len(r)
            r_sum += r.sum(0).numpy()
            n_active_small += len(small.values)
            for codes, part in ((small, slice(0, d_small)), (large, slice(d_small, None))):
                count[part] += codes.pattern.counts.numpy()
                total[part] += codes.pattern.sum_by_latent(codes.values).numpy()
                projected = codes.pattern.dot(r, torch.from_numpy(W[part]))
                along_r[part] += codes.pattern.sum_by_latent(codes.values * projected).numpy()
            progress.update(len(r))

        at = self._latents
        self.b = self._by_operation(sign * along_r[at])
        self.along_bias = self._by_operation(sign * total[at] * (W[at] @ delta_b))
        self._delta_l0 = self._by_operation(sign * count[at] / self._n_tokens)
        self._l0_small = n_active_small / self._n_tokens
        self._r_along_bias = float(delta_b @ r_sum)
        self._bias_squared = float(delta_b @ delta_b)
        self._n_out = self._by_operation((sign < 0).astype(np.float64)).astype(np.int64)
        self._n_in = self._by_operation((sign > 0).astype(np.float64)).astype(np.int64)
        self._kept: list[tuple[slice, np.ndarray]] | None = None

    def _by_operation(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self._operation, weights=values, minlength=self._n)

    def alone(self) -> np.ndarray:
        """Change in MSE by each operation on its own, (operation) float64."""
        within = np.zeros(len(self._latents))
        for rows, G in self._interactions():
            for first in range(rows.start, rows.stop, _ROWS):
                part = slice(first, min(first + _ROWS, rows.stop))
                same = self._operation[part, None] == self._operation
                within[part] = (G[first - rows.start : part.stop - rows.start] * same).sum(1)
        own = self._by_operation(within) - 2 * self.b
        n_small = self._pair.small.d_sae - self._n_out
        return self.mse(self.sse + own, -self.along_bias, n_small, self._n_in) - self.mse(
            np.array(self.sse), np.array(0.0), np.array(self._pair.small.d_sae), np.array(0)
        )

    def walks(self, orders: Sequence[np.ndarray]) -> list[Walk]:
        """Apply the operations in each order.

        Parameters
        ----------
        orders
            Each the numbers of some or all operations, none twice.
        """
        changes = [np.zeros(len(self._latents)) for _ in orders]
        for rows, G in self._interactions():
            for order, change in zip(orders, changes, strict=True):
                self._sum_in_order(G, rows, order, change)
        return [self._walk(*pair) for pair in zip(orders, changes, strict=True)]

    def _sum_in_order(
        self, G: np.ndarray, rows: slice, order: np.ndarray, change: np.ndarray
    ) -> None:
        # An operation meets those before it twice, as (o, p) and (p, o), and itself once.
        rank_of = np.full(self._n, -1)
        rank_of[order] = np.arange(len(order))
        rank = rank_of[self._operation]
        columns = np.argsort(rank, kind="stable")[np.count_nonzero(rank < 0) :]
        ascending = rank[columns]
        mine = rows.start + np.flatnonzero(rank[rows] >= 0)
        for first in range(0, len(mine), _ROWS):
            part = mine[first : first + _ROWS]
            run = np.zeros((len(part), len(columns) + 1))
            np.cumsum(G[part - rows.start][:, columns], axis=1, out=run[:, 1:])
            i = np.arange(len(part))
            before = run[i, np.searchsorted(ascending, rank[part], side="left")]
            up_to = run[i, np.searchsorted(ascending, rank[part], side="right")]
            change[part] = before + up_to

    def _walk(self, order: np.ndarray, change: np.ndarray) -> Walk:
        steps = (self._by_operation(change) - 2 * self.b)[order]
        n_small = self._pair.small.d_sae - _running(self._n_out[order])
        n_large = _running(self._n_in[order])
        along = -_running(self.along_bias[order])
        mse = self.mse(self.sse + _running(steps), along, n_small, n_large)
        return Walk(mse, self._l0_small + _running(self._delta_l0[order]), n_small + n_large)

    def mse(self, sse: Any, along_bias: Any, n_small: Any, n_large: Any) -> Any:
        """MSE with the mixed bias (Eq. 5), of numbers or of arrays.

        Parameters
        ----------
        sse
            Σ_t ‖q_t‖², without the change in bias.
        along_bias
            Change of Δb·Σ_t q_t.
        n_small, n_large
            Latents of either SAE.
        """
        beta = n_large / np.maximum(n_small + n_large, 1)
        T = self._n_tokens
        sse = sse - 2 * beta * (self._r_along_bias + along_bias) + T * beta**2 * self._bias_squared
        return sse / (T * self._pair.small.d_model)

    def _interactions(self) -> Iterator[tuple[slice, np.ndarray]]:
        """G of the latents, (latent, latent), in blocks of rows; kept where one block holds all."""
        if self._kept is not None:
            yield from self._kept
            return
        n = len(self._latents)
        step = max(1, _ELEMENTS // max(n, 1))
        for first in range(0, n, step):
            rows = slice(first, min(first + step, n))
            G = np.zeros((rows.stop - rows.start, n))
            for F in self.codes():
                G += (F[:, rows].T @ F).toarray()
            G *= self.W[rows] @ self.W.T
            if step >= n:
                self._kept = [(rows, G)]
            yield rows, G

    def codes(self) -> Iterator[Any]:
        """Activations of the latents that take part, (token, latent), many tokens at a time."""
        waiting, size = [], 0
        for block in self._pair.blocks():
            codes: Any = hstack(
                [to_csr(block.codes_small), to_csr(block.codes_large)], format="csr"
            )
            waiting.append(codes[:, self._latents])
            size += codes.nnz
            if size >= _NONZEROS:
                yield vstack(waiting, format="csr")
                waiting, size = [], 0
        if waiting:
            yield vstack(waiting, format="csr")


def _running(values: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, values.dtype), np.cumsum(values)])
