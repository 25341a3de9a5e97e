"""The loops of this package that Numba compiles, see `effects` and `greedy`.

They are imported where one runs, see `sparse.kernels`.
"""

import numpy as np

from sae_stitching.base.compiled import compiled


# Sums may be taken in any order, as PyTorch takes them; without that they are not vectorised.
@compiled(fastmath={"reassoc", "nsz", "contract"})
def walk(
    q: np.ndarray,
    starts: np.ndarray,
    indptr: np.ndarray,
    latent: np.ndarray,
    value: np.ndarray,
    W_small: np.ndarray,
    W_large: np.ndarray,
) -> np.ndarray:
    """Change of ‖q‖² by every group of a token in order; q is changed with it."""
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


@compiled(fastmath={"reassoc", "nsz", "contract"})
def subtract_column(
    j: int,
    b: np.ndarray,
    W: np.ndarray,
    row_start: np.ndarray,
    row_latent: np.ndarray,
    row_value: np.ndarray,
    column_start: np.ndarray,
    column_token: np.ndarray,
    column_value: np.ndarray,
    together: np.ndarray,
    seen: np.ndarray,
    touched: np.ndarray,
) -> None:
    """Subtract column j of the Gram matrix G: b −= G_:j."""
    # The buffers are all zero before and after: clearing what was touched costs less than new
    # ones.
    n = 0
    for entry in range(column_start[j], column_start[j + 1]):
        token, f = column_token[entry], column_value[entry]
        for other in range(row_start[token], row_start[token + 1]):
            i = row_latent[other]
            if not seen[i]:
                seen[i] = True
                touched[n] = i
                n += 1
            together[i] += f * row_value[other]
    for m in range(n):
        i = touched[m]
        inner = 0.0
        for d in range(W.shape[1]):
            inner += W[i, d] * W[j, d]
        b[i] -= together[i] * inner
        together[i] = 0.0
        seen[i] = False
