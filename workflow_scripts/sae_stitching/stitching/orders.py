"""The same operations in many orders, at the price of little more than one.

In the words of `sums`, an order puts operations o one after the other, each adding d_ot to the
reconstruction of token t. Without the bias, the squared error after the operations O is

    Σ_t ‖r_t − Σ_{o∈O} d_ot‖² = Σ_t ‖r_t‖² − 2 Σ_{o∈O} b_o + Σ_{o,p∈O} G_op,
    b_o = Σ_t d_ot·r_t,    G_op = Σ_t d_ot·d_pt.

Neither b nor G knows of the order. With ±f for latents that come or go, d_ot = Σ_{l∈o} ±f_tl W_l,
so that G follows from FᵀF, which sparse codes make cheap, and the decoders' inner products. An
order only says which entries of G are summed when: a walk through n operations costs n² additions,
and no data.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from scipy.sparse import hstack, vstack

from sae_stitching.sparse.csr import to_csr
from sae_stitching.stitching.operations import Operations
from sae_stitching.stitching.pairs import EvalPair
from sae_stitching.stitching.sums import PairSums
from sae_stitching.stitching.walks import Walk

# Entries of G held at once: 2 GiB in float64. More latents take more passes over the codes.
_ELEMENTS = 1 << 28
# Codes that are multiplied at once.
_NONZEROS = 1 << 25
# Rows of G that are summed in one order at once, so that they stay in the cache.
_ROWS = 64


class OrderSums(PairSums):
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
    b : (operation) float64
        b_o.
    W : (changed, d_model) float64
        Decoder directions of the latents that take part, negative for those that go.
    """

    def __init__(self, pair: EvalPair, operations: Operations, label: str = "orders") -> None:
        super().__init__(pair, operations)
        along_r = np.zeros(len(self.operation_of))
        for block, r in self.residuals(label):
            both = block.codes_small, block.codes_large
            for part, codes, W_dec in zip(self.sides, both, self.W_dec, strict=True):
                projected = codes.pattern.dot(r, W_dec)
                along_r[part] += codes.pattern.sum_by_latent(codes.values * projected).numpy()
        self.b = self.by_operation(self.sign * along_r[self.latents])
        changed = (self.operation_of[part] >= 0 for part in self.sides)
        self.W = np.concatenate(
            [W_dec.numpy()[of_sae] for W_dec, of_sae in zip(self.W_dec, changed, strict=True)]
        )
        self.W *= self.sign[:, None]
        self._operation = self.operation_of[self.latents]
        self._kept: list[tuple[slice, np.ndarray]] | None = None

    def alone(self) -> np.ndarray:
        """Change in MSE by each operation on its own, (operation) float64."""
        within = np.zeros(len(self.latents))
        for rows, G in self._interactions():
            for first in range(rows.start, rows.stop, _ROWS):
                part = slice(first, min(first + _ROWS, rows.stop))
                same = self._operation[part, None] == self._operation
                within[part] = (G[first - rows.start : part.stop - rows.start] * same).sum(1)
        own = self.by_operation(within) - 2 * self.b
        n_small = self.d_small - self.operations.n_small
        mse = self.mse(self.sse_small + own, self.along_bias, n_small, self.operations.n_large)
        return mse - self.mse_small

    def walks(self, orders: Sequence[np.ndarray]) -> list[Walk]:
        """Apply the operations in each order.

        Parameters
        ----------
        orders
            Each the numbers of some or all operations, none twice.
        """
        changes = [np.zeros(len(self.latents)) for _ in orders]
        for rows, G in self._interactions():
            for order, change in zip(orders, changes, strict=True):
                self._sum_in_order(G, rows, order, change)
        return [
            self.walk(self.by_operation(change) - 2 * self.b, order)
            for order, change in zip(orders, changes, strict=True)
        ]

    def _sum_in_order(
        self, G: np.ndarray, rows: slice, order: np.ndarray, change: np.ndarray
    ) -> None:
        # An operation meets those before it twice, as (o, p) and (p, o), and itself once.
        rank_of = np.full(self.operations.n, -1)
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

    def _interactions(self) -> Iterator[tuple[slice, np.ndarray]]:
        """G of the latents, (latent, latent), in blocks of rows; kept where one block holds all."""
        if self._kept is not None:
            yield from self._kept
            return
        n = len(self.latents)
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
        for block in self.pair.blocks():
            codes: Any = hstack(
                [to_csr(block.codes_small), to_csr(block.codes_large)], format="csr"
            )
            waiting.append(codes[:, self.latents])
            size += codes.nnz
            if size >= _NONZEROS:
                yield vstack(waiting, format="csr")
                waiting, size = [], 0
        if waiting:
            yield vstack(waiting, format="csr")
