from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import kstest

from geminga.sky.populations.law import DiskComponent, LatitudeGaussian, Position
from geminga.sky.populations.positions import (
    ISOTROPIC,
    THESIS_LATITUDE,
    draw_positions,
    fit_disk,
    fit_position,
    latitude_cdf,
    longitude_cdf,
    published_position,
    weights,
)

DISK = Position(
    law="disk",
    components=(
        DiskComponent(weight=0.4, lat_deg=-0.2, sigma_deg=0.6, lon_deg=350.0, kappa=2.0),
        DiskComponent(weight=0.6, lat_deg=2.0, sigma_deg=15.0, lon_deg=40.0, kappa=0.5),
    ),
)


def draw(position: Position, n: int = 20_000, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    return draw_positions(np.random.default_rng(seed), position, n)


@pytest.mark.parametrize("position", [ISOTROPIC, THESIS_LATITUDE, DISK])
def test_draws_follow_the_law(position: Position) -> None:
    lon, lat = draw(position)
    assert kstest(lon, lambda x: longitude_cdf(position, x)).pvalue > 1e-3
    assert longitude_cdf(position, np.array([0.0, 360.0])) == pytest.approx([0, 1], abs=1e-9)
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


def test_fit_recovers_the_disk() -> None:
    fitted, _ = fit_disk(*draw(DISK, 20_000), 2)
    for part, true in zip(fitted.components, DISK.components, strict=True):
        assert part.weight == pytest.approx(true.weight, abs=0.02)
        assert part.lat_deg == pytest.approx(true.lat_deg, abs=0.06 * true.sigma_deg)
        assert part.sigma_deg == pytest.approx(true.sigma_deg, rel=0.04)
        assert (part.lon_deg - true.lon_deg + 180) % 360 - 180 == pytest.approx(0, abs=5)
        assert part.kappa == pytest.approx(true.kappa, rel=0.1)


def test_longitude_and_latitude_depend_on_each_other() -> None:
    lon, lat = draw(DISK)
    inner = np.cos(np.radians(lon)) > 0.5
    assert np.mean(np.abs(lat[inner]) < 2) > 1.5 * np.mean(np.abs(lat[~inner]) < 2)


def test_fit_chooses_the_law() -> None:
    assert fit_position(*draw(ISOTROPIC, 1000)) == ISOTROPIC
    fitted = fit_position(*draw(DISK, 600))
    assert len(fitted.components) == 2
    lon, lat = draw(THESIS_LATITUDE, 2000)
    fitted = fit_position(lon, lat)
    assert kstest(lat, lambda b: latitude_cdf(fitted, b)).statistic < 0.03
    assert max(c.kappa for c in fitted.components) < 0.3


def test_no_component_stands_on_a_few_sources() -> None:
    lon, lat = draw(DISK, 60)
    lon[:5], lat[:5] = 100.0, 60.0
    fitted = fit_position(lon, lat)
    assert weights(fitted)[0].min() * 60 >= 10


def test_published_laws() -> None:
    assert published_position(ISOTROPIC) == ISOTROPIC
    assert published_position(DISK) == THESIS_LATITUDE


def test_no_sources() -> None:
    lon, lat = draw(THESIS_LATITUDE, 0)
    assert lon.shape == lat.shape == (0,)


def test_a_law_without_its_gaussians_is_refused() -> None:
    with pytest.raises(ValidationError, match="needs gaussians"):
        Position(law="latitude")
    with pytest.raises(ValidationError, match="needs gaussians"):
        Position(law="isotropic", gaussians=THESIS_LATITUDE.gaussians)
    with pytest.raises(ValidationError, match="needs components"):
        Position(law="disk")
    half = DISK.components[0]
    with pytest.raises(ValidationError, match="add up to 1"):
        Position(law="disk", components=(half,))
