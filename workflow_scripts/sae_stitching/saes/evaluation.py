"""Properties of one SAE on the eval tokens (the paper's Table 2, where it has the column)."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sae_stitching.base.errors import StudyError, unreadable
from sae_stitching.base.store import replacing

# torch takes seconds to load, and figures and tables only read what is stored.
if TYPE_CHECKING:
    import torch
    from jaxtyping import Float

    from sae_stitching.activations.shards import Activations, ActivationShards
    from sae_stitching.saes.encoding import StoredCodes
    from sae_stitching.saes.sae import SAE, Decoder
    from sae_stitching.sparse.codes import SparseCodes

_logger = logging.getLogger(__name__)


def evaluate(
    sae: SAE | Decoder,
    activations: Activations | ActivationShards,
    codes: SparseCodes | StoredCodes,
) -> dict[str, Any]:
    """Measure an SAE on activations and its codes of them (the paper's Table 2).

    Parameters
    ----------
    sae
        Only its decoder is used.
    activations
        In memory, or on disk.
    codes
        Of the SAE over all these tokens.

    Returns
    -------
    dict
        ``d_sae``, ``architecture``; ``l0``, the mean number of active latents; ``mse``, the mean
        over tokens and over d_model; ``fvu``, the fraction of variance unexplained
        ΣSSE / ΣSST with the global mean, None where all activations are equal; ``n_live`` and
        ``n_dead``, latents that fire on the eval tokens or never do; ``n_tokens``.

    Examples
    --------
    >>> import torch
    >>> from sae_stitching import SAE, Activations, evaluate
    >>> W_dec = torch.eye(2)[:1]
    >>> sae = SAE(W_dec.T, W_dec, torch.zeros(1), torch.zeros(2), "relu")
    >>> x = torch.tensor([[4.0, 1.0], [0.0, -1.0]])
    >>> row = evaluate(sae, Activations(x, torch.tensor([0, 1])), sae.encode(x))
    >>> row["l0"], row["mse"], round(row["fvu"], 6)
    (0.5, 0.5, 0.2)
    """
    import torch

    from sae_stitching.saes import normalization

    W_dec, b_dec = sae.W_dec.double(), sae.b_dec.double()
    sse = 0.0
    total = torch.zeros(activations.d_model, dtype=torch.float64)
    squares = torch.zeros(activations.d_model, dtype=torch.float64)
    # Squares are taken about a nearby point, or the variance would drown in the mean.
    centre: torch.Tensor | None = None
    counts = torch.zeros(sae.d_sae, dtype=torch.int64)
    for block in activations.blocks():
        x = block.activations.double()
        block_codes = codes.tokens(block.start, block.start + len(x)).double()
        if sae.normalize is None:
            r = x - block_codes.matmul(W_dec) - b_dec
        else:
            rest, scale = normalization.centred(x, sae.normalize)
            block_codes = normalization.scaled(block_codes, scale)
            r = rest - block_codes.matmul(W_dec) - torch.outer(scale, b_dec)
        sse += r.square().sum().item()
        counts += block_codes.pattern.counts
        centre = x.mean(0) if centre is None else centre
        total += (x - centre).sum(0)
        squares += (x - centre).square().sum(0)
    n_tokens = activations.n_tokens
    sst = (squares - total.square() / n_tokens).sum().item()
    # Of equal activations only rounding is left, relative to their size.
    if centre is None or sst <= 1e-20 * n_tokens * centre.square().sum().item():
        _logger.warning("FVU is undefined: all eval activations are equal")
        sst = None
    n_live = int((counts > 0).sum())
    return {
        "d_sae": sae.d_sae,
        "architecture": sae.architecture,
        "l0": counts.sum().item() / n_tokens,
        "mse": sse / (n_tokens * sae.d_model),
        "fvu": None if sst is None else sse / sst,
        "n_live": n_live,
        "n_dead": sae.d_sae - n_live,
        "n_tokens": n_tokens,
    }


def mean_activation(shards: ActivationShards) -> Float[torch.Tensor, " d_model"]:
    """Mean of the cached activations over all tokens, in float64."""
    import torch

    total = torch.zeros(shards.d_model, dtype=torch.float64)
    for block in shards.blocks():
        total += block.activations.double().sum(0)
    return total / shards.n_tokens


def write_json(row: Mapping[str, Any], path: str | Path) -> None:
    """Write one row of a table as JSON."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(row, indent=1) + "\n")


def read_rows(paths: Sequence[str | Path]) -> list[dict[str, Any]]:
    """Read rows that `write_json` wrote.

    Raises
    ------
    StudyError
        If a file is missing or damaged.
    """
    return [_read_row(path) for path in paths]


def _read_row(path: str | Path) -> dict[str, Any]:
    try:
        row = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path}: no such file; run again to have it made") from None
    except (OSError, ValueError) as error:
        raise unreadable(path, error, f"not JSON ({error}); delete it and run again") from error
    if not isinstance(row, dict):
        raise StudyError(f"{path}: holds no row of a table; delete it and run again")
    return row
