from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from geminga.evaluation.bootstrap import make_units
from geminga.evaluation.calibration import score_calibration
from geminga.evaluation.positions import (
    COVARIANCE,
    matched_pairs,
    position_bins,
    position_calibration,
)

UNITS = make_units(1, 50, 0)


def detections(claim: np.ndarray, true: np.ndarray, column: str = "score") -> pd.DataFrame:
    lon = np.linspace(0, 359, len(claim))
    return pd.DataFrame({"sky": 0, "lon_deg": lon, "lat_deg": 0.0, column: claim, "is_true": true})


def test_reliability_by_hand() -> None:
    # Claims 0.25 (one of four true: right) and 0.95 (one of two true: 0.45 too sure).
    frame = detections(np.array([0.25] * 4 + [0.95] * 2), np.array([1, 0, 0, 0, 1, 0], dtype=bool))
    got = score_calibration(frame, UNITS)
    assert got is not None
    assert (got.column, got.n) == ("score", (4, 2))
    assert got.low == pytest.approx((0.2, 0.9))
    assert got.mean == pytest.approx((0.25, 0.95))
    assert got.purity == pytest.approx((0.25, 0.5))
    assert got.expected_error.value == pytest.approx(0.45 * 2 / 6)
    assert got.largest_error.value == pytest.approx(0.45)
    brier = (0.75**2 + 3 * 0.25**2 + 0.05**2 + 0.95**2) / 6
    assert got.brier.value == pytest.approx(brier)


def test_a_calibrated_list_has_a_small_error_and_its_size_is_known() -> None:
    rng = np.random.default_rng(0)
    claim = rng.uniform(size=20000)
    got = score_calibration(detections(claim, rng.uniform(size=20000) < claim), UNITS)
    assert got is not None
    assert got.expected_error.value < 0.015
    assert got.brier.value == pytest.approx(1 / 6, abs=0.005)
    assert max(got.purity_error) < 0.02


def test_a_score_that_is_no_probability_is_not_judged() -> None:
    true = np.array([True, False])
    assert score_calibration(detections(np.array([3.0, 0.5]), true), UNITS) is None
    assert score_calibration(detections(np.zeros(0), np.zeros(0, dtype=bool)), UNITS) is None
    both = detections(np.array([3.0, 50.0]), true).assign(probability=[1.0, 0.0])
    got = score_calibration(both, UNITS)
    assert got is not None
    assert (got.column, got.expected_error.value) == ("probability", 0.0)


def scattered(sigma_east: float, sigma_north: float, n: int = 4000) -> tuple[pd.DataFrame, ...]:
    """Sources on a grid at |b| up to 75 deg, each found off by a Gaussian."""
    rng = np.random.default_rng(5)
    lon, lat = rng.uniform(0, 360, n), np.linspace(-75, 75, n)
    east, north = rng.normal(0.002, sigma_east, n), rng.normal(0, sigma_north, n)
    truth = pd.DataFrame(
        {"lon_deg": lon, "lat_deg": lat, "s1": np.where(np.arange(n) % 4, 1e-10, 1e-9)}
    )
    found = pd.DataFrame(
        {
            "lon_deg": (lon + east / np.cos(np.radians(lat))) % 360,
            "lat_deg": lat + north,
            "score": 1.0,
        }
    )
    return found, truth


def test_claimed_circles_that_are_right() -> None:
    found, truth = scattered(0.02, 0.02)
    pairs = matched_pairs([found.assign(position_error_deg=0.02)], [truth], 0.5, 0.3)
    assert len(pairs) == 4000
    got = position_calibration(pairs, UNITS)
    assert (got.n, got.without_error) == (4000, 0)
    assert got.inside_68.value == pytest.approx(0.68, abs=0.025)
    assert got.inside_95.value == pytest.approx(0.95, abs=0.012)
    assert got.pull_rms.value == pytest.approx(1.0, abs=0.03)
    assert got.pull_width.value == pytest.approx(1.0, abs=0.04)
    assert got.inside_68.error == pytest.approx(math.sqrt(0.68 * 0.32 / 4000), rel=0.4)
    # Too small a claim shows.
    half = matched_pairs([found.assign(position_error_deg=0.01)], [truth], 0.5, 0.3)
    assert position_calibration(half, UNITS).pull_rms.value == pytest.approx(2.0, abs=0.06)

    whole, bright = position_bins(pairs, UNITS, [(0.0, math.inf), (5e-10, math.inf)])
    assert (whole.n, bright.n) == (4000, 1000)
    # Rayleigh: sigma sqrt(-2 ln(1 - p)).
    for estimate, p in (
        (whole.median_deg, 0.5),
        (whole.radius68_deg, 0.68),
        (whole.radius95_deg, 0.95),
    ):
        assert estimate.value == pytest.approx(0.02 * math.sqrt(-2 * math.log(1 - p)), rel=0.04)
    assert whole.bias_east_deg.value == pytest.approx(0.002, abs=0.001)
    assert whole.bias_east_deg.error == pytest.approx(0.02 / math.sqrt(4000), rel=0.4)
    assert abs(whole.bias_north_deg.value) < 0.001


def test_claimed_ellipses_that_are_right() -> None:
    found, truth = scattered(0.05, 0.01)
    ellipse = dict(zip(COVARIANCE, (0.05**2, 0.0, 0.01**2), strict=True))
    got = position_calibration(matched_pairs([found.assign(**ellipse)], [truth], 0, 0.3), UNITS)
    assert got.inside_68.value == pytest.approx(0.68, abs=0.025)
    assert got.inside_95.value == pytest.approx(0.95, abs=0.012)
    assert got.pull_rms.value == pytest.approx(1.0, abs=0.03)
    # Turned by a right angle it is wrong.
    turned = dict(zip(COVARIANCE, (0.01**2, 0.0, 0.05**2), strict=True))
    wrong = position_calibration(matched_pairs([found.assign(**turned)], [truth], 0, 0.3), UNITS)
    assert wrong.inside_68.value < 0.4


def test_a_list_is_held_to_its_own_region_of_95_percent() -> None:
    found, truth = scattered(0.02, 0.02)
    tails = found.assign(position_error_deg=0.02, position_tail=0.7)
    tails.loc[0, "position_tail"] = np.nan
    pairs = matched_pairs([tails], [truth], 0.0, 0.3)
    assert pairs["tail"].isin([0.7, 1.0]).all()
    assert (pairs["tail"] == 1.0).sum() == 1
    got = position_calibration(pairs, UNITS)
    assert got.inside_68.value == pytest.approx(0.68, abs=0.025)
    # 0.7 of the radius: 1 - 0.05^(0.7^2).
    assert got.inside_95.value == pytest.approx(1.0 - 0.05**0.49, abs=0.025)


def test_errors_that_are_not_known_are_counted_apart() -> None:
    found, truth = scattered(0.02, 0.02, 10)
    error = np.where(np.arange(10) < 4, np.nan, 0.02)
    error[4] = 0.0
    pairs = matched_pairs([found.assign(position_error_deg=error)], [truth], 0.5, 0.3)
    got = position_calibration(pairs, UNITS)
    assert (got.n, got.without_error) == (5, 5)
    nothing = position_calibration(matched_pairs([found], [truth], 2.0, 0.3), UNITS)
    assert (nothing.n, nothing.without_error) == (0, 0)
    assert math.isnan(nothing.inside_68.value)
