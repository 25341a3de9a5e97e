"""Greedy selection against evaluating every candidate at every step, and on planted data."""

import numpy as np
import pytest
import torch
from helpers.stitching_cases import cases, make_case
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_stitching.base.errors import StudyError
from sae_stitching.base.record import write_record
from sae_stitching.matching.decoder_similarity import similarity
from sae_stitching.saes.sae import SAE
from sae_stitching.stitching.greedy import greedy_latents
from sae_stitching.stitching.insertions import insertion_effects
from sae_stitching.stitching.pairs import EvalPair
from sae_stitching.stitching.selection_orders import (
    ORDERS,
    Selection,
    insertion_orders,
    load_selection,
    walk,
)

exact = {"rtol": 1e-8, "atol": 1e-10}


def candidates_of(case):
    """Latents that are ever active."""
    return np.flatnonzero((case.stitched.f1 > 0).any(0).numpy())


@settings(max_examples=60, deadline=None)
@given(case=cases, n=st.one_of(st.none(), st.integers(0, 20)))
def test_every_choice_is_the_best_of_all_candidates(case, n):
    found = greedy_latents(case.pair, n)
    stitched, d_large = case.stitched, case.pair.large.d_sae
    everything, chosen = np.ones(case.pair.small.d_sae, bool), np.zeros(d_large, bool)
    left = set(candidates_of(case).tolist())
    before = stitched.mse(everything, chosen)
    np.testing.assert_allclose(found.mse[0], before, **exact)

    def with_latent(i):
        more = chosen.copy()
        more[i] = True
        return stitched.mse(everything, more)

    for latent, mse in zip(found.latents, found.mse[1:], strict=True):
        tried = {i: with_latent(i) for i in sorted(left)}
        assert tried[latent] == pytest.approx(min(tried.values()), rel=1e-8, abs=1e-10)
        np.testing.assert_allclose(mse, tried[latent], **exact)
        chosen[latent] = True
        left.remove(latent)
    if n is not None:
        assert len(found.latents) == min(n, len(candidates_of(case)))
    else:
        assert (np.diff(found.mse) < 0).all()
        assert all(with_latent(i) >= found.mse[-1] - 1e-9 for i in left)
        assert found.n_lowering == len(found.latents)


@settings(max_examples=40, deadline=None)
@given(case=cases, data=st.data())
def test_only_candidates_are_chosen(case, data):
    d_large = case.pair.large.d_sae
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=d_large, max_size=d_large)))
    found = greedy_latents(case.pair, d_large, candidates=mask)
    assert sorted(found.latents) == sorted(set(np.flatnonzero(mask)) & set(candidates_of(case)))
    # Those that may not be chosen change nothing of the choice among the others.
    only = greedy_latents(case.pair, None, candidates=mask)
    np.testing.assert_array_equal(only.latents, found.latents[: len(only.latents)])


def test_it_ends_where_no_latent_lowers_the_mse():
    case = make_case(5, ("relu", "relu"), 6, 14, 5, [9, 8, 9], True)
    few, all_of_them = greedy_latents(case.pair), greedy_latents(case.pair, 14)
    n = len(few.latents)
    assert 0 < n < len(all_of_them.latents)
    np.testing.assert_array_equal(all_of_them.latents[:n], few.latents)
    assert all_of_them.mse[n + 1] >= all_of_them.mse[n]
    assert all_of_them.n_lowering == n == few.n_lowering
    assert greedy_latents(case.pair, 0).latents.size == 0


def test_candidates_have_to_fit():
    case = make_case(5, ("relu", "relu"), 3, 5, 4, [4, 4], True)
    with pytest.raises(StudyError, match=r"candidates: shape \(4,\) for a larger SAE of 5 latents"):
        greedy_latents(case.pair, candidates=np.ones(4, bool))


# Planted data


def sae_of(W_dec, b_enc=0.0):
    W_dec = torch.as_tensor(W_dec, dtype=torch.float64)
    return SAE(
        W_enc=W_dec.T.contiguous(),
        W_dec=W_dec,
        b_enc=torch.full((len(W_dec),), b_enc, dtype=torch.float64),
        b_dec=torch.zeros(W_dec.shape[1], dtype=torch.float64),
        architecture="relu",
    )


def planted():
    """Eight directions, of which the smaller SAE has two; the larger has each missing one twice.

    The two latents of a direction duplicate one another and are equally unlike the smaller SAE:
    either helps, both reconstruct the direction twice.
    """
    E = torch.eye(8)
    small, large = sae_of(E[:2]), sae_of(torch.cat([E[2:], E[2:]]))
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(400, 8, generator=generator, dtype=torch.float64)
    x *= torch.rand(400, 8, generator=generator) < 0.3
    # Directions of different strength, so that there is an order among them.
    x *= torch.tensor([1.0, 1.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0])
    return EvalPair.in_memory(small, large, x, torch.arange(400) // 8)


def test_duplicates_are_left_out():
    pair = planted()
    found = greedy_latents(pair)
    assert sorted(found.latents) == list(range(6))  # of equals the lowest number
    assert found.mse[-1] < 1e-12
    # By cosine all twelve are alike, and by their own effect the duplicates come in pairs.
    cosine = similarity(pair.small.W_dec, pair.large.W_dec, floor=0.5)
    orders, n_greedy = insertion_orders(pair, cosine)
    assert n_greedy == 6
    walks = {name: walk(pair, order) for name, order in orders.items()}
    assert (cosine.max_cosine_large == 0).all()
    np.testing.assert_array_equal(orders["effect"][:4] % 6, [0, 0, 1, 1])
    assert walks["greedy"].mse[6] < 1e-12 < 0.05 < walks["effect"].mse[6]
    everything = walks["greedy"].mse[-1]
    for path in walks.values():
        np.testing.assert_allclose(path.mse[-1], everything, rtol=1e-9)
    assert walks["greedy"].mse[6] < walks["cosine"].mse.min() + 1e-12


def test_latents_that_only_help_together_are_told_from_those_that_compete():
    # Latents 0 and 1 each take one half of a direction; 2 takes all of it at once.
    E = torch.eye(3)
    large = sae_of(torch.stack([E[1], E[2], (E[1] + E[2]) / 2**0.5]))
    generator = torch.Generator().manual_seed(1)
    x = torch.zeros(100, 3, dtype=torch.float64)
    x[:, 1:] = torch.rand(100, 1, generator=generator, dtype=torch.float64) + 0.1
    pair = EvalPair.in_memory(sae_of(E[:1]), large, x, torch.arange(100) // 10)
    found = similarity(pair.small.W_dec, large.W_dec, floor=0.5)
    assert (insertion_effects(pair, found).delta_mse < 0).all()
    assert greedy_latents(pair).latents.tolist() == [2]


# The orders that are compared


def similarity_of(case):
    return similarity(case.pair.small.W_dec, case.pair.large.W_dec, floor=0.9)


@settings(max_examples=30, deadline=None)
@given(case=cases)
def test_orders_are_walked_by_measuring(case):
    found = similarity_of(case)
    orders, _ = insertion_orders(case.pair, found)
    d_large = case.pair.large.d_sae
    everything = np.ones(case.pair.small.d_sae, bool)
    for name in ORDERS:
        order = orders[name]
        assert sorted(order) == list(range(d_large))
        path = walk(case.pair, order)
        keep = np.zeros(d_large, bool)
        for k in range(d_large + 1):
            np.testing.assert_allclose(path.mse[k], case.stitched.mse(everything, keep), **exact)
            assert path.l0[k] == pytest.approx(case.stitched.l0(everything, keep))
            keep[order[k : k + 1]] = True
    assert (np.diff(found.max_cosine_large[orders["cosine"]]) >= 0).all()
    active = np.isin(orders["effect"], candidates_of(case))
    effects = insertion_effects(case.pair, found).delta_mse[orders["effect"]]
    assert (np.diff(effects[active]) >= -1e-12).all() and (np.diff(active.astype(int)) <= 0).all()


def test_a_selection_reads_back(tmp_path):
    case = make_case(8, ("relu", "topk"), 8, 13, 5, [4, 9, 3, 7], True)
    orders, n_greedy = insertion_orders(case.pair, similarity_of(case))
    walks = {name: walk(case.pair, order) for name, order in orders.items()}
    found = Selection(walks, 0.5, 6, n_greedy, 23)
    write_record(found, tmp_path / "s.h5", study="test", provenance={})
    read = load_selection(tmp_path / "s.h5", study="test")
    for name in ORDERS:
        for dataset in ("latents", "mse", "l0"):
            np.testing.assert_array_equal(
                getattr(read.orders[name], dataset), getattr(walks[name], dataset)
            )
    assert (read.theta, read.n_novel, read.n_greedy) == (0.5, 6, n_greedy)
    assert read.n_train_tokens == 23
