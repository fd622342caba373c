from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import chi

from geminga.arrays import Float64, Int64
from geminga.classification.calibration import (
    Calibration,
    ambiguous,
    balanced_weights,
    checked_mix,
    fit_bias,
    fit_calibration,
    softmax,
)
from geminga.classification.unlike import fit_unlike, nearest_distance
from geminga.errors import InputError

MIX = np.array([0.7, 0.25, 0.05])
OFFSET = np.array([0.5, -0.3, -0.2])


def drawn(n: int, seed: int) -> tuple[Float64, Int64, Float64]:
    """Return balanced logits that are right, labels of the mix, and latitudes that say nothing."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, p=MIX, size=n)
    x = np.eye(3)[labels] * 1.5 + rng.normal(size=(n, 3))
    # ln N(x; 1.5 e_k, 1) = 1.5 x_k + what all classes have in common.
    return 1.5 * x, labels, rng.uniform(-90, 90, n)


def test_calibration_undoes_temperature_and_offset() -> None:
    logits, labels, lat = drawn(20000, 1)
    wrong = 2.5 * (logits + OFFSET)
    more, more_labels, more_lat = drawn(20000, 2)
    fit = fit_calibration(wrong, labels, 2.5 * (more + OFFSET), more_labels, more_lat)
    assert fit.temperature == pytest.approx(2.5, rel=0.04)
    assert fit.bias - fit.bias.mean() == pytest.approx(-OFFSET, abs=0.08)
    assert fit.natural == pytest.approx(MIX, abs=0.01)
    assert fit.probabilities(2.5 * (more + OFFSET), "natural") == pytest.approx(
        softmax(more + np.log(MIX)), abs=0.03
    )
    # Nothing to restore by latitude, so that it is the natural mix.
    assert fit.probabilities(wrong, "latitude", lat) == pytest.approx(
        fit.probabilities(wrong, "natural"), abs=0.06
    )


def test_probabilities_under_a_prior_are_right() -> None:
    logits, labels, lat = drawn(20000, 3)
    held, held_labels, _ = drawn(20000, 4)
    fit = fit_calibration(logits, labels, logits, labels, lat)
    p = fit.probabilities(held, "natural")
    assert p.sum(axis=1) == pytest.approx(1.0)
    assert p.mean(axis=0) == pytest.approx(np.bincount(held_labels) / 20000, abs=0.01)
    flat = fit.probabilities(held, "flat")
    weights = balanced_weights(held_labels, 3)
    assert weights @ flat == pytest.approx(np.full(3, 1 / 3), abs=0.02)
    assert fit.probabilities(held, np.full(3, 2.0)) == pytest.approx(flat)
    only = fit.probabilities(held, np.array([1.0, 0.0, 1.0]))
    assert not only[:, 1].any()


def test_latitude_restores_the_mix_of_a_band() -> None:
    logits, labels, lat = drawn(8000, 5)
    rng = np.random.default_rng(6)
    # The network does not know that class 2 is at |b| < 1 only.
    lat = np.where(labels == 2, rng.uniform(-1, 1, 8000), lat)
    fit = fit_calibration(logits, labels, logits, labels, lat)
    near = np.abs(lat) < 1
    p = fit.probabilities(logits, "latitude", lat)
    # Interpolated between bands, so that the edge of one is not a step.
    counted = np.bincount(labels[near]) / near.sum()
    assert p[near].mean(axis=0) == pytest.approx(counted, abs=0.08)
    assert p[near, 2].mean() > 3 * fit.probabilities(logits, "natural")[~near, 2].mean()
    assert p[np.abs(lat) > 30, 2].mean() < 0.01


def test_bias_meets_the_weighted_mix() -> None:
    logits, labels, _ = drawn(3000, 7)
    weights = np.random.default_rng(8).uniform(0.5, 1.5, 3000)
    bias = fit_bias(logits, labels, weights, 1e-9)
    mean = weights @ softmax(logits + bias)
    assert mean == pytest.approx(np.bincount(labels, weights), rel=1e-5)


def test_classes_without_samples_keep_their_bias() -> None:
    logits, labels, lat = drawn(500, 9)
    labels = np.where(labels == 2, 1, labels)
    fit = fit_calibration(logits, labels, logits, labels, lat)
    assert fit.bias[2] == 0
    assert fit.natural[2] > 0
    assert np.isfinite(fit.probabilities(logits, "latitude", lat)).all()


def test_temperature_of_overlapping_and_of_separate_classes_is_bounded() -> None:
    logits = 1e3 * np.eye(3)[[0, 1, 2]]
    fit = fit_calibration(logits, np.arange(3), logits, np.arange(3), np.zeros(3))
    assert np.isfinite(fit.probabilities(logits, "natural")).all()


@pytest.mark.parametrize("mix", [[1.0, 1.0], [1.0, -1.0, 1.0], [0.0, 0.0, 0.0], [np.nan, 1.0, 1.0]])
def test_bad_mixes(mix: list[float]) -> None:
    with pytest.raises(InputError, match=r"class prior.*give 3 parts"):
        checked_mix(np.array(mix), 3)


def test_bad_priors() -> None:
    zero = np.zeros(3)
    fit = Calibration(1.0, zero, np.full(3, 1 / 3), np.array([5.0]), np.zeros((1, 3)))
    with pytest.raises(InputError, match=r"'best' is not known here.*use natural, flat"):
        fit.probabilities(np.zeros((2, 3)), "best")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="latitudes"):
        fit.probabilities(np.zeros((2, 3)), "latitude")
    with pytest.raises(InputError, match="0 calibration and 2 training detections"):
        fit_calibration(np.zeros((0, 3)), np.zeros(0, np.int64), np.zeros((2, 3)),
                        np.zeros(2, np.int64), np.zeros(2))  # fmt: skip


def test_ambiguous() -> None:
    p = np.array([[0.6, 0.29, 0.11], [0.6, 0.31, 0.09], [0.5, 0.5, 0.0]])
    assert ambiguous(p, 0.5).tolist() == [False, True, True]
    assert ambiguous(np.ones((2, 1)), 0.5).tolist() == [False, False]
    assert ambiguous(np.zeros((0, 3)), 0.5).shape == (0,)


def test_distance_of_gaussian_classes() -> None:
    rng = np.random.default_rng(10)
    labels = rng.integers(2, size=40000)
    mixing = np.array([[1.0, 0.8], [0.0, 0.6]])
    features = rng.normal(size=(40000, 2)) @ mixing + 20.0 * labels[:, None]
    held = rng.normal(size=(20000, 2)) @ mixing
    reference = fit_unlike(features, labels, 2, held)
    # Far from the other class, the distance is that of a 2d normal; shrinkage takes little of it.
    far = nearest_distance(held, reference.means, reference.precision)
    assert np.median(far) == pytest.approx(chi(2).median(), rel=0.06)
    assert reference.score(held).mean() == pytest.approx(0.5, abs=0.01)
    # Between the classes, and off the axis along which they scatter.
    assert reference.score(np.array([[10.0, 10.0], [4.0, -4.0]])).tolist() == [1.0, 1.0]


def test_class_without_members_is_no_class() -> None:
    features = np.random.default_rng(11).normal(size=(100, 3))
    reference = fit_unlike(features, np.zeros(100, np.int64), 3, features)
    assert np.isnan(reference.means[1:]).all()
    assert np.isfinite(reference.score(features)).all()
