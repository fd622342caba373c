"""Energy dispersion: a case solved by hand, the nodes, the built-in tables, the CALDB files."""

from __future__ import annotations

import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from scipy.special import ndtri
from scipy.stats import norm

from geminga.arrays import Float64
from geminga.bands import Band
from geminga.config import Config, ImageConfig, ResponseConfig
from geminga.errors import InputError
from geminga.response import Response, band_exposure, band_nodes, build_response
from geminga.response.average import TypeResponse
from geminga.response.builtin import builtin_dispersion, load_tables
from geminga.response.caldb import AreaTable, read_area
from geminga.response.dispersion import (
    DEVIATE,
    LN_RATIO,
    Dispersion,
    DispersionFile,
    DispersionTable,
    average_dispersion,
    mean_ratio_density,
    read_dispersion,
)
from geminga.response.nodes import dispersed_nodes
from geminga.response.survey import survey_profile

THESIS = ((0.3, 0.5), (0.5, 1), (1, 2), (2, 7), (7, 20), (20, 1000))


def respond(edges: tuple[tuple[float, float], ...] = THESIS, **settings: Any) -> Response:
    response = {"irf": "P8R3_SOURCE_V3", "energy_dispersion": True} | settings
    data = response.pop("data", None)
    return build_response(
        Config(
            data=None if data is None else str(data),
            bands=tuple(Band(emin_gev=a, emax_gev=b, nside=64, pixels=64) for a, b in edges),
            response=ResponseConfig.model_validate(response),
            images=ImageConfig(box_deg=(1.0,) * len(edges)),
        )
    )


def flat_area(event_type: str = "FRONT") -> TypeResponse:
    """The same area at every energy."""
    energy = np.geomspace(1.0, 1e8, 9)
    return TypeResponse(
        event_type, energy, np.full(9, 1e3), energy, np.ones((9, 1)), np.ones((4, 9))
    )


def lognormal(sigma: float) -> Dispersion:
    """ln(measured / true) Gaussian of one width."""
    energy = np.array([1.0, 1e8])
    table = DispersionTable("FRONT", energy, np.tile(sigma * DEVIATE, (2, 1)))
    return Dispersion((table,), (flat_area(),), "test")


def test_lognormal_probability() -> None:
    energy = np.array([300.0, 900.0, 1000.0, 1500.0, 4000.0])
    found = lognormal(0.2).inside(1000.0, 2000.0, energy)
    low, high = (np.log(e / energy) / 0.2 for e in (1000.0, 2000.0))
    np.testing.assert_allclose(found, norm.cdf(high) - norm.cdf(low), atol=2e-6)


@pytest.mark.parametrize("index", [1.5, 2.5, 4.0])
@pytest.mark.parametrize("edges", [(1.0, 2.0), (1.0, 1.2), (0.5, 300.0)])
def test_power_law_seen_with_lognormal_dispersion(index: float, edges: tuple[float, float]) -> None:
    # E^-g stays a power law, exp(s^2 (g - 1)^2 / 2) times as high.
    band, sigma = Band(emin_gev=edges[0], emax_gev=edges[1], nside=64, pixels=64), 0.25
    dispersion = lognormal(sigma)
    nodes = dispersed_nodes(band, dispersion.inside, dispersion.area, dispersion.span_mev)
    found = np.sum(nodes.weight * nodes.energy_mev**-index)
    a, b = edges[0] * 1e3, edges[1] * 1e3
    expected = (a ** (1 - index) - b ** (1 - index)) / (index - 1)
    expected *= np.exp(0.5 * (sigma * (index - 1)) ** 2)
    # Both ends leave out 1e-4 of the counts.
    assert found == pytest.approx(expected, rel=5e-4)
    assert np.all(np.diff(nodes.energy_mev) > 0)
    assert np.all(nodes.weight > 0)
    assert nodes.energy_mev[0] < a
    assert nodes.energy_mev[-1] > b


def test_bands_side_by_side_share_out_every_photon() -> None:
    edges = np.geomspace(1.0, 1e8, 60)
    energy = np.geomspace(50.0, 1e6, 40)
    dispersion = Dispersion(
        builtin_dispersion("P8R3_SOURCE_V3", ("FRONT", "BACK")), (flat_area(), flat_area()), ""
    )
    total = sum(dispersion.inside(float(a), float(b), energy) for a, b in pairwise(edges))
    np.testing.assert_allclose(total, 1.0, atol=1e-3)


def test_no_dispersion_leaves_the_old_nodes() -> None:
    response = respond(energy_dispersion=False)
    for channel, nodes in zip(response.channels, response.nodes, strict=True):
        np.testing.assert_array_equal(nodes.energy_mev, band_nodes(channel).energy_mev)
        np.testing.assert_array_equal(nodes.weight, band_nodes(channel).weight)
    assert "dispersion" not in response.origin


def gaussian_file(width: float, shift: float = 0.0) -> DispersionFile:
    """EDISPVER 3 with one symmetric Gaussian of (E'/E - 1): sigma = width / sqrt 2."""
    values = dict.fromkeys(("K1", "K2"), 1.0) | dict.fromkeys(("PINDEX1", "PINDEX2"), 2.0)
    values |= {"F": 1.0, "S1": width, "S2": width, "BIAS": shift, "BIAS2": shift}
    parameters = {name: np.full((2, 3), value) for name, value in values.items()}
    scaling = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    return DispersionFile(
        "FRONT", np.array([100.0, 1e3, 1e4]), np.array([0.4, 0.8]), parameters, scaling
    )


def test_caldb_function_with_gaussian_parameters() -> None:
    area = AreaTable("FRONT", np.array([10.0, 1e6]), np.array([0.2, 1.0]), np.full((2, 2), 1e3))
    table = average_dispersion(gaussian_file(0.1, 0.03), area, survey_profile())
    for probability in (0.01, 0.16, 0.5, 0.84, 0.99):
        expected = 1.03 + 0.1 / np.sqrt(2.0) * ndtri(probability)
        assert table.quantile(probability, 2e3) == pytest.approx(expected, rel=3e-4)


CLASSES = ("P8R3_SOURCE_V3", "P8R3_ULTRACLEANVETO_V3")
TYPES = ("FRONT", "BACK", "PSF0", "PSF1", "PSF2", "PSF3")


@pytest.mark.parametrize("irf", CLASSES)
@pytest.mark.parametrize("event_type", TYPES)
def test_resolution_is_that_of_the_lat(irf: str, event_type: str) -> None:
    # Pass 8: 20 % at 100 MeV, below 10 % from 1 to 100 GeV (FSSC, Pass 8 analysis and energy
    # dispersion); half the width that holds 68 %.
    (table,) = builtin_dispersion(irf, (event_type,))
    for energy, low, high in (
        (100.0, 0.15, 0.22),
        (1e3, 0.085, 0.11),
        (1e4, 0.055, 0.075),
        (1e5, 0.06, 0.09),
    ):
        width = 0.5 * (table.quantile(0.84, energy) - table.quantile(0.16, energy))
        assert low < width < high
        assert 0.95 < table.quantile(0.5, energy) < 1.05
    assert np.all(np.diff(table.ln_ratio, axis=1) > 0)


def test_counts_of_a_source_change_by_a_few_per_cent() -> None:
    lon, lat = np.array([0.0]), np.array([0.0])
    with_it = band_exposure(respond(), lon, lat, 2.4)[:, 0]
    without = band_exposure(respond(energy_dispersion=False), lon, lat, 2.4)[:, 0]
    # The measured energy is 2 % below the true one on average, and its tail is longer downwards.
    change = with_it / without - 1.0
    assert np.all((change > -0.07) & (change < 0.03))
    expected = (-0.028, -0.027, -0.045, -0.052, -0.025, -0.025)
    np.testing.assert_allclose(change, expected, atol=0.006)


def test_class_without_dispersion(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InputError, match=r"'P8R2_SOURCE_V6' is not built in.*dispersion_irf"):
        respond(irf="P8R2_SOURCE_V6")
    with caplog.at_level(logging.INFO, logger="geminga.response"):
        response = respond(irf="P8R2_SOURCE_V6", dispersion_irf="P8R3_SOURCE_V3")
    text = "built-in P8R3_SOURCE_V3 FRONT, standing in for P8R2_SOURCE_V6"
    assert response.origin["dispersion"] == text
    assert text in caplog.text
    with pytest.raises(InputError, match=r"'P7REP' is not built in"):
        respond(dispersion_irf="P7REP")


def test_every_selection_has_its_own_nodes() -> None:
    response = respond(((1.0, 2.0),), event_types=("PSF0", "PSF3"))
    assert not np.array_equal(response.nodes[0].energy_mev, response.nodes[1].energy_mev)
    for exposure, nodes in zip(response.exposures, response.nodes, strict=True):
        assert exposure.energy_mev[0] <= nodes.energy_mev[0]
        assert exposure.energy_mev[-1] >= nodes.energy_mev[-1]


def write_edisp(folder: Path, version: int = 3, **change: Float64 | float | None) -> None:
    """A small energy dispersion file of class MINE."""
    axes = [
        fits.Column("ENERG_LO", "3E", array=np.array([[10.0, 1e3, 1e5]])),
        fits.Column("ENERG_HI", "3E", array=np.array([[1e3, 1e5, 1e7]])),
        fits.Column("CTHETA_LO", "2E", array=np.array([[0.2, 0.6]])),
        fits.Column("CTHETA_HI", "2E", array=np.array([[0.6, 1.0]])),
    ]
    values = {n: float(v[0, 0]) for n, v in gaussian_file(0.1).parameters.items()} | change
    columns = [
        fits.Column(name, "6E", dim="(3, 2)", array=np.full((1, 2, 3), value))
        for name, value in values.items()
        if value is not None
    ]
    table = fits.BinTableHDU.from_columns([*axes, *columns], name="ENERGY DISPERSION_FRONT")
    table.header["EDISPVER"] = version
    scaling = fits.Column("EDISPSCALE", "6E", array=np.array([[0.0, 0, 0, 0, 0, 1.0]]))
    scale = fits.BinTableHDU.from_columns([scaling], name="EDISP_SCALING_PARAMS_FRONT")
    hdus = fits.HDUList([fits.PrimaryHDU(), table, scale])
    hdus.writeto(folder / "edisp_MINE_FB.fits", overwrite=True)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"version": 5}, "EDISPVER is 5; version 3 is read"),
        ({"BIAS2": None}, "has no column BIAS2"),
        ({"S2": np.nan}, "column S2 holds NaN"),
        ({"K1": -1.0}, "column K1 is not positive"),
    ],
)
def test_bad_file(tmp_path: Path, fault: dict[str, Any], message: str) -> None:
    write_edisp(tmp_path, **fault)
    with pytest.raises(InputError, match=message):
        read_dispersion(tmp_path, "MINE", "FRONT")


def test_missing_file_and_table(tmp_path: Path) -> None:
    write_edisp(tmp_path)
    assert read_dispersion(tmp_path, "MINE", "FRONT").parameters["S1"].shape == (2, 3)
    with pytest.raises(InputError, match=r"has no edisp_YOURS_FB.fits.*classes there: MINE"):
        read_dispersion(tmp_path, "YOURS", "FRONT")
    with pytest.raises(InputError, match="has no table ENERGY DISPERSION_BACK"):
        read_dispersion(tmp_path, "MINE", "BACK")


@pytest.mark.data
@pytest.mark.parametrize("irf", CLASSES)
@pytest.mark.parametrize("event_type", TYPES)
def test_caldb_functions_are_normalised(lat_data: Path, irf: str, event_type: str) -> None:
    folder = lat_data / "irfs"
    file, area = read_dispersion(folder, irf, event_type), read_area(folder, irf, event_type)
    for number, energy in enumerate(file.energy_mev):
        if 30.0 < energy < 2e5:
            density = mean_ratio_density(file, area, survey_profile(), number)
            total = np.trapezoid(density, np.exp(LN_RATIO))
            # PSF0 below 50 MeV and above 200 GeV would measure negative energies now and then.
            assert total == pytest.approx(1.0, abs=1e-3), energy


@pytest.mark.data
def test_builtin_equals_caldb(lat_data: Path) -> None:
    own = respond(event_types=("FRONT", "BACK"))
    caldb = respond(event_types=("FRONT", "BACK"), caldb="irfs", data=lat_data)
    lon, lat = np.array([0.0, 120.0]), np.array([0.0, 50.0])
    a, b = (band_exposure(r, lon, lat, 2.4) for r in (own, caldb))
    np.testing.assert_allclose(a, b, rtol=1e-3)
    np.testing.assert_allclose(own.psf.density_per_sr, caldb.psf.density_per_sr, rtol=1e-2)
    assert caldb.origin["dispersion"].startswith("CALDB P8R3_SOURCE_V3 FRONT from irfs")
    assert len(load_tables().dispersion_names) == len(CLASSES) * len(TYPES)


@pytest.mark.data
def test_caldb_class_without_dispersion(lat_data: Path) -> None:
    settings = {"data": lat_data, "caldb": "irfs", "irf": "P8R2_SOURCE_V6"}
    message = r"has no edisp_P8R2_SOURCE_V6_FB.fits .*P8R3_SOURCE_V3.*; name one in response.disp"
    with pytest.raises(InputError, match=message):
        respond(((1.0, 2.0),), **settings)
    response = respond(((1.0, 2.0),), **settings, dispersion_irf="P8R3_SOURCE_V3")
    assert "standing in for P8R2_SOURCE_V6" in response.origin["dispersion"]


@pytest.mark.data
def test_official_cube_is_extrapolated_a_little(
    lat_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {
        "data": lat_data,
        "irf": "P8R2_SOURCE_V6",
        "event_types": ("FRONT+BACK",),
        "dispersion_irf": "P8R3_SOURCE_V3",
        "exposure_cube": "exposure/fermi_3fhl_exposure_cube_hpx.fits.gz",
    }
    with caplog.at_level(logging.INFO, logger="geminga.response"):
        response = respond(((10.0, 30.0), (30.0, 2000.0)), **settings)
    assert "extrapolated from 10-2000" in response.origin["exposure"]
    assert "extrapolated" in caplog.text
    assert response.exposures[0] is response.exposures[1]
    plain = respond(((10.0, 30.0), (30.0, 2000.0)), **settings | {"energy_dispersion": False})
    lon, lat = np.array([10.0]), np.array([40.0])
    ratio = band_exposure(response, lon, lat, 2.2) / band_exposure(plain, lon, lat, 2.2)
    np.testing.assert_allclose(ratio, 1.0, atol=0.05)
