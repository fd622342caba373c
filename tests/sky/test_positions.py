from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import kstest

from geminga.sky.law import LatitudeGaussian, Position
from geminga.sky.positions import (
    ISOTROPIC,
    THESIS_LATITUDE,
    draw_positions,
    fit_gaussians,
    fit_position,
    latitude_cdf,
    weights,
)


def draw(position: Position, n: int = 20_000, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    return draw_positions(np.random.default_rng(seed), position, n)


@pytest.mark.parametrize("position", [ISOTROPIC, THESIS_LATITUDE])
def test_draws_follow_the_law(position: Position) -> None:
    lon, lat = draw(position)
    assert kstest(lon / 360, "uniform").pvalue > 1e-3
    assert kstest(lat, lambda b: latitude_cdf(position, b)).pvalue > 1e-3
    assert lon.min() >= 0
    assert lon.max() < 360
    assert np.abs(lat).max() <= 90


def test_the_reference_amplitudes_are_densities_that_add_up_to_one() -> None:
    area = [g.amplitude * g.sigma_deg * np.sqrt(2 * np.pi) for g in THESIS_LATITUDE.gaussians]
    assert sum(area) == pytest.approx(0.96, abs=0.01)
    share, _ = weights(THESIS_LATITUDE)
    assert share == pytest.approx([0.399, 0.601], abs=0.001)


def test_wide_gaussians_stay_on_the_sphere() -> None:
    wide = Position(law="latitude", gaussians=(LatitudeGaussian(amplitude=1, sigma_deg=80),))
    _, lat = draw(wide)
    assert np.abs(lat).max() <= 90
    assert np.abs(lat).max() > 85


def test_fit_recovers_gaussians() -> None:
    _, lat = draw(THESIS_LATITUDE, 50_000)
    share, sigma = weights(fit_gaussians(lat))
    assert sigma == pytest.approx([1.39, 19.2], rel=0.04)
    assert share == pytest.approx([0.399, 0.601], abs=0.02)


def test_fit_chooses_the_law() -> None:
    assert fit_position(draw(ISOTROPIC, 1000)[1]) == ISOTROPIC
    assert fit_position(draw(THESIS_LATITUDE, 300)[1]) == THESIS_LATITUDE
    narrow = Position(law="latitude", gaussians=(LatitudeGaussian(amplitude=1, sigma_deg=0.5),))
    fitted = fit_position(draw(narrow, 300)[1])
    assert fitted != THESIS_LATITUDE
    assert weights(fitted)[1].max() < 2


def test_no_sources() -> None:
    lon, lat = draw(THESIS_LATITUDE, 0)
    assert lon.shape == lat.shape == (0,)


def test_a_law_without_its_gaussians_is_refused() -> None:
    with pytest.raises(ValidationError, match="needs gaussians"):
        Position(law="latitude")
    with pytest.raises(ValidationError, match="needs gaussians"):
        Position(law="isotropic", gaussians=THESIS_LATITUDE.gaussians)
