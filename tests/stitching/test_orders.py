"""Many orders of the same operations, against walking each of them step by step."""

import numpy as np
import pytest
from helpers.stitching_cases import cases, make_case, thetas
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_stitching.base.record import write_record
from sae_stitching.stitching import orders as orders_module
from sae_stitching.stitching.effects import cumulative_effects, independent_effects
from sae_stitching.stitching.operations import Operations
from sae_stitching.stitching.orders import OrderSums
from sae_stitching.stitching.random_insertion import load_random_insertion, random_insertion
from sae_stitching.stitching.transition_orders import load_transition_orders, transition_orders
from sae_stitching.stitching.transitions import (
    DROP,
    INSERT,
    SWAP,
    transition,
    transition_operations,
)

exact = {"rtol": 1e-8, "atol": 1e-10}


def reordered(operations, order):
    """The operations of `order` alone, numbered in that order."""
    number = np.full(operations.n + 1, -1)
    number[order] = np.arange(len(order))
    return Operations(number[operations.small], number[operations.large], len(order))


@settings(max_examples=30, deadline=None)
@given(case=cases, theta=thetas, seed=st.integers(0, 1000), rows=st.sampled_from([1, 99]))
def test_walks_equal_cumulative_effects(case, theta, seed, rows):
    operations, _ = transition_operations(case.subgraphs(theta))
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(operations.n) for _ in range(3)]
    orders[2] = orders[2][: operations.n // 2]  # some operations only
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orders_module, "_ELEMENTS", rows * 4)
        patch.setattr(orders_module, "_NONZEROS", 5 * rows)
        patch.setattr(orders_module, "_ROWS", rows)
        sums = OrderSums(case.pair, operations)
        walks, alone = sums.walks(orders), sums.alone()
    for order, walk in zip(orders, walks, strict=True):
        path = cumulative_effects(case.pair, reordered(operations, order))
        np.testing.assert_allclose(walk.mse, path.mse, **exact)
        np.testing.assert_allclose(walk.l0, path.l0, **exact)
        np.testing.assert_array_equal(walk.n_latents, path.n_latents)
    effects = independent_effects(case.pair, operations)
    np.testing.assert_allclose(alone, effects.delta_mse, **exact)


def case_with_all_phases():
    case = make_case(8, ("relu", "topk"), 8, 13, 5, [4, 9, 3, 7], True)
    return case, case.subgraphs(0.8)


def test_orders_of_a_transition_agree_where_phases_end():
    case, subgraphs = case_with_all_phases()
    found = transition_orders(case.pair, subgraphs, n_orders=4, seed=1)
    path = transition(case.pair, subgraphs)
    kinds = path.kind
    assert {INSERT, SWAP, DROP} <= set(kinds)
    np.testing.assert_array_equal(found.kind, kinds)
    np.testing.assert_allclose(found.given, path.mse, **exact)
    for kind in (0, INSERT, SWAP, DROP):
        end = np.flatnonzero(kinds == kind)[-1]
        np.testing.assert_allclose(found.gain[end], path.mse[end], **exact)
        np.testing.assert_allclose(found.random[:, end], path.mse[end], **exact)
    assert found.random.shape == (4, len(kinds))
    assert len(np.unique(np.round(found.random[:, 2], 12))) > 1
    # The first insertion is the one that helps most.
    insertions = independent_effects(case.pair, transition_operations(subgraphs)[0]).delta_mse
    n_novel = int(subgraphs.novel.sum())
    assert found.gain[1] - found.gain[0] == pytest.approx(insertions[:n_novel].min())


def test_random_insertions_end_at_the_whole_group():
    case, subgraphs = case_with_all_phases()
    found = random_insertion(case.pair, subgraphs.novel, n_orders=3, seed=0)
    everything = np.ones(case.pair.small.d_sae, bool)
    for mse, group in ((found.novel, subgraphs.novel), (found.reconstruction, ~subgraphs.novel)):
        assert mse.shape == (3, group.sum() + 1)
        np.testing.assert_allclose(mse[:, -1], case.stitched.mse(everything, group), **exact)
        np.testing.assert_allclose(
            mse[:, 0], case.stitched.mse(everything, np.zeros_like(group)), **exact
        )
    again = random_insertion(case.pair, subgraphs.novel, n_orders=3, seed=0)
    np.testing.assert_array_equal(found.novel, again.novel)
    other = random_insertion(case.pair, subgraphs.novel, n_orders=3, seed=1)
    assert not np.array_equal(found.novel, other.novel)


@pytest.mark.parametrize("theta", [-0.99, 1.0])
def test_a_group_may_be_empty(theta):
    case, _ = case_with_all_phases()
    found = random_insertion(case.pair, case.subgraphs(theta).novel, n_orders=2, seed=0)
    assert sorted(part.shape[1] for part in (found.novel, found.reconstruction)) == [1, 14]
    assert found.novel[0, 0] == found.reconstruction[0, 0]


def test_files_read_back(tmp_path):
    case, subgraphs = case_with_all_phases()
    origin = {"study": "test", "provenance": {}}
    found = random_insertion(case.pair, subgraphs.novel, n_orders=2, seed=0)
    write_record(found, tmp_path / "random.h5", **origin)
    read = load_random_insertion(tmp_path / "random.h5", study="test")
    np.testing.assert_array_equal(read.reconstruction, found.reconstruction)
    orders = transition_orders(case.pair, subgraphs, n_orders=2, seed=0)
    write_record(orders, tmp_path / "orders.h5", **origin)
    read = load_transition_orders(tmp_path / "orders.h5", study="test")
    for name in ("kind", "given", "gain", "random"):
        np.testing.assert_array_equal(getattr(read, name), getattr(orders, name))
