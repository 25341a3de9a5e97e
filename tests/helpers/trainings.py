"""Trainings on planted dictionaries, and losses written out densely."""

from dataclasses import replace

import pytest
import torch
from helpers.products import products
from helpers.shards import write_shards
from sae_stitching.saes.architectures import ARCHITECTURES
from sae_stitching.saes.training import Objective, TrainingConfig

DEFAULTS = TrainingConfig(
    d_sae=24,
    architecture="relu",
    k=3,
    sparsity_coefficient=1.0,
    decoder_norm_penalty=False,
    bandwidth=0.2,
    lr=5e-3,
    betas=(0.9, 0.999),
    max_grad_norm=None,
    batch_size=256,
    steps=500,
    lr_warmup_steps=20,
    lr_decay_fraction=0.2,
    sparsity_warmup_fraction=0.05,
    auxk_coefficient=1 / 32,
    k_aux=None,
    dead_after_tokens=10_000,
    product_dtype="float32",
    apply_b_dec_to_input=True,
    shuffle_buffer=4096,
    device="cpu",
    seed=0,
)

ALL = sorted(ARCHITECTURES)


def random_parameters(seed, config, d_model, dtype, offset=0.0):
    """Parameters that nothing ties or normalises; `offset` is the mean encoder bias."""
    generator = torch.Generator().manual_seed(seed)
    d_sae = config.d_sae

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    parameters = {
        "W_enc_t": normal(d_sae, d_model),
        "b_enc": offset + 0.3 * normal(d_sae),
        "W_dec": normal(d_sae, d_model),
        "b_dec": 0.5 * normal(d_model),
    }
    if config.architecture == "jumprelu":
        # From a quarter of the bandwidth to twice.
        factors = 2 ** (3 * torch.rand(d_sae, generator=generator, dtype=torch.float64) - 2)
        parameters["log_threshold"] = (config.bandwidth * factors).log()
    if config.architecture == "gated":
        parameters["r_mag"] = 0.3 * normal(d_sae)
        parameters["b_mag"] = parameters["b_enc"] + 0.3 * normal(d_sae)
    kind = ARCHITECTURES[config.architecture](config.k, config.bandwidth, False)
    extra = kind.extra_parameters(d_sae)
    assert set(parameters) == {"W_enc_t", "b_enc", "W_dec", "b_dec"} | set(extra)
    return {name: tensor.to(dtype).requires_grad_() for name, tensor in parameters.items()}


def dense_loss(config, p, x, coefficient, dead):
    """The loss as the papers write it, all dense, and the codes."""
    z = (x - p["b_dec"] if config.apply_b_dec_to_input else x) @ p["W_enc_t"].T + p["b_enc"]
    penalty = other = 0.0
    f = z.relu()
    if config.architecture == "relu":
        norms = torch.linalg.vector_norm(p["W_dec"], dim=1)
        penalty = (f * norms if config.decoder_norm_penalty else f).sum(1).mean()
    elif config.architecture == "topk":
        f = f * greatest(f, config.k)
    elif config.architecture == "batchtopk":
        f = f * greatest(f.view(1, -1), config.k * len(x)).view(f.shape)
    elif config.architecture == "jumprelu":
        # Straight through (Rajamanoharan et al., 2024b, Eq. 11 and 12): the value of the step,
        # and the slope of a rectangle of this width.
        theta = p["log_threshold"].exp()
        slope = -((z - theta).abs() < config.bandwidth / 2).to(x.dtype) / config.bandwidth
        step = (z > theta).to(x.dtype) + slope.detach() * (theta - theta.detach())
        f = z * (z > theta) + (theta * slope).detach() * (theta - theta.detach())
        penalty = step.sum(1).mean()
    else:
        magnitude = p["r_mag"].exp() * (z - p["b_enc"]) + p["b_mag"]
        f = magnitude.relu() * (z > 0)
        penalty = z.relu().sum(1).mean()
        gate_only = z.relu() @ p["W_dec"].detach() + p["b_dec"].detach()
        other = (x - gate_only).square().sum(1).mean()
    error = x - f @ p["W_dec"] - p["b_dec"]
    loss = error.square().sum(1).mean() + coefficient * penalty + other
    if config.architecture in ("topk", "batchtopk") and dead.any():
        k_aux = config.k_aux or x.shape[1] // 2
        f_dead = z[:, dead].relu()
        f_dead = f_dead * greatest(f_dead, k_aux)
        aux = (error.detach() - f_dead @ p["W_dec"][dead]).square().sum(1).mean()
        loss = loss + config.auxk_coefficient * min(int(dead.sum()) / k_aux, 1.0) * aux
    return loss, f.detach()


def greatest(f, k):
    kept = torch.zeros_like(f)
    indices = f.detach().topk(min(k, f.shape[1]), dim=1).indices
    return kept.scatter_(1, indices, 1.0)


def compare(config, x, parameters, dead, *, tolerance, path="either", coefficient=0.7):
    """Compare loss, gradients and what is watched; return the share of active latents."""
    reference = {name: t.detach().clone().requires_grad_() for name, t in parameters.items()}
    with products(path):
        losses = Objective(config, parameters)(x, coefficient, dead)
        losses.total.backward()
    expected, f = dense_loss(config, reference, x, coefficient, dead)
    expected.backward()
    close = {"rtol": tolerance, "atol": tolerance}
    torch.testing.assert_close(losses.total.detach(), expected.detach(), **close)
    for name, tensor in parameters.items():
        found, wanted = tensor.grad, reference[name].grad
        assert found.dtype == wanted.dtype
        scale = wanted.abs().max().clamp(min=1e-3)
        torch.testing.assert_close(found / scale, wanted / scale, **close, msg=_name(name))
    error = x - f @ reference["W_dec"].detach() - reference["b_dec"].detach()
    assert losses.squared_error == pytest.approx(
        error.square().sum(1).mean().item(), rel=max(tolerance, 1e-6)
    )
    assert losses.l0 == pytest.approx((f > 0).sum().item() / len(x))
    assert torch.equal(losses.active, (f > 0).any(0))
    if config.architecture == "batchtopk":
        smallest = f[f > 0].min().item() if (f > 0).any() else 0.0
        assert losses.smallest.item() == pytest.approx(smallest, rel=tolerance)
    return (f > 0).double().mean().item()


def _name(name):
    return lambda message: f"gradient of {name}: {message}"


def activations(seed, n_tokens, d_model, dtype):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_tokens, d_model, generator=generator, dtype=torch.float64).to(dtype)


D_MODEL, N_FEATURES, N_TOKENS = 16, 20, 8000
SCALE = 7.0  # The activations are far from norm √d_model.


def planted(seed=0):
    """Features, and tokens of three of them each, on average, around a mean."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(N_FEATURES, D_MODEL, generator=generator)
    for _ in range(200):
        # Spread the directions, or the nearest two could not be told apart.
        features /= torch.linalg.vector_norm(features, dim=1, keepdim=True)
        cosines = features @ features.T - torch.eye(N_FEATURES)
        features -= 0.1 * (cosines * (cosines.abs() > 0.3)) @ features
    features /= torch.linalg.vector_norm(features, dim=1, keepdim=True)
    active = torch.rand(N_TOKENS, N_FEATURES, generator=generator) < 3 / N_FEATURES
    f = active * (1.0 + torch.rand(N_TOKENS, N_FEATURES, generator=generator))
    mean = 0.5 * torch.randn(D_MODEL, generator=generator)
    return features, SCALE * (f @ features + mean)


def planted_data(folder):
    features, x = planted()
    return features, x, write_shards(folder, x, [3000, 1000, 4000])


def planted_config(architecture):
    # Thresholds that start low, and a gate that stays open, need more to find so few features.
    changes = {"jumprelu": {"bandwidth": 1.0}, "gated": {"sparsity_coefficient": 3.0}}
    return replace(DEFAULTS, architecture=architecture, **changes.get(architecture, {}))


def recovered(sae, features, x):
    """The SAE has the planted features among its decoder directions, and reconstructs x."""
    W_dec = torch.nn.functional.normalize(sae.W_dec, dim=1)
    best = (features @ W_dec.T).max(1).values
    assert best.mean() > 0.9
    error = (x - sae.decode(sae.encode(x))).square().sum()
    assert error / (x - x.mean(0)).square().sum() < 0.25
