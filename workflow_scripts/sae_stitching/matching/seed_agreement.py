"""Agreement of two SAEs of one size that differ in their seed: how many latents they share.

Three numbers, as published: the share of latents whose max cosine is at least 0.7 (the paper's
Figure 16), the share of those matched one to one that are that near, after the matching of greatest
total cosine (Paulo and Belrose, 2025, who ask for it in the encoder too), and the mean absolute
cosine over the one-to-one matching of greatest mean (PW-MCC; Song et al., 2025). Directions drawn
at random agree a little too, the more so the more there are in few dimensions: the same numbers of
random dictionaries of the same shape say how little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sae_stitching.matching.decoder_similarity import at_least, similarity

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

#: Cosine from which on two latents count as the same, in the paper's Figure 16 and since.
SHARED_COSINE = 0.7

#: Latents up to which latents are matched one to one: the matching takes the cube of their number.
MATCHED_UP_TO = 16384


@dataclass(frozen=True)
class Agreement:
    """What two dictionaries of one size share.

    Attributes
    ----------
    max_cosine : (2 × d_sae) float32
        Greatest cosine of each latent of either to any of the other.
    matched_cosine : (d_sae) float32
        Cosine of each matched couple; empty above `MATCHED_UP_TO` latents.
    pw_mcc : float
        Mean absolute cosine over the matching of greatest mean absolute cosine; NaN above
        `MATCHED_UP_TO`.
    """

    max_cosine: Float[np.ndarray, " both"]
    matched_cosine: Float[np.ndarray, " d_sae"]
    pw_mcc: float

    @property
    def share(self) -> float:
        """Share of latents with a max cosine ≥ `SHARED_COSINE`, the mean of both directions."""
        return _share(self.max_cosine)

    @property
    def share_matched(self) -> float:
        """Share of one-to-one matches with a cosine ≥ `SHARED_COSINE`; NaN where none were made."""
        return _share(self.matched_cosine)


def agreement(
    W_dec: Float[Tensor, "d_sae d_model"], other: Float[Tensor, "d_sae d_model"]
) -> Agreement:
    """Compare the decoder directions of two SAEs of one size.

    Parameters
    ----------
    W_dec, other : (d_sae, d_model)
        Decoders, one row a latent, of any norm.

    Raises
    ------
    StudyError
        If they are not of one d_model.

    Examples
    --------
    >>> import torch
    >>> from sae_stitching.matching.seed_agreement import agreement
    >>> found = agreement(torch.eye(3), torch.eye(3)[[1, 2, 0]])
    >>> found.share, found.share_matched, found.pw_mcc
    (1.0, 1.0, 1.0)
    """
    matched = len(W_dec) <= MATCHED_UP_TO
    found = similarity(W_dec, other, floor=SHARED_COSINE, keep=matched)
    max_cosine = np.concatenate([found.max_cosine_small, found.max_cosine_large])
    if found.cosine is None:
        return Agreement(max_cosine, np.empty(0, np.float32), float("nan"))
    from scipy.optimize import linear_sum_assignment  # slow to import, as the workflow need not

    couples = linear_sum_assignment(found.cosine, maximize=True)
    absolute = np.abs(found.cosine)
    return Agreement(
        max_cosine,
        found.cosine[couples],
        float(absolute[linear_sum_assignment(absolute, maximize=True)].mean(dtype=np.float64)),
    )


def random_agreement(d_sae: int, d_model: int, seed: int = 0) -> Agreement:
    """Agreement of two dictionaries of directions drawn at random from the sphere."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    return agreement(*(torch.randn(d_sae, d_model, generator=generator) for _ in range(2)))


def _share(cosine: np.ndarray) -> float:
    return float(at_least(cosine, SHARED_COSINE).mean()) if len(cosine) else float("nan")
