"""The orbit model: observing time over the sky, zenith cuts by band, shares of the years."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import pytest
from astropy.io import fits

from geminga.bands import Band
from geminga.config import Config, ImageConfig, ResponseConfig, SkyConfig
from geminga.errors import InputError
from geminga.response import Response, build_response
from geminga.response.builtin import load_tables
from geminga.response.exposure import galactic_to_equatorial, map_centres
from geminga.response.orbit import (
    INCLINATION_DEG,
    live_share,
    model_exposure,
    orbit_livetime,
    sin_declination,
)
from geminga.response.survey import (
    MISSION_START,
    MISSION_START_MET_S,
    YEARS_AT_FIRST,
    rocking_between,
    survey_profile,
)
from geminga.response.yearly import equal_shares, survey_shares


def respond(cuts: tuple[float, ...], years: int = 1, **response: Any) -> Response:
    data = response.pop("data", None)
    edges = np.geomspace(1.0, 10.0, len(cuts) + 1)
    bands = tuple(
        Band(emin_gev=float(a), emax_gev=float(b), nside=64, pixels=64, max_zenith_deg=cut)
        for a, b, cut in zip(edges[:-1], edges[1:], cuts, strict=True)
    )
    return build_response(
        Config(
            data=None if data is None else str(data),
            bands=bands,
            sky=SkyConfig(years=years),
            response=ResponseConfig.model_validate(response),
            images=ImageConfig(box_deg=(1.0,) * len(cuts)),
        )
    )


def test_rocking_history() -> None:
    assert rocking_between(0.0, 1.0) == ((35.0, 1.0),)
    assert rocking_between(2.0, 3.0) == ((50.0, 1.0),)
    mixed = rocking_between(1.0, 2.0)
    assert mixed[0] == (35.0, pytest.approx(YEARS_AT_FIRST - 1.0))
    assert sum(weight for _, weight in mixed) == pytest.approx(1.0)
    # Mission elapsed time counts from 2001-01-01, with a leap second in 2005 and one at 2008's end.
    assert (MISSION_START.timestamp() - 978307200.0) == pytest.approx(MISSION_START_MET_S, abs=2)


@pytest.mark.parametrize("cut", [80.0, 90.0, 105.0, 180.0])
@pytest.mark.parametrize("rocking", [35.0, 50.0])
def test_sky_mean_is_that_of_the_profile(rocking: float, cut: float) -> None:
    # The profile needs no orbit: the model must agree with it whatever the orbit.
    history = ((rocking, 1.0),)
    mean = orbit_livetime(history, cut).mean(axis=0)
    profile = survey_profile(history, cut)
    assert mean.sum() == pytest.approx(profile.share.sum(), rel=3e-3)
    np.testing.assert_allclose(mean, profile.share, atol=0.04 * profile.share.max())


def test_anomaly_takes_time_from_the_south() -> None:
    phase = np.linspace(0.0, 2.0 * np.pi, 2001)
    latitude = np.degrees(np.arcsin(np.sin(phase) * np.sin(np.radians(INCLINATION_DEG))))
    # Fermi is inside for 13 % of the time (LAT on-orbit performance, ApJS 203, 4).
    assert 1.0 - live_share(latitude).mean() == pytest.approx(0.13, abs=0.005)
    assert live_share(np.array([10.0]))[0] == 1.0
    assert live_share(np.array([-20.0]))[0] < 0.75
    exposure = model_exposure(((50.0, 1.0),), 105.0, load_tables().area_shape)
    assert 1.05 < exposure[-1] / exposure[0] < 1.3


def test_model_against_the_official_pattern() -> None:
    """The built-in pattern is that of the 3FHL cube: seven years, 105 deg, 10 GeV."""
    tables = load_tables()
    model = model_exposure(rocking_between(0.0, 6.99), 105.0, tables.area_shape)
    official = np.interp(sin_declination(), tables.sin_declination, tables.pattern)
    ratio = model / model.mean() / (official / official.mean())
    # Pointed observations and the year on the Galactic centre make the real pattern flatter.
    assert np.std(ratio) < 0.05
    assert np.max(np.abs(ratio - 1.0)) < 0.12
    assert np.corrcoef(model, official)[0, 1] > 0.97


def test_channels_have_the_zenith_cut_of_their_band() -> None:
    response = respond((90.0, 105.0, 105.0))
    assert response.exposures[1] is response.exposures[2]
    assert response.psf_tables[1] is response.psf_tables[2]
    narrow, wide = (response.exposures[c] for c in (0, 1))
    energy = int(np.searchsorted(wide.energy_mev, 1e4))
    mean = narrow.mean()[energy] / wide.mean()[energy]
    assert 0.88 < mean < 0.94
    # A narrower cut hides the poles, which are seen at large zenith angles only.
    lon, lat = map_centres(narrow.nside)
    declination = galactic_to_equatorial(lon, lat)[1]
    ratio = narrow.maps_cm2_s[energy] / wide.maps_cm2_s[energy]
    assert ratio[declination < -75].mean() < 0.85 * ratio[np.abs(declination) < 10].mean()
    assert "zenith < 90 deg" in response.origin["exposure"]
    assert "zenith < 105 deg" in response.origin["exposure"]


def test_whole_cut_is_monotonic() -> None:
    means = [respond((cut,)).exposures[0].mean()[30] for cut in (70.0, 80.0, 90.0, 105.0, 180.0)]
    assert np.all(np.diff(means) > 0)


@pytest.mark.data
@pytest.mark.parametrize(("cut", "tolerance"), [(80.0, 0.014), (90.0, 0.012), (120.0, 0.009)])
def test_builtin_tables_serve_for_other_cuts(lat_data: Path, cut: float, tolerance: float) -> None:
    own = respond((cut,), irf="P8R3_SOURCE_V3")
    caldb = respond((cut,), irf="P8R3_SOURCE_V3", caldb="irfs", data=lat_data)
    ratio = own.exposures[0].maps_cm2_s / caldb.exposures[0].maps_cm2_s
    np.testing.assert_allclose(ratio, 1.0, atol=tolerance)
    for fraction in (0.5, 0.68, 0.95):
        a, b = (r.psf.radius_of_containment(0, 2.0, fraction) for r in (own, caldb))
        assert a == pytest.approx(b, rel=0.01)


def test_shares_follow_the_rocking() -> None:
    shares = respond((105.0,), years=10).year_share
    assert shares.maps.shape[0] == 10
    np.testing.assert_allclose(shares.maps.sum(axis=0), 1.0, atol=1e-6)
    # 35 deg for 13 months: the first year differs, the third and later are alike.
    np.testing.assert_array_equal(shares.maps[2], shares.maps[9])
    nside = int(healpy.npix2nside(shares.maps.shape[1]))
    declination = galactic_to_equatorial(*map_centres(nside))[1]
    relative = shares.maps[0] / shares.maps[9]
    assert relative[np.abs(declination) < 15].mean() > 1.1
    assert relative[np.abs(declination) > 75].mean() < 0.9
    at = shares.at(np.array([0.0, 100.0]), np.array([0.0, -80.0]))
    np.testing.assert_allclose(at.sum(axis=1), 1.0)
    assert "2008-08-04" in shares.origin


def test_one_time_bin_and_equal_shares() -> None:
    np.testing.assert_array_equal(respond((105.0,)).year_share.maps, equal_shares(1).maps)
    assert survey_shares(3, 10.0, [105.0]).maps.shape == (3, 12 * 16**2)


def write_cube(path: Path, scale: float) -> None:
    lon, lat = map_centres(8)
    sky = 1e11 * scale * (2.0 + np.sin(np.radians(lat)) * np.cos(np.radians(lon)))
    columns = [fits.Column(f"ENERGY{i + 1}", "D", array=sky * (1.0 + i)) for i in range(3)]
    table = fits.BinTableHDU.from_columns(columns, name="HPXEXPOSURES")
    table.header.update({"ORDERING": "RING", "NSIDE": 8, "COORDSYS": "GAL"})
    energy = fits.Column("Energy", "D", array=np.array([500.0, 3000.0, 30000.0]))
    energies = fits.BinTableHDU.from_columns([energy], name="ENERGIES")
    fits.HDUList([fits.PrimaryHDU(), table, energies]).writeto(path)


def test_yearly_cubes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, scale in (("a.fits", 1.0), ("b.fits", 3.0)):
        write_cube(tmp_path / name, scale)
    settings = {"data": tmp_path, "yearly_exposure": ("a.fits", "b.fits")}
    with caplog.at_level(logging.WARNING, logger="geminga.response"):
        shares = respond((105.0,), years=2, **settings).year_share
    np.testing.assert_allclose(shares.maps, [[0.25], [0.75]] * np.ones((2, 12 * 16**2)), rtol=1e-5)
    assert shares.origin == "gtexpcube2 cubes a.fits, b.fits"
    assert "only their shares are used" in caplog.text
    with pytest.raises(InputError, match=r"2 cubes for sky.years 3; name one cube for each"):
        respond((105.0,), years=3, **settings)
    with pytest.raises(InputError, match="not found"):
        respond((105.0,), years=2, data=tmp_path, yearly_exposure=("a.fits", "c.fits"))
    write_cube(tmp_path / "nothing.fits", 0.0)
    with pytest.raises(InputError, match="leave part of the sky without exposure"):
        respond((105.0,), data=tmp_path, yearly_exposure=("nothing.fits",))
