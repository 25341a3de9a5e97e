"""SAEs that normalise each token by itself, and what their parts are in the activations' own units.

Such an SAE reads z = (x − m) / (s + ε) and gives x̂ = s ẑ + m, with m and s of each token, and none
of them learned:

    layer_norm              m mean over d_model, s standard deviation (of d_model − 1), ε = 1e-5
    constant_norm_rescale   m = 0, s = ‖x‖ / √d_model, ε = 0

as SAELens has them, and OpenAI's SAEs of GPT-2 the first (https://arxiv.org/abs/2406.04093). So

    x − x̂ = (x − m) − Σ_i (s f_i) W_dec_i − s b_dec:

of x − m the latents' activations are s f_i and the decoder is as it is, with a bias that is s times
as large on each token. Two SAEs of one norm can be stitched so, and errors are those of x.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sae_stitching.base.errors import StudyError
from sae_stitching.sparse.codes import SparseCodes

if TYPE_CHECKING:
    from jaxtyping import Float

LAYER_NORM, CONSTANT_NORM = "layer_norm", "constant_norm_rescale"
NORMALIZATIONS = (LAYER_NORM, CONSTANT_NORM)
_EPSILON = 1e-5


def centred(
    x: Float[Tensor, "token d_model"], normalize: str
) -> tuple[Float[Tensor, "token d_model"], Float[Tensor, " token"]]:
    """Activations x − m, and the scale s of each token.

    Parameters
    ----------
    x : (token, d_model)
    normalize
        One of `NORMALIZATIONS`.
    """
    if normalize == LAYER_NORM:
        x = x - x.mean(1, keepdim=True)
        return x, x.std(1)
    assert normalize == CONSTANT_NORM
    return x, torch.linalg.vector_norm(x, dim=1) / x.shape[1] ** 0.5


def normalized(x: Float[Tensor, "token d_model"], normalize: str) -> Float[Tensor, "token d_model"]:
    """What the SAE reads, z."""
    x, scale = centred(x, normalize)
    # A token of zeros alone stays one.
    scale = scale + _EPSILON if normalize == LAYER_NORM else torch.where(scale > 0, scale, 1.0)
    return x / scale[:, None]


def restored(
    x_hat: Float[Tensor, "token d_model"], x: Float[Tensor, "token d_model"], normalize: str
) -> Float[Tensor, "token d_model"]:
    """Reconstruction of x from that of z."""
    rest, scale = centred(x, normalize)
    return x_hat * scale[:, None] + (x - rest)


def scaled(codes: SparseCodes, scale: Float[Tensor, " token"]) -> SparseCodes:
    """Activations s f_i, of the latents that read z."""
    return SparseCodes(codes.pattern, codes.values * scale[codes.pattern.rows])


def shared(normalizations: Mapping[str, str | None]) -> str | None:
    """The norm of several SAEs, by what they are called.

    Raises
    ------
    StudyError
        If they have several: what one adds is then not in the other's units.
    """
    (first, norm), *others = normalizations.items()
    for name, other in others:
        if other != norm:
            raise StudyError(
                f"{name}: normalises each token by {other or 'nothing'}, but {first} by "
                f"{norm or 'nothing'}; compare SAEs of one norm"
            )
    return norm
