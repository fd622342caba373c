"""Counts against expected counts: known skies, and what chance alone does."""

from __future__ import annotations

import healpy
import numpy as np
import pytest

from geminga.evaluation import sky_comparison as sc

NSIDE = 16
NPIX = healpy.nside2npix(NSIDE)


@pytest.fixture(scope="module")
def model() -> np.ndarray:
    """A sky from a hundredth of a count a pixel to a hundred."""
    lat = healpy.pix2ang(NSIDE, np.arange(NPIX), lonlat=True)[1]
    return 0.01 + 100.0 * np.exp(-np.abs(lat) / 6.0)


@pytest.mark.parametrize("m", [1e-6, 1e-3, 0.1, 1.0, 7.3, 200.0])
def test_moments_of_the_deviance_are_those_of_drawn_counts(m: float) -> None:
    mean, variance = sc.deviance_moments(np.array([m]))
    n = np.arange(2000.0)
    log_chance = n * np.log(m) - m - np.cumsum(np.log(np.maximum(n, 1.0)))
    chance = np.exp(log_chance)
    value = sc.deviance(n, np.full_like(n, m))
    assert mean[0] == pytest.approx(chance @ value, rel=0.01)
    assert variance[0] == pytest.approx(chance @ (value - chance @ value) ** 2, rel=0.02)


def test_many_counts_have_a_deviance_of_one() -> None:
    mean, variance = sc.deviance_moments(np.array([1e5]))
    assert mean[0] == pytest.approx(1.0, abs=1e-3)
    assert variance[0] == pytest.approx(2.0, abs=1e-2)


def test_goodness_is_one_by_chance_and_finds_a_tenth_too_much(model: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    good = sc.goodness(rng.poisson(model).astype(float), model)
    assert good.deviance == pytest.approx(1.0, abs=0.1)
    assert abs(good.deviance_sigma) < 4
    assert good.pearson == pytest.approx(1.0, abs=5 * np.sqrt(2 / good.cells))
    bad = sc.goodness(rng.poisson(1.3 * model).astype(float), model)
    assert bad.deviance_sigma > 10
    assert bad.pearson > 2


def test_cells_cover_the_sky_once_and_expect_enough(model: np.ndarray) -> None:
    cell = sc.cells(model, 20.0)
    wanted = np.bincount(cell, model)
    pixels = np.bincount(cell)
    assert wanted.sum() == pytest.approx(model.sum())
    assert pixels.sum() == NPIX
    assert set(np.unique(pixels)) <= {4**k for k in range(5)}
    # Only undivided base pixels may expect less.
    assert np.all((wanted >= 20.0) | (pixels == NSIDE**2))
    assert pixels.min() == 1


def test_cells_of_an_empty_sky_are_base_pixels() -> None:
    assert np.bincount(sc.cells(np.zeros(NPIX), 1.0)).tolist() == [NSIDE**2] * 12


def test_residuals_in_sigma() -> None:
    sigma = sc.residual_sigma(np.array([4.0, 13.0, 0.0]), np.array([9.0, 9.0, 0.0]))
    np.testing.assert_allclose(sigma, [-5 / 3, 4 / 3, 0.0])


def test_smoothed_residuals_have_unit_variance() -> None:
    rng = np.random.default_rng(2)
    lat = healpy.pix2ang(64, np.arange(healpy.nside2npix(64)), lonlat=True)[1]
    flat = 10.0 + 30.0 * np.exp(-np.abs(lat) / 20.0)
    sigma = sc.smoothed_sigma(rng.poisson(flat).astype(float), flat, 2.0)
    assert sigma.std() == pytest.approx(1.0, abs=0.05)
    assert abs(sigma.mean()) < 0.05


def test_profiles_keep_the_counts_of_every_component() -> None:
    lon, lat = healpy.pix2ang(NSIDE, np.arange(NPIX), lonlat=True)
    counts = np.arange(NPIX, dtype=float)
    found = sc.profile(lat, np.linspace(-90, 90, 19), counts, {"a": counts, "b": 2 * counts})
    assert found.counts.sum() == counts.sum()
    np.testing.assert_allclose(found.total, 3 * found.counts)
    assert sc.profile(lon, np.array([0.0, 10.0]), counts, {"a": counts}).counts[0] < counts.sum()


def test_regions_are_where_they_should_be() -> None:
    lon = np.array([0.0, 359.0, 120.0, 5.0, 330.0, 90.0])
    lat = np.array([0.0, -30.0, 3.0, 45.0, 60.0, -80.0])
    masks = sc.region_masks(lon, lat)
    assert [name for name, _ in sc.REGIONS] == list(masks)
    assert masks["plane"].tolist() == [True, False, True, False, False, False]
    assert masks["inner Galaxy"].tolist() == [True, False, False, False, False, False]
    assert masks["Fermi bubbles"].tolist() == [False, True, False, True, False, False]
    assert masks["high latitudes"].tolist() == [False, False, False, False, True, True]
    assert not np.any(masks["Fermi bubbles"] & masks["Loop I, north"])
