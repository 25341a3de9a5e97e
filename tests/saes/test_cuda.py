"""Everything that runs on a GPU, against the CPU's results and against dense float64."""

from dataclasses import replace

import pytest
import torch
from helpers.corpus import write_corpus
from helpers.interrupted_training import small_config, taken_up_and_whole
from helpers.pre_activations import DTYPES, many_values
from helpers.products import PATHS, products
from helpers.random_codes import dense_codes, normal
from helpers.trainings import (
    ALL,
    DEFAULTS,
    activations,
    compare,
    planted_config,
    planted_data,
    random_parameters,
    recovered,
)
from sae_stitching.activations.cache import cache_shard
from sae_stitching.activations.language_model import LanguageModel
from sae_stitching.activations.shards import ActivationShards
from sae_stitching.saes.sae import fingerprint
from sae_stitching.saes.training import Objective, Trainer
from sae_stitching.sparse import active as selection
from sae_stitching.sparse.active import above, largest_of_batch, largest_of_token
from sae_stitching.sparse.codes import SparseCodes
from sae_stitching.text.sources import make_random_model

# What is tested runs nowhere else: on a CPU other code selects, adds up and moves entries.
pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="PyTorch sees no CUDA device here"
)

exact = {"rtol": 1e-12, "atol": 1e-12}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("d_sae", [8, 300])
@pytest.mark.parametrize("one_pass_from", [0, 1 << 25])
def test_the_same_is_selected(monkeypatch, dtype, d_sae, one_pass_from):
    monkeypatch.setattr(selection, "_ONE_PASS_FROM", one_pass_from)
    z = many_values(0, 50, d_sae)
    # Distinct values: which of equal ones a GPU keeps is open.
    z = (z.flatten().argsort().argsort().view(z.shape) % 251 - 100).to(dtype)
    assert torch.equal(above(z.cuda()).to_dense().cpu(), above(z).to_dense())
    for select in (largest_of_token, largest_of_batch):
        found, expected = select(z.cuda(), 7), select(z, 7)
        assert torch.equal(found.values.sort().values.cpu(), expected.values.sort().values)
        assert found.values.dtype == expected.values.dtype
        places = found.pattern
        assert torch.equal(z.cuda()[places.rows, places.indices].to(found.values), found.values)
        if select is largest_of_token:
            assert torch.equal(places.indptr.cpu(), expected.pattern.indptr)


@pytest.mark.parametrize("shape", [(9, 12), (300, 70), (5, 1), (0, 3)])
@pytest.mark.parametrize("share", [0.0, 0.15, 1.0])
def test_products_equal_dense(shape, share):
    dense = dense_codes(0, *shape, share)
    codes, dense = SparseCodes.from_dense(dense.cuda()), dense.cuda()
    pattern, values = codes.pattern, codes.values
    weights, left = normal(1, shape[1], 6).cuda(), normal(2, shape[0], 6).cuda()
    torch.testing.assert_close(codes.matmul(weights), dense @ weights, **exact)
    torch.testing.assert_close(pattern.outer(values, left), dense.T @ left, **exact)
    torch.testing.assert_close(pattern.dot(left, weights), (left @ weights.T)[dense > 0], **exact)
    torch.testing.assert_close(pattern.sum_by_latent(values), dense.sum(0), **exact)
    assert torch.equal(pattern.counts, (dense > 0).sum(0))
    assert torch.equal(codes.to_dense(), dense)
    assert torch.equal(pattern.of_dense(dense), values)
    keep = torch.arange(len(codes)).cuda() % 3 == 0
    kept = codes.select(keep)
    assert torch.equal(kept.values, values[keep])
    assert torch.equal(kept.pattern.rows, pattern.rows[keep])
    assert torch.equal(kept.pattern.indices, pattern.indices[keep])


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-4)])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("offset", [1.0, -9.0, -1e3])
@pytest.mark.parametrize("architecture", ALL)
def test_gradients(architecture, offset, path, dtype, tolerance):
    config = replace(
        DEFAULTS,
        architecture=architecture,
        d_sae=64,
        k=6,
        bandwidth=0.5,
        auxk_coefficient=0.5,
        product_dtype=dtype,
        device="cuda",
    )
    kind = getattr(torch, dtype)
    parameters = {
        name: tensor.detach().cuda().requires_grad_()
        for name, tensor in random_parameters(0, config, 16, kind, offset).items()
    }
    dead = torch.arange(64).cuda() % 5 == 0
    x = activations(1, 50, 16, kind).cuda()
    compare(config, x, parameters, dead, tolerance=tolerance, path=path)


@pytest.mark.parametrize("architecture", ALL)
@pytest.mark.parametrize("path", PATHS)
def test_products_in_bfloat16_are_close(architecture, path):
    config = replace(DEFAULTS, d_sae=64, architecture=architecture, k=6)
    parameters = random_parameters(0, config, 16, torch.float32, 0.5)
    rounded = {name: p.detach().cuda().requires_grad_() for name, p in parameters.items()}
    x = activations(1, 400, 16, torch.float32)
    alive = torch.zeros(64, dtype=torch.bool)
    losses = Objective(config, parameters)(x, 0.7, alive)
    losses.total.backward()
    with products(path):
        config = replace(config, product_dtype="bfloat16")
        found = Objective(config, rounded)(x.cuda(), 0.7, alive.cuda())
        found.total.backward()
    assert found.total.item() == pytest.approx(losses.total.item(), rel=0.02)
    for name, parameter in parameters.items():
        ours = rounded[name].grad.cpu().flatten()
        cosine = torch.cosine_similarity(ours, parameter.grad.flatten(), dim=0)
        assert cosine > (0.8 if name == "log_threshold" else 0.98), name


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return planted_data(tmp_path_factory.mktemp("planted"))


@pytest.mark.parametrize("architecture", ALL)
def test_training_recovers_the_planted_dictionary(data, architecture):
    features, x, shards = data
    trainer = Trainer(replace(planted_config(architecture), device="auto"), shards)
    assert trainer.device.type == "cuda"
    sae = trainer.train("planted")
    assert sae.W_dec.device.type == "cpu"
    recovered(sae, features, x)


@pytest.mark.parametrize("architecture", ALL)
def test_the_first_steps_are_those_of_a_cpu(data, architecture):
    config = replace(DEFAULTS, architecture=architecture, steps=5, lr=1e-4)
    trained = {}
    for device in ("cpu", "cuda"):
        trainer = Trainer(replace(config, device=device), data[2])
        trainer.train(device)
        trained[device] = [parameter.detach().cpu() for parameter in trainer.parameters.values()]
    for on_cpu, on_gpu in zip(*trained.values(), strict=True):
        # Adam's first steps have the size of the learning rate, however small a gradient is.
        torch.testing.assert_close(on_gpu, on_cpu, rtol=0, atol=3e-4)
        assert torch.isclose(on_gpu, on_cpu, rtol=0, atol=2e-5).double().mean() > 0.95


@pytest.mark.parametrize("product_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ALL)
def test_the_seed_fixes_every_bit(data, architecture, product_dtype):
    config = replace(
        DEFAULTS,
        architecture=architecture,
        # Latents that are active on many tokens, whose sums have many terms.
        d_sae=300,
        product_dtype=product_dtype,
        steps=60,
        dead_after_tokens=1000,
        device="cuda",
    )
    one, again = (fingerprint(Trainer(config, data[2]).train("seed")) for _ in range(2))
    assert one == again


@pytest.mark.parametrize("architecture", ALL)
def test_taken_up_equals_uninterrupted(data, architecture, tmp_path, monkeypatch):
    config = small_config(architecture, device="cuda")
    again, whole = taken_up_and_whole(config, data[2], 37, tmp_path, monkeypatch)
    assert fingerprint(again.finished()) == fingerprint(whole.finished())
    assert again.curve == whole.curve


@pytest.mark.parametrize("point", ["hook_resid_pre", "hook_resid_post"])
def test_activations_are_those_of_a_cpu(tmp_path, point):
    context = 24
    source = {"architecture": "llama", "n_layers": 2, "d_model": 32, "n_heads": 2,
              "context": context, "seed": 0}  # fmt: skip
    make_random_model(source, tmp_path / "model")
    tokens = torch.randint(0, 256, (7, context), generator=torch.Generator().manual_seed(0))
    corpus = write_corpus(tmp_path / "tokens.h5", train=tokens.numpy())
    cached = {}
    for device in ("cpu", "cuda"):
        model = LanguageModel(
            str(tmp_path / "model"), f"blocks.1.{point}", dtype="float32", device=device
        )
        path = tmp_path / f"{device}.h5"
        cache_shard(
            corpus,
            "train",
            0,
            1,
            model,
            path,
            model_name="tiny",
            batch_size=3,
            dtype="float32",
            skip_first_position=True,
            study="test",
            provenance={},
        )
        (block,) = ActivationShards([path]).blocks()
        cached[device] = block.activations
    assert len(cached["cpu"]) == 7 * (context - 1)
    torch.testing.assert_close(cached["cuda"], cached["cpu"], rtol=1e-4, atol=1e-5)
