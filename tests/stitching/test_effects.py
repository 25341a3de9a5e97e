"""Insertions, swaps, threshold curves and transitions against brute-force Eq. 5."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.oracle import clustered_standard_error
from helpers.stitching_cases import cases, in_blocks, make_case, thetas
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_stitching.base.errors import StudyError
from sae_stitching.saes.normalization import NORMALIZATIONS
from sae_stitching.saes.sae import SAE
from sae_stitching.stitching import effects as stitching
from sae_stitching.stitching.effects import independent_effects
from sae_stitching.stitching.insertions import insertion_effects
from sae_stitching.stitching.operations import Operations
from sae_stitching.stitching.pairs import EvalPair
from sae_stitching.stitching.swaps import swap_effects
from sae_stitching.stitching.threshold import threshold_curve
from sae_stitching.stitching.transitions import (
    DROP,
    INSERT,
    KINDS,
    SWAP,
    transition,
    transition_operations,
)

exact = {"rtol": 1e-6, "atol": 1e-10}


@settings(max_examples=60, deadline=None)
@given(case=cases)
def test_insertions_equal_brute_force(case):
    effects = insertion_effects(case.pair, case.similarity)
    all0 = np.ones(case.pair.small.d_sae, bool)
    none1 = np.zeros(case.pair.large.d_sae, bool)
    base = case.stitched.squared_errors(all0, none1)
    assert effects.mse_small == pytest.approx(case.stitched.mse(all0, none1))
    assert effects.mse_large == pytest.approx(case.stitched.mse(~all0, ~none1))
    for i in range(case.pair.large.d_sae):
        only_i = none1.copy()
        only_i[i] = True
        change = (case.stitched.squared_errors(all0, only_i) - base) / case.pair.small.d_model
        np.testing.assert_allclose(effects.delta_mse[i], change.mean(), **exact)
        np.testing.assert_allclose(
            effects.standard_error[i],
            clustered_standard_error(change, case.sequence),
            rtol=1e-6,
            atol=1e-7,
        )
        assert effects.n_active[i] == (case.stitched.f1[:, i] > 0).sum()
    np.testing.assert_array_equal(effects.max_cosine, case.similarity.max_cosine_large)


@settings(max_examples=60, deadline=None)
@given(case=cases, theta=thetas)
def test_swaps_equal_brute_force(case, theta):
    subgraphs = case.subgraphs(theta)
    effects = swap_effects(case.pair, subgraphs)
    all0 = np.ones(case.pair.small.d_sae, bool)
    none1 = np.zeros(case.pair.large.d_sae, bool)
    base = case.stitched.squared_errors(all0, none1)
    assert len(effects.delta_mse) == subgraphs.n_components
    assert effects.delta_mse.dtype == effects.delta_l0.dtype == np.float64  # also where none is
    for c in range(subgraphs.n_components):
        keep0, keep1 = subgraphs.component_small != c, subgraphs.component_large == c
        change = (case.stitched.squared_errors(keep0, keep1) - base) / case.pair.small.d_model
        np.testing.assert_allclose(effects.delta_mse[c], change.mean(), **exact)
        np.testing.assert_allclose(
            effects.standard_error[c],
            clustered_standard_error(change, case.sequence),
            rtol=1e-6,
            atol=1e-7,
        )
        gained = case.stitched.l0(keep0, keep1) - case.stitched.l0(all0, none1)
        assert effects.delta_l0[c] == pytest.approx(gained)


@settings(max_examples=60, deadline=None)
@given(case=cases, theta=thetas)
def test_every_point_of_a_transition_equals_brute_force(case, theta):
    subgraphs = case.subgraphs(theta)
    path = transition(case.pair, subgraphs)
    keep0 = np.ones(case.pair.small.d_sae, bool)
    keep1 = np.zeros(case.pair.large.d_sae, bool)
    inserted = iter(np.flatnonzero(subgraphs.novel))
    swapped = iter(range(subgraphs.n_components))
    dropped = iter(np.flatnonzero(subgraphs.component_small < 0))
    for step, kind in enumerate(path.kind):
        if kind == INSERT:
            keep1[next(inserted)] = True
        elif kind == SWAP:
            component = next(swapped)
            keep0 &= subgraphs.component_small != component
            keep1 |= subgraphs.component_large == component
        elif kind == DROP:
            keep0[next(dropped)] = False
        else:
            assert (step, KINDS[kind]) == (0, "start")
        assert path.n_latents[step] == keep0.sum() + keep1.sum()
        np.testing.assert_allclose(path.mse[step], case.stitched.mse(keep0, keep1), **exact)
        assert path.l0[step] == pytest.approx(case.stitched.l0(keep0, keep1))
    # All operations were seen, and what is left is the larger SAE, bias included.
    assert [next(rest, None) for rest in (inserted, swapped, dropped)] == [None] * 3
    assert not keep0.any()
    assert keep1.all()
    own = case.pair.large.decode(case.pair.large.encode(case.x), case.x)
    own = (case.x - own).square().mean()
    np.testing.assert_allclose(path.mse[-1], own, **exact)
    np.testing.assert_allclose(path.mse_large, own, **exact)


@settings(max_examples=40, deadline=None)
@given(case=cases, ties=st.booleans())
def test_threshold_curve_equals_brute_force(case, ties):
    cosine = case.similarity.max_cosine_large
    if ties:
        cosine = np.round(cosine, 1).astype(np.float32)
    curve = threshold_curve(case.pair, replace(case.similarity, max_cosine_large=cosine))
    assert len(curve.theta) == len(np.unique(cosine)) + 1
    all0 = np.ones(case.pair.small.d_sae, bool)
    for theta, n_inserted, mse, l0 in zip(
        curve.theta, curve.n_inserted, curve.mse, curve.l0, strict=True
    ):
        novel = cosine < theta
        assert novel.sum() == n_inserted
        np.testing.assert_allclose(mse, case.stitched.mse(all0, novel), **exact)
        assert l0 == pytest.approx(case.stitched.l0(all0, novel))
    assert curve.mse[list(curve.theta).index(np.float32(curve.best))] == curve.mse.min()
    # Of those that a floor leaves; above all of them every latent is novel.
    for floor in curve.theta:
        best = np.float32(curve.best_from(float(floor)))
        known = curve.theta >= floor
        assert best >= floor
        assert curve.mse[list(curve.theta).index(best)] == curve.mse[known].min()
    assert curve.best_from(curve.theta[0] - 1) == curve.best
    assert curve.best_from(1.5) == 1.5


@settings(max_examples=40, deadline=None)
@given(
    case=cases,
    theta=thetas,
    n_sequences=st.integers(1, 5),
    elements=st.integers(1, 300),
)
def test_blocks_and_chunks_of_any_size_give_the_same(case, theta, n_sequences, elements):
    subgraphs = case.subgraphs(theta)
    whole = EvalPair.in_memory(case.pair.small, case.pair.large, case.x, case.sequence)
    streamed = in_blocks(whole, case.x, case.sequence, n_sequences)
    cosine = np.linspace(-1, 1, case.pair.large.d_sae, dtype=np.float32)
    spread = replace(case.similarity, max_cosine_large=cosine)

    def everything(pair):
        found, swaps = insertion_effects(pair, spread), swap_effects(pair, subgraphs)
        yield from (found.delta_mse, found.standard_error**2, found.n_active)
        yield from (swaps.delta_mse, swaps.standard_error**2, swaps.delta_l0)
        yield np.array([found.mse_small, found.mse_large, swaps.mse_small, swaps.l0_small])
        path = transition(pair, subgraphs)
        yield np.array([path.mse_large, path.l0_large, path.n_tokens])
        curve = threshold_curve(pair, spread)
        yield from (path.mse, path.l0, path.n_latents, curve.mse, curve.l0)

    at_once = list(everything(whole))
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(stitching, "_ELEMENTS", elements)
        for a, b in zip(at_once, everything(streamed), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)


def test_latents_that_never_fire_change_the_bias_alone():
    case = make_case(3, ("relu", "relu"), 6, 8, 4, [5, 5], True)
    case.pair.large.b_enc[2] = -1e6
    pair = EvalPair.in_memory(case.pair.small, case.pair.large, case.x, case.sequence)
    effects = insertion_effects(pair, case.similarity)
    assert effects.n_active[2] == 0
    alpha = 6 / 7
    bias = alpha * pair.small.b_dec + (1 - alpha) * pair.large.b_dec
    x_hat = pair.small.decode(pair.small.encode(case.x)) - pair.small.b_dec + bias
    expected = (case.x - x_hat).square().mean() - effects.mse_small
    np.testing.assert_allclose(effects.delta_mse[2], expected, **exact)


def test_one_sequence_has_no_standard_error():
    case = make_case(1, ("relu", "relu"), 3, 4, 3, [8], True)
    assert np.isnan(insertion_effects(case.pair, case.similarity).standard_error).all()


def test_a_transition_that_misses_the_larger_sae_is_an_error(monkeypatch):
    case = make_case(5, ("relu", "relu"), 4, 6, 3, [6, 6], True)
    operations, _ = transition_operations(case.subgraphs(0.5))
    path = stitching.cumulative_effects(case.pair, operations)
    missed = replace(path, mse=path.mse * 1.001)
    monkeypatch.setattr(stitching, "cumulative_effects", lambda *_: missed)
    with pytest.raises(StudyError, match="transition ends at MSE"):
        transition(case.pair, case.subgraphs(0.5))


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_a_planted_direction_is_worth_its_raw_error(normalize):
    # The smaller SAE reads z exactly but for one direction, which the larger has.
    eye = torch.eye(4, dtype=torch.float64)
    both = torch.cat([eye, -eye])
    whole = SAE(both.T, both, torch.zeros(8).double(), torch.zeros(4).double(), "relu",
                normalize=normalize)  # fmt: skip
    kept = [0, 1, 2, 4, 5, 6]
    part = replace(whole, W_enc=whole.W_enc[:, kept], W_dec=whole.W_dec[kept],
                   b_enc=whole.b_enc[kept])  # fmt: skip
    x = 5.0 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).double()
    x *= torch.linspace(0.1, 9, 50)[:, None].double()
    pair = EvalPair.in_memory(part, whole, x, torch.arange(50) // 5)
    effects = independent_effects(pair, Operations.insertions(np.array([3, 7]), 6, 8))
    lacking = x[:, 3] - (x.mean(1) if normalize == "layer_norm" else 0.0)
    for effect, of in zip(effects.delta_mse, (lacking > 0, lacking < 0), strict=True):
        # ε of the layer norm is 1e-5.
        assert effect == pytest.approx(-lacking[of].square().sum().item() / x.numel(), rel=1e-4)
    assert effects.mse_large == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("normalize", NORMALIZATIONS)
def test_a_token_without_variance(normalize):
    case = make_case(5, ("relu", "relu"), 4, 6, 3, [6, 6], True, normalize=normalize)
    case.x[2] = 0.0
    case.x[4] = 3.0
    pair = EvalPair.in_memory(case.pair.small, case.pair.large, case.x, case.sequence)
    effects = insertion_effects(pair, case.similarity)
    assert np.isfinite(effects.delta_mse).all()
    assert np.isfinite(effects.mse_small)
