"""Gradients against autograd, and what training finds on planted data."""

import copy
import logging
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.products import PATHS, products
from helpers.shards import HOOK, MODEL, write_shards
from helpers.trainings import (
    ALL,
    D_MODEL,
    DEFAULTS,
    activations,
    compare,
    dense_loss,
    planted_config,
    planted_data,
    random_parameters,
    recovered,
)
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sae_stitching.base.errors import StudyError
from sae_stitching.saes.sae import fingerprint, read_sae, save_sae
from sae_stitching.saes.training import (
    Adam,
    Objective,
    Trainer,
    TrainingConfig,
    initial_parameters,
    looks_back,
    lr_factor,
    sparsity_factor,
)

WITH_PENALTY = ("relu", "jumprelu", "gated")


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Products this small take many times as long on more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


# Gradients


PRECISIONS = [("float64", 1e-10), ("float32", 1e-4)]
alive = torch.zeros(64, dtype=torch.bool)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("applies", [True, False])
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("offset", "low", "high"), [(1.0, 0.4, 0.9), (-9.0, 1e-4, 0.05), (-1e3, 0.0, 0.0)]
)
@pytest.mark.parametrize("architecture", WITH_PENALTY)
def test_gradients_with_a_penalty(architecture, offset, low, high, path, applies, dtype, tolerance):
    config = replace(
        DEFAULTS,
        architecture=architecture,
        d_sae=64,
        bandwidth=0.5,
        product_dtype=dtype,
        apply_b_dec_to_input=applies,
    )
    kind = getattr(torch, dtype)
    parameters = random_parameters(0, config, 16, kind, offset)
    x = activations(1, 50, 16, kind)
    share = compare(config, x, parameters, alive, tolerance=tolerance, path=path)
    assert low <= share <= high


@pytest.mark.parametrize("path", PATHS)
def test_gradients_of_the_penalty_with_decoder_norms(path):
    config = replace(DEFAULTS, d_sae=64, product_dtype="float64", decoder_norm_penalty=True)
    parameters = random_parameters(0, config, 16, torch.float64)
    x = activations(1, 50, 16, torch.float64)
    compare(config, x, parameters, alive, tolerance=1e-10, path=path)


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("applies", [True, False])
@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
@pytest.mark.parametrize(("n_dead", "k_aux"), [(0, None), (3, None), (20, None), (20, 5), (64, 7)])
def test_gradients_of_topk_with_dead_latents(
    dtype, tolerance, applies, architecture, n_dead, k_aux
):
    config = replace(
        DEFAULTS,
        d_sae=64,
        architecture=architecture,
        k=6,
        k_aux=k_aux,
        auxk_coefficient=0.5,
        product_dtype=dtype,
        apply_b_dec_to_input=applies,
    )
    kind = getattr(torch, dtype)
    parameters = random_parameters(2, config, 16, kind, -1.0)
    dead = torch.zeros(64, dtype=torch.bool)
    dead[torch.randperm(64, generator=torch.Generator().manual_seed(0))[:n_dead]] = True
    with torch.no_grad():
        # Truly dead, as in training; where all are, they are so by name alone.
        parameters["W_enc_t"][dead] *= 0.05 if n_dead < 64 else 1.0
        parameters["b_enc"][dead] += 1.0
    x = activations(1, 50, 16, kind)
    share = compare(config, x, parameters, dead, tolerance=tolerance)
    assert 0 < share <= 6 / 64


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    architecture=st.sampled_from(ALL),
    n_tokens=st.integers(1, 12),
    d_model=st.integers(2, 6),
    d_sae=st.integers(1, 15),
    k=st.integers(1, 15),
    applies=st.booleans(),
    path=st.sampled_from(list(PATHS)),
    offset=st.sampled_from([-100.0, -2.0, 0.0, 100.0]),
    dead=st.sampled_from([0.0, 0.3, 1.0]),
)
@example(0, "relu", 1, 2, 1, 1, True, "sparse", 100.0, 0.0)
@example(0, "relu", 1, 2, 1, 1, True, "sparse", -100.0, 0.0)
@example(0, "topk", 1, 2, 1, 1, True, "sparse", 100.0, 1.0)
@example(0, "topk", 5, 2, 1, 1, True, "sparse", -100.0, 1.0)
@example(0, "batchtopk", 1, 2, 1, 1, True, "sparse", 100.0, 0.0)
@example(0, "batchtopk", 7, 4, 9, 9, False, "sparse", 100.0, 0.3)
@example(0, "batchtopk", 7, 4, 9, 2, False, "sparse", -100.0, 1.0)
@example(0, "jumprelu", 1, 2, 1, 1, True, "sparse", -100.0, 0.0)
@example(0, "gated", 1, 2, 1, 1, True, "sparse", -100.0, 0.0)
def test_gradients_on_all_shapes(
    seed, architecture, n_tokens, d_model, d_sae, k, applies, path, offset, dead
):
    config = replace(
        DEFAULTS,
        d_sae=d_sae,
        architecture=architecture,
        k=min(k, d_sae),
        product_dtype="float64",
        apply_b_dec_to_input=applies,
    )
    parameters = random_parameters(seed, config, d_model, torch.float64, offset)
    generator = torch.Generator().manual_seed(seed + 1)
    is_dead = torch.rand(d_sae, generator=generator) < dead
    x = activations(seed + 2, n_tokens, d_model, torch.float64)
    compare(config, x, parameters, is_dead, tolerance=1e-9, path=path)


@pytest.mark.parametrize("architecture", ALL)
@pytest.mark.parametrize("offset", [0.5, -8.0])
@pytest.mark.parametrize("path", PATHS)
def test_products_in_bfloat16_are_close(architecture, offset, path):
    # The pre-activations are rounded to 8 bits: loss and gradients follow within percents.
    config = replace(DEFAULTS, d_sae=64, architecture=architecture, k=6)
    exact, rounded = (random_parameters(0, config, 16, torch.float32, offset) for _ in range(2))
    x = activations(1, 400, 16, torch.float32)
    losses = Objective(config, exact)(x, 0.7, alive)
    losses.total.backward()
    with products(path):
        found = Objective(replace(config, product_dtype="bfloat16"), rounded)(x, 0.7, alive)
        found.total.backward()
    assert found.total.item() == pytest.approx(losses.total.item(), rel=0.02)
    for name in exact:
        ours, theirs = rounded[name].grad, exact[name].grad
        assert ours.dtype == torch.float32
        cosine = torch.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0)
        # Rounding takes some pre-activations into a threshold's kernel and others out of it.
        assert cosine > (0.8 if name == "log_threshold" else 0.98), name


# Schedules


def test_the_learning_rate_warms_up_holds_and_decays_to_zero():
    config = replace(DEFAULTS, steps=100, lr_warmup_steps=10, lr_decay_fraction=0.2)
    factors = np.array([lr_factor(step, config) for step in range(100)])
    np.testing.assert_allclose(factors[:10], np.arange(1, 11) / 10)
    np.testing.assert_array_equal(factors[10:80], 1.0)
    np.testing.assert_allclose(factors[80:], np.arange(20, 0, -1) / 20)
    assert lr_factor(100, config) == 0.0


def test_a_learning_rate_without_warm_up_and_decay_is_constant():
    config = replace(DEFAULTS, steps=7, lr_warmup_steps=0, lr_decay_fraction=0.0)
    assert [lr_factor(step, config) for step in range(7)] == [1.0] * 7


@settings(max_examples=80, deadline=None)
@given(
    steps=st.integers(1, 200),
    warmup=st.integers(0, 250),
    decay=st.floats(0, 1),
    sparsity=st.floats(0, 1),
)
def test_schedules_stay_above_zero_and_at_most_one(steps, warmup, decay, sparsity):
    config = replace(
        DEFAULTS,
        steps=steps,
        lr_warmup_steps=warmup,
        lr_decay_fraction=decay,
        sparsity_warmup_fraction=sparsity,
    )
    lr = np.array([lr_factor(step, config) for step in range(steps)])
    penalty = np.array([sparsity_factor(step, config) for step in range(steps)])
    for factors in (lr, penalty):
        assert (factors > 0).all()
        assert (factors <= 1).all()
    assert (np.diff(penalty) >= 0).all()
    assert penalty[-1] == pytest.approx(1.0)


def test_the_sparsity_coefficient_warms_up_linearly():
    config = replace(DEFAULTS, steps=100, sparsity_warmup_fraction=0.05)
    factors = [sparsity_factor(step, config) for step in range(100)]
    assert factors[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert factors[5:] == [1.0] * 95
    assert sparsity_factor(0, replace(config, sparsity_warmup_fraction=0.0)) == 1.0


def test_the_config_is_read_from_that_of_the_study():
    mapping = {**DEFAULTS.__dict__, "betas": [0.5, 0.9], "name": "24", "threads": 2}
    assert TrainingConfig.from_mapping(mapping) == replace(DEFAULTS, betas=(0.5, 0.9))


def test_initial_parameters():
    mean, extra = torch.arange(5.0), {"b_mag": torch.zeros(7)}
    p = initial_parameters(5, 7, mean, extra, torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.linalg.vector_norm(p["W_dec"], dim=1), torch.ones(7))
    assert torch.equal(p["W_enc_t"], p["W_dec"])
    assert p["W_enc_t"].data_ptr() != p["W_dec"].data_ptr()
    assert torch.equal(p["b_dec"], mean)
    assert not p["b_enc"].any()
    assert p["b_mag"] is extra["b_mag"]


# Planted data


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return planted_data(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module", params=ALL)
def trained(request, data):
    trainer = Trainer(planted_config(request.param), data[2])
    return trainer, trainer.train("planted")


def test_training_recovers_the_planted_dictionary(data, trained):
    recovered(trained[1], *data[:2])


def test_decoder_rows_have_unit_norm(trained):
    _, sae = trained
    norms = torch.linalg.vector_norm(sae.W_dec, dim=1)
    torch.testing.assert_close(norms, torch.ones(sae.d_sae), rtol=0, atol=1e-5)


def test_the_gradient_of_the_decoder_is_along_the_sphere(data):
    trainer = Trainer(replace(DEFAULTS, architecture="topk"), data[2])
    before = trainer.parameters["W_dec"].detach().clone()
    run(trainer, 1)
    gradient = trainer.parameters["W_dec"].grad
    along = torch.linalg.vecdot(before, gradient)
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(along, torch.zeros(24), rtol=0, atol=1e-5)


@pytest.mark.parametrize("architecture", ALL)
def test_a_long_gradient_is_shortened_and_a_short_one_left(data, architecture):
    def gradient(max_grad_norm):
        config = replace(DEFAULTS, architecture=architecture, max_grad_norm=max_grad_norm)
        trainer = Trainer(config, data[2])
        run(trainer, 1)
        return torch.cat([p.grad.reshape(-1) for p in trainer.parameters.values()])

    whole = gradient(None)
    norm = torch.linalg.vector_norm(whole).item()
    assert norm > 0.1
    torch.testing.assert_close(gradient(0.1), whole * (0.1 / norm), rtol=1e-3, atol=1e-7)
    assert torch.equal(gradient(2 * norm), whole)


def test_decoder_rows_have_any_norm_where_the_penalty_follows_it(data):
    _, x, shards = data
    config = replace(DEFAULTS, decoder_norm_penalty=True, steps=300)
    sae = Trainer(config, shards).train("norms")
    norms = torch.linalg.vector_norm(sae.W_dec, dim=1)
    assert norms.std() > 0.01
    error = (x - sae.decode(sae.encode(x))).square().sum()
    assert error / (x - x.mean(0)).square().sum() < 0.3


def test_the_input_scale_is_folded_into_the_weights(data, trained):
    _, x, _ = data
    trainer, sae = trained
    p, s = trainer.parameters, trainer.scale
    assert math.sqrt(D_MODEL) / s == pytest.approx(
        torch.linalg.vector_norm(x, dim=1).mean().item(), rel=0.02
    )
    with torch.no_grad():
        _, f = dense_loss(trainer.config, p, s * x, 0.0, torch.zeros(24, dtype=torch.bool))
        if sae.architecture == "batchtopk":
            # After training a threshold stands for the batch.
            f = ((s * x - p["b_dec"]) @ p["W_enc_t"].T + p["b_enc"]).relu()
            f = f * (f > trainer.threshold)
        reconstruction = (f @ p["W_dec"] + p["b_dec"]) / s
    codes = sae.encode(x)
    assert len(codes) / len(x) == pytest.approx((f > 0).sum().item() / len(x), rel=1e-3)
    # A pre-activation within rounding of a bound may fall on either side of it.
    off = (sae.decode(codes) - reconstruction).abs().max(1).values > 1e-3
    assert off.sum() <= 3


def test_the_finished_sae_says_where_it_comes_from(tmp_path, trained):
    trainer, sae = trained
    architecture = trainer.config.architecture
    assert (sae.architecture, sae.hook, sae.model) == (architecture, HOOK, MODEL)
    assert sae.apply_b_dec_to_input
    assert sae.k == (None if architecture in WITH_PENALTY else 3)
    assert (sae.threshold is None) == (architecture in ("relu", "topk"))
    save_sae(sae, tmp_path / "24.h5", study="test", provenance={})
    assert fingerprint(read_sae(tmp_path / "24.h5")) == fingerprint(sae)
    assert not any(t.requires_grad for t in (sae.W_enc, sae.W_dec, sae.b_enc, sae.b_dec))


def test_l0_is_what_the_architecture_promises(data, trained):
    _, x, _ = data
    _, sae = trained
    l0 = len(sae.encode(x)) / len(x)
    if sae.architecture in WITH_PENALTY:
        assert 2.0 < l0 < 6.0
    elif sae.architecture == "topk":
        assert 2.5 < l0 <= 3.0
    else:
        assert l0 == pytest.approx(3.0, rel=0.15)


def test_more_l1_means_fewer_active_latents(data):
    _, x, shards = data
    l0 = []
    for sparsity_coefficient in (0.1, 1.0, 4.0):
        config = replace(DEFAULTS, sparsity_coefficient=sparsity_coefficient, steps=200)
        l0.append(len(Trainer(config, shards).train("l1").encode(x)) / len(x))
    assert l0[0] > l0[1] > l0[2]


def test_without_b_dec_at_the_input(data):
    features, x, shards = data
    config = replace(DEFAULTS, architecture="topk", apply_b_dec_to_input=False, steps=300)
    trainer = Trainer(config, shards)
    sae = trainer.train("no b_dec")
    assert not sae.apply_b_dec_to_input
    error = (x - sae.decode(sae.encode(x))).square().sum()
    assert error / (x - x.mean(0)).square().sum() < 0.3
    assert (features @ sae.W_dec.T).max(1).values.mean() > 0.8


def test_products_in_bfloat16_train_as_well(data):
    features, _, shards = data
    config = replace(DEFAULTS, architecture="topk", product_dtype="bfloat16")
    sae = Trainer(config, shards).train("bfloat16")
    assert (features @ sae.W_dec.T).max(1).values.mean() > 0.9
    assert sae.W_dec.dtype == torch.float32


@pytest.mark.parametrize("architecture", ALL)
def test_the_seed_fixes_every_bit(data, architecture):
    _, _, shards = data
    config = replace(DEFAULTS, architecture=architecture, steps=40, dead_after_tokens=1000)
    one, again = (fingerprint(Trainer(config, shards).train("seed")) for _ in range(2))
    other = fingerprint(Trainer(replace(config, seed=1), shards).train("seed"))
    assert one == again != other


def test_training_leaves_the_random_state_of_others_alone(data):
    state = torch.random.get_rng_state()
    Trainer(replace(DEFAULTS, steps=3, dead_after_tokens=1), data[2]).train("state")
    assert torch.equal(torch.random.get_rng_state(), state)


def test_progress_is_logged(data, caplog):
    caplog.set_level(logging.INFO)
    config = replace(DEFAULTS, steps=5)
    Trainer(config, data[2]).train("train 24")
    last = [record.message for record in caplog.records if "train 24" in record.message][-1]
    assert last.startswith("train 24: 1,280 of 1,280 tokens (100 %)")
    for word in ("loss", "FVU", "L0", "dead"):
        assert word in last


# Dead latents


def run(trainer, steps):
    """Run the next steps and return the losses of each."""
    losses = []
    for x in trainer.batches.starting_at(trainer.step):
        losses.append(trainer.train_step(x * trainer.scale))
        if len(losses) == steps:
            return losses
    raise AssertionError


def test_tokens_without_activity_make_a_latent_dead(data):
    config = replace(DEFAULTS, architecture="topk", dead_after_tokens=3 * 256)
    trainer = Trainer(config, data[2])
    with torch.no_grad():
        trainer.parameters["b_enc"][4] = -1e6
    assert not trainer.dead.any()
    run(trainer, 2)
    assert not trainer.dead[4]
    run(trainer, 1)
    assert trainer.dead[4]
    with torch.no_grad():
        trainer.parameters["b_enc"][4] = 1e3
    run(trainer, 1)
    assert not trainer.dead[4]


@pytest.mark.parametrize("architecture", WITH_PENALTY)
def test_dead_latents_are_revived(data, architecture):
    config = replace(
        DEFAULTS, architecture=architecture, dead_after_tokens=4 * 256, lr_warmup_steps=0
    )
    trainer = Trainer(config, data[2])
    planted_dead = [2, 11]
    with torch.no_grad():
        trainer.parameters["b_enc"][planted_dead] = -1e6
    run(trainer, 3)
    before = trainer.parameters["W_dec"][planted_dead].detach().clone()
    losses = run(trainer, 1)[0]
    assert not losses.active[planted_dead].any()
    p = trainer.parameters
    after = p["W_dec"][planted_dead].detach()
    assert not torch.isclose(before, after).all(1).any()
    torch.testing.assert_close(torch.linalg.vector_norm(after, dim=1), torch.ones(2))
    assert not trainer.dead.any()
    # Their encoders follow the new directions, at a fifth of the mean norm of the others.
    W_enc_t = p["W_enc_t"].detach()
    cosine = torch.cosine_similarity(W_enc_t[planted_dead], after, dim=1)
    torch.testing.assert_close(cosine, torch.ones(2))
    others = [i for i in range(config.d_sae) if i not in planted_dead]
    norms = torch.linalg.vector_norm(W_enc_t, dim=1)
    torch.testing.assert_close(norms[planted_dead] / norms[others].mean(), torch.full((2,), 0.2))
    # From then on they are active.
    active = sum(losses.active[planted_dead].int() for losses in run(trainer, 20))
    assert bool((active > 0).all())


def test_dead_latents_are_not_revived_while_the_learning_rate_decays(data):
    config = replace(DEFAULTS, steps=12, lr_warmup_steps=0, lr_decay_fraction=1.0)
    trainer = Trainer(replace(config, dead_after_tokens=256), data[2])
    with torch.no_grad():
        trainer.parameters["b_enc"][2] = -1e6
    run(trainer, 12)
    assert trainer.dead[2]
    assert trainer.parameters["b_enc"][2] < -1e5


def test_all_latents_dead_are_revived_too(data):
    config = replace(DEFAULTS, dead_after_tokens=2 * 256, lr_warmup_steps=0)
    trainer = Trainer(config, data[2])
    with torch.no_grad():
        trainer.parameters["b_enc"].fill_(-1e6)
    run(trainer, 2)
    assert run(trainer, 10)[-1].active.any()


@pytest.mark.parametrize("architecture", ["topk", "batchtopk"])
def test_auxk_brings_dead_latents_back(data, architecture):
    dead = []
    for auxk_coefficient in (0.0, 1 / 32):
        config = replace(
            DEFAULTS,
            d_sae=48,
            architecture=architecture,
            auxk_coefficient=auxk_coefficient,
            dead_after_tokens=4 * 256,
            steps=200,
        )
        trainer = Trainer(config, data[2])
        with torch.no_grad():
            # Positive on many tokens, but never among the greatest.
            trainer.parameters["W_enc_t"][:16] *= 1e-3
        run(trainer, 200)
        dead.append(int(trainer.dead[:16].sum()))
    # Without the auxiliary loss no gradient ever reaches them.
    assert dead[0] == 16
    assert dead[1] <= 9


@pytest.mark.parametrize("steps", [100, 150])
def test_batchtopk_encodes_near_k_however_short_its_training(data, steps):
    config = replace(DEFAULTS, architecture="batchtopk", steps=steps)
    sae = Trainer(config, data[2]).train("short")
    l0 = len(sae.encode(data[1])) / len(data[1])
    assert l0 == pytest.approx(config.k, rel=0.03)


# Errors


@pytest.mark.parametrize("architecture", ALL)
def test_a_loss_that_is_not_finite_is_an_error(data, architecture):
    config = replace(DEFAULTS, architecture=architecture, lr=1e30, lr_warmup_steps=0, steps=10)
    message = r"training: the loss is not finite at step \d,.*; lower training\.lr"
    with pytest.raises(StudyError, match=message):
        Trainer(config, data[2]).train("diverges")


@pytest.mark.parametrize("architecture", ALL)
@pytest.mark.parametrize("name", ["W_enc_t", "b_enc", "W_dec", "b_dec"])
def test_parameters_that_are_not_finite_are_found_in_time(data, architecture, name):
    # NaN is greater than nothing: a code may miss it, and the loss be finite.
    trainer = Trainer(replace(DEFAULTS, architecture=architecture, steps=20), data[2])
    with torch.no_grad():
        trainer.parameters[name].fill_(float("nan"))
    with pytest.raises(StudyError, match="not finite at step"):
        trainer.train("nan")


def test_activations_of_zeros_are_an_error(tmp_path):
    shards = write_shards(tmp_path, torch.zeros(512, 4), [512])
    with pytest.raises(StudyError, match=r"0\.h5: all activations are zero; is the hook right\?"):
        Trainer(DEFAULTS, shards)


def test_fewer_tokens_than_a_batch_are_an_error(tmp_path):
    shards = write_shards(tmp_path, torch.ones(100, 4), [100])
    with pytest.raises(StudyError, match=r"training\.batch_size: 256 tokens a batch"):
        Trainer(DEFAULTS, shards)


def test_a_finished_sae_does_not_change_when_training_goes_on(data):
    trainer = Trainer(replace(DEFAULTS, architecture="batchtopk"), data[2])
    run(trainer, 3)
    sae = trainer.finished()
    kept = copy.deepcopy(sae)
    run(trainer, 2)
    assert fingerprint(sae) == fingerprint(kept)


# How old an SAE is


@pytest.mark.parametrize("steps", [1, 19, 20, 40, 60, 100, 800, 1600, 12_801])
def test_directions_are_compared_with_those_at_half_as_many_steps(steps):
    back = looks_back(steps)
    rows = {*range(20, steps, 20), steps}
    assert set(back) | set(back.values()) <= rows
    assert all(1.6 <= step / earlier <= 2.5 for step, earlier in back.items())
    if steps >= 800:
        assert back[steps] == pytest.approx(steps / 2, abs=10)
        assert len(back) >= 6
    # No more than three earlier decoders are needed at any time.
    for now in rows:
        waiting = {then for step, then in back.items() if then <= now < step}
        assert len(waiting) <= 3


def test_the_curve_says_what_share_of_directions_settled(data):
    shards = data[2]
    config = replace(DEFAULTS, steps=160, lr=2e-3)
    trainer = Trainer(config, shards)
    seen = {0: trainer.parameters["W_dec"].detach().double()}
    step = trainer.train_step

    def watched(x):
        losses = step(x)
        W_dec = trainer.parameters["W_dec"].detach().double()
        seen[trainer.step] = W_dec / W_dec.norm(dim=1, keepdim=True)
        return losses

    trainer.train_step = watched
    trainer.train("train")
    told = {row[0]: row[-1] for row in trainer.curve if not math.isnan(row[-1])}
    back = looks_back(160)
    assert set(told) == set(back)
    for now, then in back.items():
        stayed, began = ((seen[now] * seen[step]).sum(1) for step in (then, 0))
        share = ((stayed >= 0.9) & (began < 0.9)).double().mean().item()
        # The earlier ones are kept in half precision.
        near = ((stayed - 0.9).abs().minimum((began - 0.9).abs()) < 1e-3).double().mean().item()
        assert told[now] == pytest.approx(share, abs=near + 1e-6)
    assert 0 < told[160] < 1


@pytest.mark.parametrize("young", [True, False])
def test_a_young_sae_is_called_so(data, caplog, young):
    # Two seeds of the one share few latents, of the other nearly all.
    config = replace(
        DEFAULTS, steps=100 if young else 2000, lr=2e-3 if young else 1e-2, lr_decay_fraction=0.5
    )
    with caplog.at_level(logging.WARNING, "sae_stitching"):
        trainer = Trainer(config, data[2])
        trainer.train("train 24")
    said = [record.getMessage() for record in caplog.records if "young" in record.getMessage()]
    share = trainer.curve[-1][-1]
    assert (share < 0.9) == young
    assert said == (
        [
            f"train 24: young: {100 * share:.0f} % of the latents kept their direction over the "
            "second half of the steps; two seeds would share no more, so train longer "
            "(training.steps) before latents are compared"
        ]
        if young
        else []
    )


def test_steps_are_those_of_pytorchs_adam():
    generator = torch.Generator().manual_seed(0)
    ours = {
        name: torch.randn(*shape, generator=generator).requires_grad_()
        for name, shape in {"W": (6, 4), "b": (6,), "unused": (2,)}.items()
    }
    theirs = {name: tensor.detach().clone().requires_grad_() for name, tensor in ours.items()}
    optimizer, reference = Adam(ours, (0.8, 0.99)), torch.optim.Adam(theirs.values(), fused=True)
    for step in range(20):
        for name in ("W", "b"):
            ours[name].grad = torch.randn(ours[name].shape, generator=generator)
            theirs[name].grad = ours[name].grad.clone()
        for group in reference.param_groups:
            group["lr"], group["betas"] = 0.1 / (1 + step), (0.8, 0.99)
        optimizer.step(0.1 / (1 + step))
        reference.step()
        if step == 9:
            optimizer.forget("W", torch.tensor([1, 4]))
            for part in ("exp_avg", "exp_avg_sq"):
                reference.state[theirs["W"]][part][[1, 4]] = 0.0
            taken_up = Adam(ours, (0.8, 0.99))
            taken_up.load(optimizer.state)
            optimizer = taken_up
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
