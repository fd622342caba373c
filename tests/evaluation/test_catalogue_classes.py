from __future__ import annotations

import numpy as np
import pytest

from geminga.evaluation.catalogue_class_figures import (
    class_sky,
    reliability_figure,
    roc_figure,
    score_histogram,
)
from geminga.evaluation.catalogue_classes import (
    CONTRASTS,
    area_under_curve,
    confusion,
    contrast,
    contrasts_of,
    group_score,
    reliability,
    roc_curve,
    shift_weights,
)

CLASSES = ("BLL", "FSRQ", "PSR", "PWN+SNR")


def test_area_under_curve_by_hand() -> None:
    score, positive = np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, True, False, True])
    ones = np.ones(4)
    # Of four pairs three are in order and one is a tie.
    assert area_under_curve(score, positive, ones) == pytest.approx(3.5 / 4)
    weights = np.array([1.0, 2.0, 3.0, 1.0])
    assert area_under_curve(score, positive, weights) == pytest.approx((2 + 4 + 3) / 12)
    false, true = roc_curve(score, positive)
    np.testing.assert_allclose(false, [0, 0, 0.5, 1])
    np.testing.assert_allclose(true, [0, 0.5, 1, 1])
    assert np.trapezoid(true, false) == pytest.approx(3.5 / 4)


def test_groups_weigh_alike() -> None:
    flat = np.array([[0.2, 0.2, 0.6, 0.0], [0.0, 0.0, 0.0, 1.0]])
    score = group_score(flat, CLASSES, CONTRASTS[1])
    np.testing.assert_allclose(score, [0.75, 0.0])
    assert contrasts_of(("A", "B"))[0] == ("A against the others", ("A",), ("B",))
    assert contrasts_of(("A",)) == ()
    assert contrasts_of(("BLL", "FSRQ", "PSR")) == CONTRASTS[:2]


def test_a_contrast_and_its_errors() -> None:
    rng = np.random.default_rng(2)
    truth = ["BLL"] * 300 + ["FSRQ"] * 200 + [""] * 50
    x = rng.standard_normal(550) + np.r_[np.ones(300), -np.ones(250)]
    p = 1.0 / (1.0 + np.exp(-2.0 * x))
    flat = np.stack([p, 1 - p, 0 * p, 0 * p], axis=1)
    found = contrast(CONTRASTS[0], CLASSES, flat, truth, seed=1)
    assert found is not None
    assert (found.positive, found.negative) == (300, 200)
    # Normal scores two apart: area Phi(sqrt 2), balanced accuracy Phi(1).
    assert found.auc.value == pytest.approx(0.921, abs=3 * found.auc.error)
    assert found.balanced_accuracy.value == pytest.approx(0.841, abs=0.05)
    assert 0.005 < found.auc.error < 0.03
    assert found.effective == pytest.approx(500)
    assert contrast(CONTRASTS[0], CLASSES, flat, ["BLL"] * 550, seed=1) is None


def test_weights_give_the_other_distribution() -> None:
    rng = np.random.default_rng(3)
    have = np.stack([rng.uniform(-10, -8, 20000), rng.uniform(0, 90, 20000)], axis=1)
    want = np.stack([rng.uniform(-10, -9, 5000), rng.uniform(0, 30, 5000)], axis=1)
    weights, covered = shift_weights(have, want)
    assert covered == pytest.approx(1.0)
    mean = np.average(have, axis=0, weights=weights)
    # Bins at the ends are open: nothing is pulled further than a bin.
    assert abs(mean[0] - -9.5) < 0.15
    assert mean[1] < 30
    far = np.stack([np.full(10, -5.0), np.full(10, 80.0)], axis=1)
    assert shift_weights(far, want)[1] < 0.1
    assert shift_weights(far, np.full((2, 2), np.nan))[1] == 0.0


def test_reliability_of_honest_and_of_sure_probabilities() -> None:
    rng = np.random.default_rng(4)
    p = rng.uniform(0.5, 1.0, 20000)
    right = rng.uniform(size=20000) < p
    both = np.stack([p, 1 - p, 0 * p, 0 * p], axis=1)
    truth = np.where(right, "BLL", "FSRQ")
    honest = reliability(both, CLASSES, list(truth), seed=1, resamples=20)
    assert honest is not None
    assert honest.error.value < 0.02
    sure = reliability(np.round(both), CLASSES, list(truth), seed=1, resamples=20)
    assert sure is not None
    assert sure.error.value == pytest.approx(0.25, abs=0.02)
    assert sure.brier["BLL"] == pytest.approx(0.25, abs=0.02)
    assert reliability(both, CLASSES, [""] * 20000, seed=1) is None
    np.testing.assert_array_equal(
        confusion(both[:3], CLASSES, ["BLL", "FSRQ", "FSRQ"])[:2, 0], [1, 2]
    )


def test_figures_of_some_and_of_none() -> None:
    rng = np.random.default_rng(5)
    truth = ["BLL"] * 30 + ["FSRQ"] * 30
    p = np.r_[rng.uniform(0.3, 1, 30), rng.uniform(0, 0.7, 30)]
    flat = np.stack([p, 1 - p, 0 * p, 0 * p], axis=1)
    found = contrast(CONTRASTS[0], CLASSES, flat, truth, seed=1, resamples=5)
    reliable = reliability(flat, CLASSES, truth, seed=1, resamples=5)
    assert found is not None
    assert reliable is not None
    figures = [
        roc_figure(CONTRASTS[:1], CLASSES, flat, truth, {found.title: found}),
        roc_figure((), CLASSES, flat, truth, {}),
        score_histogram({"a": p, "none": p[:0]}, "score", "title"),
        score_histogram({}, "score", "title"),
        reliability_figure({"natural": reliable}),
        reliability_figure({}),
    ]
    for n in (60, 0):
        lon, lat = rng.uniform(0, 360, n), rng.uniform(-90, 90, n)
        figures.append(class_sky(lon, lat, truth[:n], p[:n], CLASSES, p[:n] > 0.95, "title"))
    for figure in figures:
        figure.canvas.draw()
