"""ROC of novel latents, against scikit-learn and against counting."""

import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sae_stitching.base.errors import StudyError
from sae_stitching.base.record import write_record
from sae_stitching.stitching import roc as roc_module
from sae_stitching.stitching.insertions import Insertions
from sae_stitching.stitching.roc import bootstrap_auc, load_roc, novelty_roc
from sklearn.metrics import roc_auc_score

NO_INTERVAL = {"bootstrap_samples": 0, "confidence": 0.95, "seed": 0}


def latents(n=300, seed=0, dtype=np.float32):
    generator = np.random.default_rng(seed)
    cosine = generator.uniform(0.1, 1, n).round(2).astype(dtype)  # rounded: many ties
    delta = np.where(generator.random(n) < cosine, 1.0, -1.0) * generator.exponential(1e-5, n)
    return delta, cosine, generator.integers(1, 50, n)


def roc_of(delta, cosine, n_active, **settings):
    """ROC of latents whose standard errors and MSEs are no matter."""
    error = np.full(len(delta), np.nan)
    return novelty_roc(Insertions(delta, error, n_active, cosine, 4.0, 3.5, 100), **settings)


def counted(delta, cosine, theta):
    """FPR and TPR of Eq. 6 as it stands."""
    novel, positive = cosine < theta, delta < 0
    return (novel & ~positive).sum() / (~positive).sum(), (novel & positive).sum() / positive.sum()


def test_auc_is_scikit_learns():
    delta, cosine, n_active = latents()
    roc = roc_of(delta, cosine, n_active, bootstrap_samples=200, confidence=0.9, seed=1)
    assert roc.auc == roc_auc_score(delta < 0, -cosine)
    assert roc.auc_low < roc.auc < roc.auc_high
    assert (roc.n_positive, roc.n_negative) == ((delta < 0).sum(), (delta >= 0).sum())
    assert np.trapezoid(roc.tpr, roc.fpr) == pytest.approx(roc.auc, abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_threshold_gives_its_point_by_eq_6(dtype):
    delta, cosine, n_active = latents(dtype=dtype)
    roc = roc_of(delta, cosine, n_active, **NO_INTERVAL)
    assert (roc.fpr[0], roc.tpr[0], roc.fpr[-1], roc.tpr[-1]) == (0, 0, 1, 1)
    for fpr, tpr, theta in zip(roc.fpr, roc.tpr, roc.thresholds, strict=True):
        assert counted(delta, cosine, theta) == pytest.approx((fpr, tpr), abs=1e-15)


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_point_and_best_threshold_of_any_latents(data):
    n = data.draw(st.integers(2, 25))
    floats = st.floats(-1, 1, width=32) | st.sampled_from([0.0, 0.5, 1.0])
    cosine = data.draw(hnp.arrays(np.float32, n, elements=floats))
    delta = data.draw(hnp.arrays(np.float64, n, elements=st.sampled_from([-2.0, -1.0, 0.0, 1.0])))
    theta = data.draw(st.floats(-1.5, 1.5) | st.sampled_from([float(c) for c in cosine]))
    roc = roc_of(delta, cosine, np.ones(n), **NO_INTERVAL)
    assert roc.n_positive + roc.n_negative == n
    if not roc.defined:
        assert len(set(delta < 0)) == 1
        return
    assert roc.at(theta) == pytest.approx(counted(delta, cosine.astype(np.float64), theta))
    youden = [np.subtract(*counted(delta, cosine, t)[::-1]) for t in roc.thresholds]
    # In both precisions: NumPy rounds a Python float to that of the array.
    for precision in (np.float32, np.float64):
        fpr, tpr = counted(delta, cosine.astype(precision), roc.theta_best)
        assert tpr - fpr == pytest.approx(max(youden))
        assert roc.at(roc.theta_best) == pytest.approx((fpr, tpr))


def test_best_threshold_is_midway_between_its_neighbours():
    delta, cosine = np.array([-1.0, -1, 1, 1]), np.array([0.1, 0.4, 0.6, 0.9])
    roc = roc_of(delta, cosine, np.ones(4), **NO_INTERVAL)
    assert roc.theta_best == pytest.approx(0.5)
    assert roc.auc == 1
    assert roc.at(0.6) == (0, 1)  # strictly below
    assert roc.at(np.nextafter(0.6, 1)) == (0.5, 1)


def test_best_threshold_between_adjacent_floats():
    low = np.float32(0.7)
    cosine = np.array([low, np.nextafter(low, np.float32(1))])
    roc = roc_of(np.array([-1.0, 1]), cosine, np.ones(2), **NO_INTERVAL)
    assert counted(np.array([-1.0, 1]), cosine, roc.theta_best) == (0, 1)


def test_latents_that_are_never_active_are_left_out_and_counted():
    delta, cosine, n_active = latents()
    n_active[::3] = 0
    delta[::3] = np.nan
    kept = n_active > 0
    roc = roc_of(delta, cosine, n_active, bootstrap_samples=50, confidence=0.9, seed=0)
    same = roc_of(
        delta[kept], cosine[kept], n_active[kept], bootstrap_samples=50, confidence=0.9, seed=0
    )
    assert roc.n_never_active == (~kept).sum()
    assert same.n_never_active == 0
    assert (roc.auc, roc.auc_low, roc.auc_high) == (same.auc, same.auc_low, same.auc_high)


@pytest.mark.parametrize("draws", [1, 700, 1 << 21])
def test_bootstrap_is_scikit_learns_on_each_resample(monkeypatch, draws):
    monkeypatch.setattr(roc_module, "_DRAWS_PER_BLOCK", draws)
    delta, cosine, _ = latents(n=120)
    positive = delta < 0
    resamples = np.random.default_rng(7).integers(120, size=(40, 120))
    expected = [roc_auc_score(positive[rows], -cosine[rows]) for rows in resamples]
    np.testing.assert_allclose(bootstrap_auc(positive, cosine, 40, 7), expected, atol=1e-13)


def test_interval_is_the_percentile_interval_and_seeded():
    delta, cosine, n_active = latents()
    settings = {"bootstrap_samples": 300, "confidence": 0.8}
    roc = roc_of(delta, cosine, n_active, seed=3, **settings)
    expected = np.quantile(bootstrap_auc(delta < 0, cosine, 300, 3), [0.1, 0.9])
    assert (roc.auc_low, roc.auc_high) == pytest.approx(expected, abs=1e-15)
    again = roc_of(delta, cosine, n_active, seed=3, **settings)
    assert (again.auc_low, again.auc_high) == (roc.auc_low, roc.auc_high)
    other = roc_of(delta, cosine, n_active, seed=4, **settings)
    assert (other.auc_low, other.auc_high) != (roc.auc_low, roc.auc_high)


def test_resamples_of_one_class_are_left_out_with_a_warning(caplog):
    delta, cosine = np.array([-1.0, 1, 1]), np.array([0.1, 0.5, 0.6])
    with caplog.at_level(logging.WARNING):
        roc = roc_of(delta, cosine, np.ones(3), bootstrap_samples=60, confidence=0.9, seed=0)
    assert "left out of the AUC's interval" in caplog.text
    assert (roc.auc_low, roc.auc, roc.auc_high) == (1, 1, 1)


@pytest.mark.parametrize(
    ("delta", "n_active"),
    [([-1.0, -2.0], [1, 1]), ([1.0, 0.0], [1, 1]), ([1.0, -1.0], [1, 0]), ([1.0, -1.0], [0, 0])],
)
def test_one_class_is_undefined_with_a_warning(caplog, tmp_path, delta, n_active):
    arrays = np.array(delta), np.array([0.2, 0.9]), np.array(n_active)
    with caplog.at_level(logging.WARNING):
        roc = roc_of(*arrays, bootstrap_samples=10, confidence=0.95, seed=0)
    assert "one class only" in caplog.text
    assert not roc.defined
    assert roc.fpr.size == roc.tpr.size == roc.thresholds.size == 0
    assert np.isnan([roc.auc, roc.auc_low, roc.auc_high, roc.theta_best, *roc.at(0.5)]).all()
    assert roc.n_never_active == n_active.count(0)
    write_record(roc, tmp_path / "roc.h5", study="tiny", provenance={})
    back = load_roc(tmp_path / "roc.h5")
    assert not back.defined
    assert np.isnan(back.auc)
    assert back.n_positive == roc.n_positive


def test_file_reads_back_and_is_the_same_bytes(tmp_path):
    roc = roc_of(*latents(), bootstrap_samples=20, confidence=0.95, seed=0)
    for name in ("a.h5", "b.h5"):
        write_record(roc, tmp_path / name, study="tiny", provenance={"seed": 0})
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()
    back = load_roc(tmp_path / "a.h5")
    for name in vars(roc):
        np.testing.assert_array_equal(getattr(back, name), getattr(roc, name))


def test_wrong_input_says_what_is_wrong(tmp_path):
    delta, cosine, n_active = latents()
    with pytest.raises(StudyError, match=r"max_cosine \(299,\)"):
        roc_of(delta, cosine[1:], n_active, **NO_INTERVAL)
    with pytest.raises(StudyError, match=r"stitching\.confidence: 95"):
        roc_of(delta, cosine, n_active, bootstrap_samples=1, confidence=95, seed=0)
    delta[5] = np.inf
    with pytest.raises(StudyError, match="delta_mse: latent 5 is inf"):
        roc_of(delta, cosine, n_active, **NO_INTERVAL)
    with pytest.raises(StudyError, match="no such file"):
        load_roc(tmp_path / "missing.h5")
