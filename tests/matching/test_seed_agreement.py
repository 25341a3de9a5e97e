"""What two seeds share: the matching against all permutations, and what is random."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_stitching.base.errors import StudyError
from sae_stitching.figures.seed_agreement import agreement_curves, agreement_figure, agreement_row
from sae_stitching.matching import seed_agreement as module
from sae_stitching.matching.seed_agreement import Agreement, agreement, random_agreement


def random_decoders(d_sae, d_model, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(d_sae, d_model, generator=generator) for _ in range(2)]


def cosines(one, other):
    one, other = (W.double().numpy() for W in (one, other))
    one, other = (W / np.linalg.norm(W, axis=1, keepdims=True) for W in (one, other))
    return other @ one.T


@settings(deadline=None, max_examples=30)
@given(d_sae=st.integers(1, 6), d_model=st.integers(1, 5), seed=st.integers(0, 10**6))
def test_it_is_what_all_permutations_give(d_sae, d_model, seed):
    one, other = random_decoders(d_sae, d_model, seed)
    found, cosine = agreement(one, other), cosines(one, other)
    rows = np.arange(d_sae)
    ways = [list(way) for way in permutations(range(d_sae))]
    assert found.matched_cosine.sum() == pytest.approx(
        max(cosine[rows, way].sum() for way in ways), abs=1e-5
    )
    assert found.pw_mcc == pytest.approx(
        max(np.abs(cosine[rows, way]).mean() for way in ways), abs=1e-5
    )
    np.testing.assert_allclose(
        np.sort(found.max_cosine), np.sort([*cosine.max(0), *cosine.max(1)]), atol=1e-5
    )


@pytest.mark.parametrize("n_shared", [0, 5, 12])
def test_shared_latents_are_counted_whatever_their_order_and_norm(n_shared):
    d_sae = 12
    basis = torch.eye(2 * d_sae)
    other = torch.cat([basis[:n_shared], basis[d_sae : 2 * d_sae - n_shared]])
    order = torch.randperm(d_sae, generator=torch.Generator().manual_seed(0))
    found = agreement(basis[:d_sae], 3.0 * other[order])
    assert (found.share, found.share_matched) == (n_shared / d_sae, n_shared / d_sae)
    assert found.pw_mcc == n_shared / d_sae


def test_one_latent_that_many_resemble_is_matched_once():
    one = torch.eye(4)
    found = agreement(one, one[[0, 0, 0, 0]])
    assert found.share == pytest.approx((1 + 4) / 8)
    assert found.share_matched == 1 / 4


def test_opposite_directions_count_for_pw_mcc_alone():
    found = agreement(torch.eye(3), -torch.eye(3))
    assert (found.share, found.share_matched, found.pw_mcc) == (0, 0, 1)


def test_random_directions_share_none_and_agree_the_more_the_more_there_are():
    few, many = random_agreement(32, 64), random_agreement(256, 64)
    assert few.share == few.share_matched == many.share == 0
    assert 0.2 < few.pw_mcc < many.pw_mcc < 0.5
    assert random_agreement(32, 64).pw_mcc == few.pw_mcc


def test_above_the_limit_there_is_no_matching(monkeypatch):
    monkeypatch.setattr(module, "MATCHED_UP_TO", 3)
    found = agreement(torch.eye(4), torch.eye(4))
    assert found.share == 1
    assert np.isnan([found.share_matched, found.pw_mcc]).all()
    row = agreement_row(found, found)
    assert np.isnan(row["share_matched"])


def test_dictionaries_of_different_d_model_are_refused():
    with pytest.raises(StudyError, match="SAEs of different d_model cannot be compared"):
        agreement(torch.eye(3), torch.ones(3, 4))


def found_and_random():
    two = {("a", "b"): agreement(torch.eye(8), torch.eye(8)[[*range(4), 0, 0, 0, 0]])}
    return two, random_agreement(8, 8)


def test_curves_say_what_share_is_at_least_as_near():
    found, random = found_and_random()
    curves = agreement_curves(found, random)
    of_two = curves[curves["sae"] == "a"].set_index("cosine")
    assert of_two["share_matched"].loc[1.0] == 0.5
    assert of_two["share_matched"].iloc[0] == 1.0
    assert of_two["share_max_cosine"].loc[1.0] == (4 + 8) / 16
    assert (of_two["share_max_cosine"].diff().dropna() <= 0).all()
    assert len(curves) == 2 * 101


def test_the_figure_shows_each_number_once():
    import pandas as pd

    found, random = found_and_random()
    row = {"sae": "a", "other": "b", **agreement_row(found["a", "b"], random)}
    table = pd.DataFrame([row])
    figure = agreement_figure(table, agreement_curves(found, random))
    left, right = figure.axes
    for column in ("share_max_cosine", "share_matched", "pw_mcc"):
        (mark,) = [line for line in left.lines if line.get_gid() == column]
        assert list(mark.get_xdata()) == [row[column]]
    assert sum(line.get_gid() == "random" for line in left.lines) == 3
    assert sum(line.get_gid() == "random" for line in right.lines) == 2


def test_a_share_of_nothing_is_not_a_number():
    assert np.isnan(Agreement(np.zeros(2, np.float32), np.empty(0, np.float32), 0.0).share_matched)
