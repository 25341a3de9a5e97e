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

Each formula is written once, for entries of z: on the dense path these are all of a batch, on the
sparse path those that `reach` keeps. `Entries.of` brings a parameter of the latents to them.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sae_stitching.selection import above, largest_of_batch, largest_of_token
from sae_stitching.sparse import SparseCodes, SparsePattern, of_latents

Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class Entries:
    """Pre-activations that take part in the loss: a dense matrix, or those of a pattern.

    Attributes
    ----------
    z : (token, d_sae) or (nnz)
    pattern : SparsePattern or None
        Where they are; None for the dense matrix.
    """

    z: Tensor
    pattern: SparsePattern | None = None

    def of(self, parameter: Tensor) -> Tensor:
        """`parameter` (d_sae) at every entry."""
        return parameter if self.pattern is None else of_latents(parameter, self.pattern)


class Architecture:
    """ReLU, and what the others change of it.

    Attributes
    ----------
    starts_dense
        Whether about half of the latents are active before training; then the dense path is
        taken until few enough are.
    has_penalty
        Whether λ applies. Architectures without a penalty fix L0 by k, and have AuxK.
    """

    name: ClassVar[str] = "relu"
    starts_dense: ClassVar[bool] = True
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

    def activate(self, entries: Entries, p: Parameters) -> Tensor:
        """Activations f of the entries."""
        del p
        return entries.z.relu()

    def penalty(self, entries: Entries, f: Tensor, p: Parameters) -> Tensor:
        """What λ multiplies, summed over the entries."""
        if self.decoder_norm_penalty:
            f = f * entries.of(torch.linalg.vector_norm(p["W_dec"], dim=1))
        return _total(f)

    def auxiliary_codes(self, entries: Entries) -> Tensor | None:
        """Codes that must reconstruct x too, by a decoder that is not trained for it."""
        del entries

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
    starts_dense = False
    has_penalty = False

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

    def activate(self, entries: Entries, p: Parameters) -> Tensor:
        """F = z H(z − θ), with the threshold's pseudo-derivative."""
        threshold = entries.of(p["log_threshold"].exp())
        return _Jump.apply(entries.z, threshold, self.bandwidth)  # type: ignore[no-any-return]

    def penalty(self, entries: Entries, f: Tensor, p: Parameters) -> Tensor:
        """L0, with its pseudo-derivative."""
        del f
        threshold = entries.of(p["log_threshold"].exp())
        return _total(_Step.apply(entries.z, threshold, self.bandwidth))

    def inference(self, p: Parameters, scale: float) -> dict[str, Tensor]:
        """The learned thresholds."""
        return {**super().inference(p, scale), "threshold": p["log_threshold"].exp() / scale}


class Gated(Architecture):
    """One half of the encoder decides which latents are active, the other how much."""

    name = "gated"

    def extra_parameters(self, d_sae: int) -> Parameters:
        """Scale (as logarithm) and bias of the magnitudes."""
        return {"r_mag": torch.zeros(d_sae), "b_mag": torch.zeros(d_sae)}

    def activate(self, entries: Entries, p: Parameters) -> Tensor:
        """F = H(z) ReLU(e^r (z − b_gate) + b_mag); b_enc is the bias of the gate."""
        ungated = entries.z - entries.of(p["b_enc"])
        magnitude = entries.of(p["r_mag"].exp()) * ungated + entries.of(p["b_mag"])
        return magnitude.relu() * (entries.z > 0)

    def penalty(self, entries: Entries, f: Tensor, p: Parameters) -> Tensor:
        """The L1 norm of the gates' pre-activations."""
        del f, p
        return _total(entries.z.relu())

    def auxiliary_codes(self, entries: Entries) -> Tensor | None:
        """The gates' own activations: what trains the gate to open for what is needed."""
        return entries.z.relu()

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


ARCHITECTURES: dict[str, type[Architecture]] = {
    kind.name: kind for kind in (Architecture, TopK, BatchTopK, JumpReLU, Gated)
}


class _Jump(torch.autograd.Function):
    # d/dθ z H(z − θ) = −(θ/ε) K((z − θ)/ε), a pseudo-derivative (Rajamanoharan et al., 2024b).
    @staticmethod
    def forward(ctx, z, threshold, bandwidth):
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return z * (z > threshold)

    @staticmethod
    def backward(ctx, *grad_outputs):
        (grad,) = grad_outputs
        z, threshold = ctx.saved_tensors
        grad_threshold = -threshold * _kernel(z, threshold, ctx.bandwidth) * grad
        if threshold.dim() < z.dim():
            grad_threshold = grad_threshold.sum(0)
        return grad * (z > threshold), grad_threshold, None


class _Step(torch.autograd.Function):
    # d/dθ H(z − θ) = −(1/ε) K((z − θ)/ε); none for z.
    @staticmethod
    def forward(ctx, z, threshold, bandwidth):
        ctx.save_for_backward(z, threshold)
        ctx.bandwidth = bandwidth
        return (z > threshold).to(threshold.dtype)

    @staticmethod
    def backward(ctx, *grad_outputs):
        (grad,) = grad_outputs
        z, threshold = ctx.saved_tensors
        grad_threshold = -_kernel(z, threshold, ctx.bandwidth) * grad
        if threshold.dim() < z.dim():
            grad_threshold = grad_threshold.sum(0)
        return None, grad_threshold, None


def _kernel(z: Tensor, threshold: Tensor, bandwidth: float) -> Tensor:
    # K((z − θ)/ε)/ε with the rectangle K.
    near = (z - threshold).abs() < bandwidth / 2
    return near.to(threshold.dtype) / bandwidth


def _total(values: Tensor) -> Tensor:
    # Sum in float32 at least: a bfloat16 sum of a batch has two digits.
    return values.sum(dtype=torch.promote_types(values.dtype, torch.float32))
