"""Latents of the larger SAE chosen one by one, each by its effect given those already chosen.

In the words of `orders`, with q the residual of the smaller SAE less what has been chosen, without
the change in bias, adding latent i as the k-th changes the summed squared error by

    G_ii − 2 b_i + 2 β_k s_i W_i·Δb   and what does not depend on i,
    b_i = Σ_t f_ti W_i·q_t,   s_i = Σ_t f_ti,   G_ij = Σ_t f_ti f_tj W_i·W_j,

and after latent j has been chosen b_i falls by G_ij. Column j of G is nonzero only for latents
that are active together with j, and needs only the tokens where j is active, so that choosing all
latents costs as much as a product of the sparse codes with themselves.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array, vstack

from sae_stitching.base import arrays
from sae_stitching.base.errors import StudyError
from sae_stitching.base.progress import Progress
from sae_stitching.stitching.operations import Operations
from sae_stitching.stitching.orders import OrderSums
from sae_stitching.stitching.pairs import EvalPair


@dataclass(frozen=True)
class GreedyLatents:
    """Latents in the order in which they were chosen.

    Attributes
    ----------
    latents : (n) int64
        Their numbers in the larger SAE.
    mse : (n + 1) float64
        Of the stitched SAE before the first and after each.
    """

    latents: np.ndarray
    mse: np.ndarray

    @property
    def n_lowering(self) -> int:
        """How many latents are chosen before the first that does not lower the MSE."""
        return int(np.argmin(np.append(np.diff(self.mse), 0.0) < 0))


def greedy_latents(
    pair: EvalPair,
    n: int | None = None,
    *,
    candidates: np.ndarray | None = None,
    label: str = "greedy",
) -> GreedyLatents:
    """Choose latents of the larger SAE one by one, each time the one that lowers the MSE most.

    The effects are exact: each is that of stitching the smaller SAE, the latents already chosen and
    this one (Eq. 5), with the bias mixed for as many latents. Of equal effects that of the latent
    with the lowest number counts. Latents that are never active on these tokens have no measured
    effect and are never chosen.

    Parameters
    ----------
    pair
        The SAEs, and the tokens that effects are measured on. A choice made on the tokens that the
        result is judged on looks better than it is.
    n
        Latents to choose, also where they raise the MSE; fewer where not so many are active. By
        default as many as lower it: the choice ends where no latent would.
    candidates : (d_large) bool
        Latents that may be chosen; by default all.
    label
        Names the work in the log.

    Raises
    ------
    StudyError
        If `candidates` has another length than the larger SAE.

    Examples
    --------
    The larger SAE has the direction that the smaller one lacks twice. Either of the two would help,
    both would be one too many.

    >>> import torch
    >>> from sae_stitching import SAE, EvalPair, greedy_latents
    >>> def sae(W):
    ...     return SAE(W.T, W, torch.zeros(len(W)), torch.zeros(2), "relu")
    >>> small, large = sae(torch.eye(2)[:1]), sae(torch.eye(2)[[1, 1, 0]])
    >>> x = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> found = greedy_latents(EvalPair.in_memory(small, large, x, torch.tensor([0, 0, 1])))
    >>> found.latents.tolist(), found.mse.round(3).tolist()
    ([0], [0.333, 0.0])
    """
    from sae_stitching.stitching.kernels import subtract_column

    d_small, d_large = pair.small.d_sae, pair.large.d_sae
    if candidates is None:
        candidates = np.ones(d_large, dtype=bool)
    mask = arrays.array("candidates", candidates)
    if mask.shape != (d_large,):
        raise StudyError(f"candidates: shape {mask.shape} for a larger SAE of {d_large} latents")
    if mask.dtype != bool:
        raise StudyError(f"candidates: are of type {mask.dtype}, expected a mask of true and false")
    latents = np.flatnonzero(mask)
    sums = OrderSums(pair, Operations.insertions(latents, d_small, d_large), label)
    rows = _codes(sums, len(latents))
    columns = rows.tocsc()
    W, d_along_bias = sums.W, sums.along_bias
    G_own = np.zeros(len(latents))
    np.add.at(G_own, rows.indices, rows.data**2)
    G_own *= np.einsum("id,id->i", W, W)
    b, left = sums.b.copy(), np.diff(columns.indptr) > 0
    buffers = np.zeros(len(latents)), np.zeros(len(latents), bool), np.zeros(len(latents), np.int64)

    most = int(left.sum()) if n is None else min(n, int(left.sum()))
    sse, along_bias = sums.sse_small, 0.0
    chosen: list[int] = []
    mse = [float(sums.mse(sse, along_bias, d_small, 0))]
    progress = Progress(most, label, "latents")
    while len(chosen) < most:
        k = len(chosen) + 1
        beta = k / (d_small + k)
        change = np.where(left, G_own - 2 * b + 2 * beta * d_along_bias, np.inf)
        j = int(np.argmin(change))
        after = sse + G_own[j] - 2 * b[j], along_bias + d_along_bias[j]
        reached = float(sums.mse(*after, d_small, k))
        if n is None and reached >= mse[-1]:
            break
        sse, along_bias = after
        chosen.append(j)
        mse.append(reached)
        left[j] = False
        subtract_column(
            j, b, W, rows.indptr, rows.indices, rows.data,
            columns.indptr, columns.indices, columns.data, *buffers,
        )  # fmt: skip
        progress.update(1)
    return GreedyLatents(latents[chosen], np.array(mse))


def _codes(sums: OrderSums, n_latents: int) -> csr_array:
    # Activations of the candidates on all tokens, (token, candidate).
    blocks = list(sums.codes())
    return csr_array(vstack(blocks, format="csr")) if blocks else csr_array((0, n_latents))
