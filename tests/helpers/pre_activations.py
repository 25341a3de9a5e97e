"""Random pre-activations of an encoder."""

import torch

DTYPES = [torch.bfloat16, torch.float32, torch.float64]


def many_values(seed, n_tokens, d_sae):
    """Pre-activations as an encoder makes them, whose scale changes from token to token."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(n_tokens, d_sae, generator=generator, dtype=torch.float64)
    return z * torch.rand(n_tokens, 1, generator=generator, dtype=torch.float64).mul(6).exp()
