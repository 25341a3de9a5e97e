"""Operations on latents: made one by one, and one after the other."""

import numpy as np
import pytest
from helpers.stitching_cases import cases, make_case, thetas
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_stitching.base.errors import StudyError
from sae_stitching.stitching.effects import cumulative_effects
from sae_stitching.stitching.operations import Operations
from sae_stitching.stitching.sums import PairSums


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), d_small=st.integers(1, 9), d_large=st.integers(1, 9))
def test_each_latent_has_its_place_in_the_order(seed, d_small, d_large):
    generator = np.random.default_rng(seed)
    coming = generator.permutation(d_large)[: generator.integers(d_large + 1)]
    going = generator.permutation(d_small)[: generator.integers(d_small + 1)]
    insert = Operations.insertions(coming, d_small, d_large)
    drop = Operations.drops(going, d_small, d_large)
    both = insert.then(drop)
    assert both.n == len(coming) + len(going)
    for number in range(both.n):
        comes, goes = both.large == number, both.small == number
        if number < len(coming):
            assert np.flatnonzero(comes).tolist() == [coming[number]] and not goes.any()
        else:
            assert np.flatnonzero(goes).tolist() == [going[number - len(coming)]]
            assert not comes.any()
    assert both.n_large.tolist() == [1] * len(coming) + [0] * len(going)
    assert both.n_small.tolist() == [0] * len(coming) + [1] * len(going)


@settings(max_examples=30, deadline=None)
@given(case=cases, theta=thetas)
def test_what_insertions_put_in_can_be_dropped_as_a_walk_says(case, theta):
    novel = np.flatnonzero(case.subgraphs(theta).novel)
    sizes = case.pair.small.d_sae, case.pair.large.d_sae
    everything = np.arange(sizes[0])
    operations = Operations.insertions(novel, *sizes).then(Operations.drops(everything, *sizes))
    walk = cumulative_effects(case.pair, operations)
    keep = np.zeros(sizes[1], bool)
    keep[novel] = True
    for left in range(sizes[0] + 1):
        at = len(walk.mse) - 1 - left
        alone = everything >= sizes[0] - left
        np.testing.assert_allclose(walk.mse[at], case.stitched.mse(alone, keep), rtol=1e-8)
        assert walk.n_latents[at] == left + len(novel)


def test_operations_have_to_be_of_these_saes():
    case = make_case(5, ("relu", "relu"), 3, 5, 4, [4, 4], True)
    operations = Operations.insertions(np.arange(4), 3, 4)
    with pytest.raises(StudyError, match="of SAEs of 3 and 4 latents, but these have 3 and 5"):
        PairSums(case.pair, operations)


def test_one_pass_sums_up_both_saes():
    case = make_case(6, ("relu", "topk"), 5, 8, 4, [4, 7, 3], True, blocks=1)
    sizes = case.pair.small.d_sae, case.pair.large.d_sae
    sums = PairSums(case.pair, Operations.insertions(np.arange(8), *sizes))
    residuals = [r for _, r in sums.residuals("pass", large=True)]
    keep = np.ones(5, bool), np.ones(8, bool)
    assert len(residuals) == 3
    assert sums.n_tokens == sum(map(len, residuals)) == 14
    assert sums.mse_small == pytest.approx(case.stitched.mse(keep[0], ~keep[1]))
    assert sums.mse_large == pytest.approx(case.stitched.mse(~keep[0], keep[1]))
    assert sums.l0_small == pytest.approx(case.stitched.l0(keep[0], ~keep[1]))
    assert sums.l0_large == pytest.approx(case.stitched.l0(~keep[0], keep[1]))
