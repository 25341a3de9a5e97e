"""What tells the architectures apart in training: which latents are active, and what that costs.

With z = (x − b_dec) W_enc + b_enc, the loss of a token is ‖x − x̂‖² + λ · penalty (Eq. 3):

=========  ======================================  ============================================
relu       f = z where z > 0                       Σ f (paper, A.2), or Σ f ‖W_dec_i‖
topk       f = z, the k greatest of a token        none; AuxK helps dead latents
batchtopk  f = z, the k a token greatest of all    none; AuxK
jumprelu   f = z where z > θ_i, θ_i is learned     Σ H(z − θ_i) (Rajamanoharan et al., 2024b)
gated      f = ReLU(e^r_i (z − b_enc_i) + b_mag_i) Σ ReLU(z), and the error of ReLU(z) as codes
           where z > 0                             (Rajamanoharan et al., 2024a)
=========  ======================================  ============================================

Each formula is written for the entries of z that `reach` keeps: those with an activation or a
gradient. All others are zero and stay so.
"""

import math
from typing import ClassVar

import torch
from torch import Tensor

from sae_stitching.sparse.active import above, largest_of_batch, largest_of_token
from sae_stitching.sparse.codes import SparseCodes, SparsePattern, of_latents

Parameters = dict[str, Tensor]


class Architecture:
    """ReLU, and what the others change of it.

    Attributes
    ----------
    has_penalty
        Whether λ applies. Architectures without a penalty fix L0 by k, and have AuxK.
    """

    name: ClassVar[str] = "relu"
    has_penalty: ClassVar[bool] = True

    def __init__(self, k: int, bandwidth: float, decoder_norm_penalty: bool) -> None:
        self.k, self.bandwidth = k, bandwidth
        self.decoder_norm_penalty = decoder_norm_penalty

    def extra_parameters(self, d_sae: int) -> Parameters:
        """Parameters beside the encoder and the decoder, one value a latent."""
        del d_sae
        return {}

    def reach(self, z: Tensor, p: Parameters) -> SparseCodes:
        """Entries of dense z (token, d_sae) that have an activation or a gradient."""
        del p
        return above(z)

    def activate(
        self, z: Tensor, pattern: SparsePattern, p: Parameters
    ) -> tuple[Tensor, Tensor | None]:
        """Activations f of the entries (nnz), and what λ multiplies, summed over them.

        Parameters
        ----------
        z : (nnz)
            Pre-activations that `reach` kept.
        pattern
            Where they are.
        p
        """
        f = z.relu()
        if not self.decoder_norm_penalty:
            return f, f.sum()
        return f, (f * of_latents(torch.linalg.vector_norm(p["W_dec"], dim=1), pattern)).sum()

    def auxiliary_codes(self, z: Tensor) -> Tensor | None:
        """Codes that must reconstruct x too, by a decoder that is not trained for it."""
        del z

    def inference(self, p: Parameters, scale: float) -> dict[str, Tensor]:
        """Encoder, bias and threshold with which `SAE.encode` gives the same codes.

        Parameters
        ----------
        p
        scale
            That of the input in training: raw activations are what it was multiplied to.
        """
        return {"W_enc": p["W_enc_t"].T, "b_enc": p["b_enc"] / scale}


class TopK(Architecture):
    """The k greatest pre-activations of each token (Gao et al., 2024)."""

    name = "topk"
    has_penalty = False

    def activate(
        self, z: Tensor, pattern: SparsePattern, p: Parameters
    ) -> tuple[Tensor, Tensor | None]:
        """No penalty."""
        del pattern, p
        return z, None

    def reach(self, z: Tensor, p: Parameters) -> SparseCodes:
        """The k greatest of each token, where positive."""
        del p
        return largest_of_token(z, self.k)


class BatchTopK(TopK):
    """The (tokens × k) greatest pre-activations of the batch (Bussmann et al., 2024)."""

    name = "batchtopk"

    def reach(self, z: Tensor, p: Parameters) -> SparseCodes:
        """The greatest of the batch, where positive."""
        del p
        return largest_of_batch(z, self.k)

    def inference(self, p: Parameters, scale: float) -> dict[str, Tensor]:
        """The threshold is the mean over batches of the smallest activation kept (Eq. 8)."""
        threshold = p["threshold"].expand(len(p["b_enc"])) / scale
        return {**super().inference(p, scale), "threshold": threshold}


class JumpReLU(Architecture):
    """A learned threshold a latent, by straight-through estimators."""

    name = "jumprelu"

    def extra_parameters(self, d_sae: int) -> Parameters:
        """The thresholds, as logarithms so that they stay positive; half a bandwidth at first."""
        return {"log_threshold": torch.full((d_sae,), math.log(self.bandwidth / 2))}

    def reach(self, z: Tensor, p: Parameters) -> SparseCodes:
        """All above the threshold, and those near enough below to move it."""
        lowest = p["log_threshold"].detach().exp() - self.bandwidth / 2
        return above(z, lowest)

    def activate(
        self, z: Tensor, pattern: SparsePattern, p: Parameters
    ) -> tuple[Tensor, Tensor | None]:
        """F = z H(z − θ) and L0, both with the threshold's pseudo-derivative."""
        return _Jump.apply(z, p["log_threshold"].exp(), pattern, self.bandwidth)  # type: ignore[no-any-return]

    def inference(self, p: Parameters, scale: float) -> dict[str, Tensor]:
        """The learned thresholds."""
        return {**super().inference(p, scale), "threshold": p["log_threshold"].exp() / scale}


class Gated(Architecture):
    """One half of the encoder decides which latents are active, the other how much."""

    name = "gated"

    def extra_parameters(self, d_sae: int) -> Parameters:
        """Scale (as logarithm) and bias of the magnitudes."""
        return {"r_mag": torch.zeros(d_sae), "b_mag": torch.zeros(d_sae)}

    def activate(
        self, z: Tensor, pattern: SparsePattern, p: Parameters
    ) -> tuple[Tensor, Tensor | None]:
        """F = H(z) ReLU(e^r (z − b_gate) + b_mag), and the L1 norm of the gates' z.

        b_enc is the bias of the gate.
        """
        r = p["r_mag"].exp()
        bias = of_latents(p["b_mag"] - r * p["b_enc"], pattern)
        magnitude = of_latents(r, pattern) * z + bias
        return magnitude.relu() * (z > 0), z.relu().sum()

    def auxiliary_codes(self, z: Tensor) -> Tensor | None:
        """The gates' own activations: what trains the gate to open for what is needed."""
        return z.relu()

    def inference(self, p: Parameters, scale: float) -> dict[str, Tensor]:
        """Written as a JumpReLU: the gate opens where the magnitude exceeds a threshold.

        With m = e^r (z − b_gate) + b_mag, z > 0 says m > b_mag − e^r b_gate.
        """
        r, b_gate, b_mag = p["r_mag"].exp(), p["b_enc"], p["b_mag"]
        return {
            "W_enc": (p["W_enc_t"] * r[:, None]).T,
            "b_enc": b_mag / scale,
            "threshold": (b_mag - r * b_gate) / scale,
        }


#: By the name that the config and the files have for them.
ARCHITECTURES: dict[str, type[Architecture]] = {
    kind.name: kind for kind in (Architecture, TopK, BatchTopK, JumpReLU, Gated)
}


class _Jump(torch.autograd.Function):
    # Pseudo-derivatives (Rajamanoharan et al., 2024b, Eq. 11 and 12), with the rectangle K:
    #     d/dθ z H(z − θ) = −(θ/ε) K((z − θ)/ε)         d/dθ H(z − θ) = −(1/ε) K((z − θ)/ε)
    @staticmethod
    def forward(ctx, z, threshold, pattern, bandwidth):
        above_threshold = z - threshold[pattern.indices]
        active, near = above_threshold > 0, above_threshold.abs_() < bandwidth / 2
        ctx.save_for_backward(threshold, active, near)
        ctx.pattern, ctx.bandwidth = pattern, bandwidth
        return z * active, active.sum().to(z.dtype)

    @staticmethod
    def backward(ctx, *grad_outputs):
        grad, grad_l0 = grad_outputs
        threshold, active, near = ctx.saved_tensors
        of_f = ctx.pattern.sum_by_latent(grad * near)
        of_l0 = ctx.pattern.sum_by_latent(near.to(grad.dtype))
        grad_threshold = (threshold * of_f + grad_l0 * of_l0).div_(-ctx.bandwidth)
        return grad * active, grad_threshold, None, None
