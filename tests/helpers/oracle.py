"""Brute force: decode the stitched SAE as Eq. 5 says, token by token, in float64."""

from dataclasses import dataclass

import numpy as np
import torch
from sae_stitching.saes.sae import SAE
from torch import Tensor


def random_sae(
    generator: torch.Generator,
    d_model: int,
    d_sae: int,
    architecture: str,
    *,
    apply_b_dec_to_input: bool = True,
    normalize: str | None = None,
    dtype: torch.dtype = torch.float64,
) -> SAE:
    """An SAE with a bias of its own and a decoder that is not normalised."""

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    W_dec = normal(d_sae, d_model) * (0.2 + torch.rand(d_sae, 1, generator=generator, dtype=dtype))
    threshold = None
    if architecture not in ("relu", "topk"):
        threshold = 0.5 * torch.rand(d_sae, generator=generator, dtype=dtype)
    return SAE(
        W_enc=(W_dec.T + 0.3 * normal(d_model, d_sae)).contiguous(),
        W_dec=W_dec,
        b_enc=0.3 * normal(d_sae) - 0.5,
        b_dec=normal(d_model),
        architecture=architecture,
        threshold=threshold,
        k=max(1, d_sae // 4) if architecture in ("topk", "batchtopk") else None,
        apply_b_dec_to_input=apply_b_dec_to_input,
        normalize=normalize,
    )


def read(sae: SAE, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What the SAE reads of activations, and of each token the scale and the mean it gives back."""
    if sae.normalize == "layer_norm":
        mean = x.sum(1, keepdim=True) / x.shape[1]
        scale = ((x - mean).square().sum(1, keepdim=True) / (x.shape[1] - 1)).sqrt()
        return (x - mean) / (scale + 1e-5), scale, mean
    if sae.normalize == "constant_norm_rescale":
        scale = x.square().mean(1, keepdim=True).sqrt()
        return x / scale, scale, torch.zeros_like(scale)
    return x, torch.ones(len(x), 1, dtype=x.dtype), torch.zeros(len(x), 1, dtype=x.dtype)


def dense_codes(sae: SAE, x: Tensor) -> Tensor:
    """Codes by the definition of each architecture, without any of the library's encoding."""
    x, _, _ = read(sae, x)
    centred = x - sae.b_dec if sae.apply_b_dec_to_input else x
    pre = centred @ sae.W_enc + sae.b_enc
    if sae.architecture == "relu":
        return pre.clamp(min=0)
    if sae.architecture == "topk":
        kth = pre.sort(dim=1, descending=True).values[:, sae.k - 1 : sae.k]
        return torch.where(pre >= kth, pre, 0.0).clamp(min=0)
    return torch.where(pre > sae.threshold, pre, 0.0).clamp(min=0)


@dataclass
class Stitched:
    """The stitched SAE of `keep0` latents of the smaller and `keep1` of the larger."""

    small: SAE
    large: SAE
    x: Tensor

    def __post_init__(self) -> None:
        self.f0 = dense_codes(self.small, self.x)
        self.f1 = dense_codes(self.large, self.x)

    def squared_errors(self, keep0: np.ndarray, keep1: np.ndarray) -> Tensor:
        """Squared error of every token, summed over d_model."""
        n0, n1 = int(keep0.sum()), int(keep1.sum())
        alpha = n0 / (n0 + n1) if n0 + n1 else 1.0
        x_hat = alpha * self.small.b_dec + (1 - alpha) * self.large.b_dec
        k0, k1 = torch.from_numpy(keep0), torch.from_numpy(keep1)
        x_hat = x_hat + self.f0[:, k0] @ self.small.W_dec[k0]
        x_hat = x_hat + self.f1[:, k1] @ self.large.W_dec[k1]
        _, scale, mean = read(self.small, self.x)
        return (self.x - (scale * x_hat + mean)).square().sum(1)

    def mse(self, keep0: np.ndarray, keep1: np.ndarray) -> float:
        """Mean over tokens and over d_model."""
        return self.squared_errors(keep0, keep1).mean().item() / self.x.shape[1]

    def l0(self, keep0: np.ndarray, keep1: np.ndarray) -> float:
        """Mean number of active latents."""
        active0 = (self.f0[:, torch.from_numpy(keep0)] > 0).sum()
        active1 = (self.f1[:, torch.from_numpy(keep1)] > 0).sum()
        return (active0 + active1).item() / len(self.x)


def clustered_standard_error(changes: Tensor, sequence: Tensor) -> float:
    """Standard error of the mean of `changes` over tokens, with sequences as clusters."""
    names = sequence.unique()
    mean = changes.mean()
    sums = torch.stack([(changes[sequence == s] - mean).sum() for s in names])
    n = len(names)
    return (n / (n - 1) * sums.square().sum()).sqrt().item() / len(changes)
