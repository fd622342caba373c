"""Built-in response: normalisation, averaging, harmonics, exposure; needs no LAT files."""

from __future__ import annotations

import logging
from dataclasses import replace

import healpy
import numpy as np
import pytest

from geminga.arrays import Float64
from geminga.bands import Band
from geminga.config import Config, ImageConfig, ResponseConfig
from geminga.response import (
    BandPsf,
    Exposure,
    Response,
    band_exposure,
    build_response,
    interpolate_energy,
)
from geminga.response.king import core_fraction, king
from geminga.response.radial import (
    cumulative_shell,
    invert_cumulative,
    legendre_transform,
    radius_nodes,
    shell_integral,
)
from geminga.response.survey import survey_profile, visible_share

THESIS = ((0.3, 0.5), (0.5, 1), (1, 2), (2, 7), (7, 20), (20, 1000))


def configure(
    edges: tuple[tuple[float, float], ...] = THESIS,
    irf: str = "P8R2_ULTRACLEANVETO_V6",
    types: tuple[str, ...] = ("FRONT",),
    **response: object,
) -> Config:
    return Config(
        bands=tuple(Band(emin_gev=a, emax_gev=b, nside=64, pixels=64) for a, b in edges),
        response=ResponseConfig.model_validate(
            {"irf": irf, "event_types": ("+".join(types),), **response}
        ),
        images=ImageConfig(box_deg=(1.0,) * len(edges)),
    )


@pytest.fixture(scope="module")
def thesis() -> Response:
    return build_response(configure())


def test_king_is_normalised_on_the_plane() -> None:
    x = np.concatenate([[0.0], np.geomspace(1e-4, 1e4, 20000)])
    assert np.trapezoid(2 * np.pi * x * king(x, 0.7, 2.5), x) == pytest.approx(1.0, abs=1e-4)


def test_core_fraction_is_that_of_the_photons() -> None:
    # f = s^2 / (s^2 + N t^2): the tail's amplitude counts by its area.
    assert core_fraction(np.array(0.5), np.array(1.0), np.array(2.0)) == pytest.approx(1 / 3)


def test_profile_without_cut_is_even_in_costheta() -> None:
    profile = survey_profile(((50.0, 1.0),), max_zenith_deg=180.0)
    np.testing.assert_allclose(profile.share, 0.5 * np.diff(profile.edges))


def test_zenith_cut_agrees_with_drawn_azimuths() -> None:
    rng = np.random.default_rng(1)
    phi = rng.uniform(0, 2 * np.pi, 200_000)
    theta, rho = np.radians(70.0), np.radians(50.0)
    zenith = np.cos(theta) * np.cos(rho) + np.sin(theta) * np.sin(rho) * np.cos(phi)
    share = np.mean(zenith > np.cos(np.radians(105.0)))
    found = visible_share(np.array([np.cos(theta)]), 50.0, 105.0)[0]
    assert found == pytest.approx(share, abs=0.005)
    assert visible_share(np.array([1.0]), 50.0, 105.0)[0] == 1.0


def test_psf_is_normalised_and_falls(thesis: Response) -> None:
    psf = thesis.psf
    assert psf.radius_deg[0] == 0.0
    assert psf.radius_deg[-1] == 30.0
    np.testing.assert_allclose(cumulative_shell(psf.radius_deg, psf.density_per_sr)[..., -1], 1.0)
    assert np.all(np.diff(psf.density_per_sr, axis=-1) <= 0)
    assert np.all(np.diff(psf.containment, axis=-1) >= 0)
    np.testing.assert_allclose(psf.containment[..., -1], 1.0)
    # A coarse trapezium rule, as a user of the table would take, does as well.
    r = np.radians(psf.radius_deg)
    plain = np.trapezoid(2 * np.pi * psf.density_per_sr * np.sin(r), r, axis=-1)
    np.testing.assert_allclose(plain, 1.0, atol=5e-4)


def test_psf_narrows_with_energy_and_hard_spectra(thesis: Response) -> None:
    r68 = np.array([thesis.psf.radius_of_containment(b, 2.0, 0.68) for b in range(6)])
    assert np.all(np.diff(r68) < 0)
    # Between the PSFs at the edges of the band.
    # (Above 100 GeV the PSF no longer narrows, so the last band is left out.)
    for band, radius in zip(thesis.channels[:-1], r68[:-1], strict=True):
        edges = [
            thesis.psf_tables[3].containment_radius_deg(e * 1e3, 0.68)
            for e in (band.emin_gev, band.emax_gev)
        ]
        assert min(edges) < radius < max(edges) * 1.01
    soft, hard = (thesis.psf.radius_of_containment(3, i, 0.68) for i in (4.0, 1.0))
    assert hard < soft


def test_band_psf_is_the_weighted_sum_over_energies(thesis: Response) -> None:
    energy = np.geomspace(2000.0, 7000.0, 400)
    area = interpolate_energy(
        thesis.exposures[3].mean()[:, None], thesis.exposures[3].energy_mev, energy
    )[:, 0]
    rows = np.array([thesis.psf_tables[3].at(float(e)) for e in energy])
    weight = energy**-2.5 * area
    direct = np.trapezoid(weight[:, None] * rows, energy, axis=0) / np.trapezoid(weight, energy)
    # Eight nodes a panel leave 0.4 %: the tabulated PSF has kinks in energy.
    np.testing.assert_allclose(thesis.psf.density(3, 2.5), direct, rtol=5e-3)


def test_spectral_index_is_interpolated_and_clamped(thesis: Response) -> None:
    psf = thesis.psf
    middle = psf.density(0, 2.25)
    np.testing.assert_allclose(middle, 0.5 * (psf.density(0, 2.0) + psf.density(0, 2.5)))
    np.testing.assert_array_equal(psf.density(0, 99.0), psf.density(0, 7.0))


def gaussian(sigma_deg: float) -> tuple[Float64, Float64]:
    r = radius_nodes(360, 30.0, 0.01)
    density = np.exp(-0.5 * (r / sigma_deg) ** 2)
    return r, density / shell_integral(r, density)


def test_harmonics_of_a_gaussian() -> None:
    r, density = gaussian(0.2)
    found = legendre_transform(r, density, 2000)
    ell = np.arange(2001)
    expected = np.exp(-0.5 * ell * (ell + 1) * np.radians(0.2) ** 2)
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_harmonics_agree_with_healpy(thesis: Response) -> None:
    found = thesis.psf.harmonic(2, 2.0, 300)
    fine = np.linspace(0.0, 30.0, 60001)
    r = thesis.psf.radius_deg
    density = np.exp(np.interp(fine, r, np.log(thesis.psf.density(2, 2.0))))
    other = healpy.beam2bl(density, np.radians(fine), 300)
    np.testing.assert_allclose(found, other, atol=1e-3)
    assert found[0] == pytest.approx(1.0, abs=1e-6)


def test_harmonics_give_back_the_containment(thesis: Response) -> None:
    # int_0^R P = sum_l (2l + 1)/2 W_l int_cosR^1 P_l, with the last integral in closed form.
    lmax, cut = 1500, np.cos(np.radians(2.0))
    window = thesis.psf.harmonic(0, 2.0, lmax)
    legendre = np.ones(lmax + 2)
    legendre[1] = cut
    for ell in range(2, lmax + 2):
        legendre[ell] = (
            (2 * ell - 1) * cut * legendre[ell - 1] - (ell - 1) * legendre[ell - 2]
        ) / ell
    total = 0.5 * (1.0 - cut) * window[0]
    total += 0.5 * np.sum(window[1:] * (legendre[:lmax] - legendre[2:]))
    k = int(np.searchsorted(thesis.psf.spectral_index, 2.0))
    direct = np.interp(2.0, thesis.psf.radius_deg, thesis.psf.containment[0, k])
    assert total == pytest.approx(direct, abs=1e-3)


def test_radius_of_containment_of_a_gaussian() -> None:
    r, density = gaussian(0.3)
    cumulative = cumulative_shell(r, density)
    psf = BandPsf(
        r, np.array([1.0, 3.0]), np.tile(density, (1, 2, 1)), np.tile(cumulative, (1, 2, 1))
    )
    assert psf.radius_of_containment(0, 2.0, 0.68) == pytest.approx(
        0.3 * np.sqrt(-2 * np.log(0.32)), rel=1e-3
    )
    assert invert_cumulative(r, cumulative, 0.0) == 0.0


def test_exposure_of_types_adds_and_psf_lies_between() -> None:
    band = ((1.0, 3.0),)
    front, back, both = (
        build_response(configure(band, types=t)) for t in (("FRONT",), ("BACK",), ("FRONT", "BACK"))
    )
    np.testing.assert_allclose(
        both.exposures[0].maps_cm2_s,
        front.exposures[0].maps_cm2_s + back.exposures[0].maps_cm2_s,
        rtol=1e-4,
    )
    r68 = [x.psf_tables[0].containment_radius_deg(2000.0, 0.68) for x in (front, both, back)]
    assert r68[0] < r68[1] < r68[2]


@pytest.mark.parametrize(
    "irf",
    ["P8R2_ULTRACLEANVETO_V6", "P8R2_SOURCE_V6", "P8R3_SOURCE_V3", "P8R3_ULTRACLEANVETO_V3"],
)
def test_quartiles_together_are_front_and_back_together(irf: str) -> None:
    band = ((0.1, 2000.0),)
    halves = build_response(configure(band, irf, ("FRONT", "BACK")))
    quartiles = build_response(configure(band, irf, ("PSF0", "PSF1", "PSF2", "PSF3")))
    for energy in (1000.0, 10000.0, 100000.0):
        a, b = (
            interpolate_energy(
                x.exposures[0].mean()[:, None], x.exposures[0].energy_mev, np.array([energy])
            )[0, 0]
            for x in (halves, quartiles)
        )
        assert b == pytest.approx(a, rel=0.02)
        assert quartiles.psf_tables[0].containment_radius_deg(energy, 0.68) == pytest.approx(
            halves.psf_tables[0].containment_radius_deg(energy, 0.68), rel=0.12
        )


def test_wide_energies_and_a_single_band() -> None:
    low = build_response(configure(((0.1, 0.3),)))
    assert 2.0 < low.psf.radius_of_containment(0, 2.0, 0.68) < 5.5
    high = build_response(configure(((50.0, 2000.0),), "P8R2_SOURCE_V6", ("FRONT", "BACK")))
    assert 0.08 < high.psf.radius_of_containment(0, 2.0, 0.68) < 0.11


def test_exposure_scales_with_time_and_follows_declination(thesis: Response) -> None:
    # Twenty years rock to 35 deg for half the share of the time.
    double = build_response(configure(duration_years=20.0))
    np.testing.assert_allclose(
        double.exposures[0].mean(), 2 * thesis.exposures[3].mean(), rtol=3e-3
    )
    # North celestial pole against the celestial equator (l, b of declination 90 and of RA 0, dec 0).
    pole, equator = thesis.exposures[0].at(np.array([122.93, 96.34]), np.array([27.13, -60.19]))[30]
    assert 1.3 < pole / equator < 1.7
    assert thesis.exposures[0].nside == 32
    assert "built-in" in thesis.origin["exposure"]


def test_built_in_is_announced(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="geminga.response"):
        response = build_response(configure())
    assert "built-in tables of P8R2_ULTRACLEANVETO_V6 FRONT stand in" in caplog.text
    assert response.origin["psf"].startswith("built-in")


def test_band_exposure_of_a_power_law_exposure() -> None:
    # Exposure proportional to E and spectrum E^-2: the mean is ln(b/a) / (1/a - 1/b).
    energy = np.geomspace(500.0, 5000.0, 5)
    maps = np.repeat(energy[:, None], 12, axis=1).astype(np.float32)
    base = build_response(configure(((1.0, 3.0),)))
    response = replace(base, exposures=(Exposure(energy, maps, "test"),))
    found = band_exposure(response, np.array([10.0, 200.0]), np.array([5.0, -70.0]), 2.0)
    expected = np.log(3.0) / (1 / 1000.0 - 1 / 3000.0)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    each = band_exposure(
        response, np.array([10.0, 200.0]), np.array([5.0, -70.0]), np.array([2.0, 0.0])
    )
    np.testing.assert_allclose(each[0], [expected, 2000.0], rtol=1e-6)


def test_interpolate_energy_is_exact_for_power_laws() -> None:
    nodes = np.array([1.0, 10.0, 100.0])
    values = np.array([[1.0, 0.0], [100.0, 0.0], [1e4, 5.0]])
    found = interpolate_energy(values, nodes, np.array([3.0, 10.0, 100.0]))
    np.testing.assert_allclose(found[:, 0], [9.0, 100.0, 1e4])
    np.testing.assert_allclose(found[:, 1], [0.0, 0.0, 5.0], atol=1e-250)
