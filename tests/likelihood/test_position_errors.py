from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from geminga.config import Config
from geminga.likelihood.position_errors import (
    COVARIANCE,
    LEAST_TS,
    SCALE_68,
    SCALE_95,
    TAIL,
    calibrated_positions,
    position_scale,
)
from geminga.pipeline.likelihood import candidates_of
from geminga.tables import CANDIDATES, patch_sources


def fitted(ts: list[float], channels: int = 1) -> pd.DataFrame:
    n = len(ts)
    table = patch_sources(channels)
    values = {name: np.zeros(n) for name in table.names}
    values |= {
        "ts": np.array(ts),
        "lon_deg": np.linspace(10, 350, n),
        "cov_east_deg2": np.full(n, 4e-4),
        "cov_cross_deg2": np.full(n, 1e-4),
        "cov_north_deg2": np.full(n, 2e-4),
    }
    return table.frame(values)


def test_strong_sources_keep_the_errors_of_their_fit() -> None:
    for scale in (SCALE_68, SCALE_95):
        factor = position_scale(np.array([1e9, 1e3, 100.0, 25.0, 9.0, LEAST_TS, 0.0]), scale)
        assert factor[0] == pytest.approx(1.0, abs=1e-4)
        assert factor[1] < 1.02
        assert np.all(np.diff(factor[:-1]) > 0)
        assert factor[-1] == factor[-2]
        assert np.isfinite(factor).all()


def test_factor_is_the_root_of_two_at_its_strength() -> None:
    assert position_scale(np.array([20.4]), (20.4, 0.9))[0] == pytest.approx(np.sqrt(2.0))


def test_ellipses_keep_their_shape_and_tails_are_wider() -> None:
    before = fitted([10.0, 30.0, 1e4])
    after = calibrated_positions(before)
    ratio = after[list(COVARIANCE)].to_numpy() / before[list(COVARIANCE)].to_numpy()
    np.testing.assert_allclose(ratio, ratio[:, :1] * np.ones(3))
    np.testing.assert_allclose(ratio[:, 0], position_scale(before["ts"].to_numpy(), SCALE_68) ** 2)
    np.testing.assert_allclose(
        after[TAIL] * np.sqrt(ratio[:, 0]), position_scale(before["ts"].to_numpy(), SCALE_95)
    )
    assert before["cov_east_deg2"].iloc[0] == 4e-4


@pytest.mark.parametrize("ts", [9.0, 25.0, 100.0])
def test_regions_of_a_scaled_gaussian_with_tails_hold_what_they_say(ts: float) -> None:
    """True offsets that are wider by the two factors at 68 and at 95 %, as measured."""
    rng = np.random.default_rng(4)
    core, far = (float(position_scale(np.array(ts), scale)) for scale in (SCALE_68, SCALE_95))
    part = rng.random(200_000)
    radius = np.sqrt(-2.0 * np.log1p(-part)) * np.where(part < 0.8, core, far)
    table = calibrated_positions(fitted([ts]))
    sigma = np.sqrt(table["cov_east_deg2"].iloc[0] / 4e-4)
    assert np.mean(radius < sigma * 1.5152) == pytest.approx(0.6827, abs=0.005)
    assert np.mean(radius < sigma * table[TAIL].iloc[0] * 2.4477) == pytest.approx(0.95, abs=0.005)


def test_candidates_carry_calibrated_errors(config2: Config) -> None:
    sources = fitted([10.0, 1e6], len(config2.channels))
    found = candidates_of(sources, config2, 7)
    assert set(CANDIDATES.names) < set(found.columns)
    assert {*COVARIANCE, TAIL, "s1", "goodness"} < set(found.columns)
    assert found["position_error_deg"].iloc[1] == pytest.approx(np.sqrt(3e-4), rel=1e-3)
    assert found["position_error_deg"].iloc[0] > 1.2 * np.sqrt(3e-4)
    variance = 0.5 * (found["cov_east_deg2"] + found["cov_north_deg2"])
    np.testing.assert_allclose(found["position_error_deg"] ** 2, variance)
    none = candidates_of(sources.iloc[:0], config2, 7)
    assert list(none.columns) == list(found.columns)
    assert len(none) == 0
