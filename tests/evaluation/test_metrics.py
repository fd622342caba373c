from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from geminga.evaluation.counts import count_matches, empty_counts
from geminga.evaluation.metrics import (
    Offsets,
    PixelCounts,
    completeness_at_purity,
    count_pixels,
    empty_offsets,
    localisation_error,
    position_offsets,
    score_curve,
)
from geminga.geometry import separation_deg, unit_vectors
from geminga.matching import match
from geminga.sections import EvaluationConfig

SETTINGS = EvaluationConfig()


def table(lon: object, lat: object, **more: object) -> pd.DataFrame:
    return pd.DataFrame({"lon_deg": lon, "lat_deg": lat, **more}, dtype=float)


def test_adjusted_accuracy_is_the_thesis_formula() -> None:
    rng = np.random.default_rng(1)
    target = (rng.random((3, 64, 64)) < 0.1).astype(np.uint8)
    output = np.clip(target * 0.6 + rng.random(target.shape) * 0.5, 0, 1).astype(np.float32)
    counts = count_pixels(output, target)
    accuracy = np.mean((output >= 0.5) == (target > 0))
    empty = np.mean(target == 0)
    assert counts.accuracy() == pytest.approx(accuracy)
    assert counts.empty_accuracy() == pytest.approx(empty)
    assert counts.adjusted_accuracy() == pytest.approx((accuracy - empty) / (1 - empty))
    assert counts.pixels == target.size


def test_adjusted_accuracy_ends() -> None:
    target = np.zeros((4, 4), dtype=np.uint8)
    target[1, 1] = 1
    assert count_pixels(target.astype(np.float32), target).adjusted_accuracy() == 1.0
    assert count_pixels(np.zeros((4, 4), np.float32), target).adjusted_accuracy() == 0.0
    assert count_pixels(np.ones((4, 4), np.float32), target).adjusted_accuracy() == 1.0 - 15.0
    assert math.isnan(PixelCounts().adjusted_accuracy())
    assert math.isnan(PixelCounts().accuracy())


def test_pixel_counts_merge() -> None:
    rng = np.random.default_rng(2)
    target = (rng.random((4, 8, 8)) < 0.3).astype(np.uint8)
    output = rng.random((4, 8, 8), dtype=np.float32)
    parts = count_pixels(output[:1], target[:1]) + count_pixels(output[1:], target[1:])
    assert parts == count_pixels(output, target)


def test_pixels_of_other_shape() -> None:
    with pytest.raises(ValueError, match="differ"):
        count_pixels(np.zeros((2, 4), np.float32), np.zeros((4, 4), np.uint8))


@given(st.floats(0, 360), st.floats(-90, 90), st.floats(0, 0.29), st.floats(0, 2 * math.pi))
def test_offsets_have_the_length_of_the_separation(
    lon: float, lat: float, distance: float, angle: float
) -> None:
    found_lat = max(-90.0, min(90.0, lat + distance * math.sin(angle)))
    truth, found = table([lon], [lat], s1=[1]), table([lon], [found_lat])
    offsets = position_offsets(found, truth, match(found, truth, 0.3))
    exact = separation_deg(
        unit_vectors(np.array([lon]), np.array([lat])),
        unit_vectors(np.array([lon]), np.array([found_lat])),
    )
    np.testing.assert_allclose(offsets.separation_deg, exact, atol=1e-9)
    np.testing.assert_allclose(offsets.north_deg, found_lat - lat, atol=1e-9)


def test_offset_to_the_east_is_on_the_sky() -> None:
    truth, found = table([359.99], [60.0], s1=[1]), table([0.19], [60.0])
    offsets = position_offsets(found, truth, match(found, truth, 0.3))
    assert offsets.east_deg[0] == pytest.approx(0.1, rel=1e-4)
    assert offsets.north_deg[0] == pytest.approx(0.0, abs=2e-4)


def test_localisation_error_of_a_shifted_gaussian() -> None:
    rng = np.random.default_rng(3)
    sigma, n = 0.05, 40_000
    offsets = Offsets(rng.normal(0.0, sigma, n), rng.normal(0.0, sigma, n))
    error = localisation_error(offsets)
    assert error.median_deg == pytest.approx(sigma * math.sqrt(2 * math.log(2)), rel=0.02)
    assert error.radius68_deg == pytest.approx(sigma * 1.5096, rel=0.02)
    assert error.bias_error_deg == pytest.approx(sigma / math.sqrt(n), rel=0.02)
    shifted = localisation_error(Offsets(offsets.east_deg + 0.071, offsets.north_deg - 0.069))
    assert shifted.bias_east_deg == pytest.approx(0.071, abs=5 * error.bias_error_deg)
    assert shifted.bias_north_deg == pytest.approx(-0.069, abs=5 * error.bias_error_deg)


def test_localisation_error_does_not_depend_on_the_order() -> None:
    rng = np.random.default_rng(4)
    a, b = (Offsets(rng.normal(size=50), rng.normal(size=50)) for _ in range(2))
    assert localisation_error(a + b) == localisation_error(b + a)


def test_no_pair() -> None:
    error = localisation_error(empty_offsets())
    assert error.n == 0
    assert math.isnan(error.median_deg)
    one = localisation_error(Offsets(np.array([0.1]), np.array([0.0])))
    assert one.median_deg == pytest.approx(0.1)
    assert math.isnan(one.bias_error_deg)


@pytest.fixture
def ranked() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Ten sources; true detections of six with scores 65 to 40, false ones at 52, 42, 41, 30."""
    truth = table(np.arange(10) * 10.0, np.zeros(10), s1=np.ones(10) * 1e-9)
    lon = [0, 10, 20, 30, 40, 50, 205, 215, 225, 235]
    score = [65, 60, 55, 50, 45, 40, 52, 42, 41, 30]
    return table(lon, np.zeros(10), score=score), truth


def test_curve_and_working_points(ranked: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    found, truth = ranked
    counts = count_matches(found, truth, match(found, truth, 0.3), SETTINGS)
    curve = score_curve(counts)
    np.testing.assert_allclose(
        curve.completeness[::-1], [0.1, 0.2, 0.3, 0.3, 0.4, 0.5, 0.5, 0.5, 0.6, 0.6]
    )
    np.testing.assert_allclose(curve.purity[0], 0.6)
    np.testing.assert_allclose(curve.purity[-1], 1.0)
    point = completeness_at_purity(counts, 0.8)
    assert (point.completeness, point.purity) == (0.5, 5 / 6)
    # The cut found on the histogram keeps exactly the detections it was counted on.
    assert (found["score"] >= point.score).sum() == 6
    assert completeness_at_purity(counts, 0.9).completeness == 0.3
    assert completeness_at_purity(counts, 0.0).score <= 30


def test_real_cut_reproduces_the_curve() -> None:
    rng = np.random.default_rng(5)
    truth = table(rng.uniform(0, 360, 300), rng.uniform(-60, 60, 300), s1=rng.random(300))
    found = table(
        np.r_[truth["lon_deg"][:200], rng.uniform(0, 360, 100)],
        np.r_[truth["lat_deg"][:200], rng.uniform(-60, 60, 100)],
        score=np.r_[rng.uniform(35, 69, 200), rng.uniform(30, 50, 100)],
    )
    counts = count_matches(found, truth, match(found, truth, 0.3), SETTINGS)
    point = completeness_at_purity(counts, 0.9)
    kept = found[found["score"] >= point.score]
    after = count_matches(kept, truth, match(kept, truth, 0.3), SETTINGS).rates()
    assert after.purity.value[0] == pytest.approx(point.purity, abs=0.01)
    assert after.purity.value[0] >= 0.9
    assert after.completeness.value[0] == pytest.approx(point.completeness, abs=0.01)


def test_purity_never_reached(ranked: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    found, truth = ranked
    false = found.iloc[6:]
    point = completeness_at_purity(
        count_matches(false, truth, match(false, truth, 0.3), SETTINGS), 0.5
    )
    assert (point.score, point.completeness) == (math.inf, 0.0)
    assert math.isnan(completeness_at_purity(empty_counts(SETTINGS), 0.5).completeness)


def test_wider_list_decides_purity(ranked: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    found, truth = ranked
    wide_truth = pd.concat([truth, table([205, 215], [0, 0], s1=[1e-9, 1e-9])], ignore_index=True)
    counts = count_matches(found, truth, match(found, truth, 0.3), SETTINGS)
    wide = count_matches(found, wide_truth, match(found, wide_truth, 0.3), SETTINGS)
    point = completeness_at_purity(counts, 0.9, purity_counts=wide)
    assert point.completeness == 0.5
    assert point.purity == 1.0


def test_latitude_is_chosen(ranked: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    found, truth = ranked
    counts = count_matches(found, truth, match(found, truth, 0.3), SETTINGS)
    assert len(score_curve(counts, "high").score) == 0
    assert score_curve(counts, "low").completeness[0] == 0.6
    assert math.isnan(completeness_at_purity(counts, 0.8, "high").completeness)
    with pytest.raises(ValueError, match="'middle'"):
        score_curve(counts, "middle")
