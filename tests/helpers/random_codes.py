"""Random codes, dense."""

import torch


def dense_codes(seed, n_tokens, d_sae, share):
    """Non-negative codes of which about `share` are active; some tokens have none."""
    generator = torch.Generator().manual_seed(seed)
    codes = torch.rand(n_tokens, d_sae, generator=generator, dtype=torch.float64) + 0.1
    codes *= torch.rand(n_tokens, d_sae, generator=generator) < share
    if n_tokens > 2 and share < 1:
        codes[torch.randint(n_tokens, (2,), generator=generator)] = 0.0
    return codes


def normal(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
