"""Event lists: which photons are read, and what is logged of a file's own cuts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from ft1_files import DSS, N, event_columns, observed, with_dss, write_events
from sky_configs import typed

from geminga.config import Config
from geminga.errors import InputError
from geminga.geometry import lon_lat, separation_deg, unit_vectors
from geminga.sky.formats.fits_input import equatorial_from_galactic, galactic_from_equatorial
from geminga.sky.formats.ft1 import read_events


def test_all_photons_with_band_year_and_position(tmp_path: Path, ft1_config: Config):
    path = write_events(tmp_path / "a.fits")
    photons = read_events([path], observed(), ft1_config)
    columns = event_columns()
    assert len(photons) == N
    np.testing.assert_array_equal(photons.channel, [0] * (N // 2) + [1] * (N // 2))
    np.testing.assert_array_equal(np.bincount(photons.year), [10, 10, 10, 10])
    truth = unit_vectors(columns["L"][1], columns["B"][1])
    apart = separation_deg(photons.xyz[:, None, :], truth[None])
    # Photons are put at the centres of pixels of 3 arcsec; each event is one of them.
    assert apart.min(axis=1).max() < 1e-3
    nearest = apart.argmin(axis=1)
    np.testing.assert_array_equal(np.sort(nearest), np.arange(N))
    np.testing.assert_array_equal(photons.channel, np.where(nearest % 2, 0, 1))
    np.testing.assert_array_equal(photons.year, nearest // 10)
    assert photons.origin["files"] == "a.fits"


def test_positions_come_from_ra_dec_without_l_b(tmp_path: Path, ft1_config: Config):
    columns = event_columns()
    truth = unit_vectors(columns.pop("L")[1], columns.pop("B")[1])
    photons = read_events([write_events(tmp_path / "a.fits", columns)], observed(), ft1_config)
    assert separation_deg(photons.xyz[:, None, :], truth[None]).min(axis=1).max() < 1e-3


def test_l_b_alone_are_enough(tmp_path: Path, ft1_config: Config):
    columns = event_columns()
    del columns["RA"], columns["DEC"]
    photons = read_events([write_events(tmp_path / "a.fits", columns)], observed(), ft1_config)
    assert len(photons) == N


def test_the_frames_agree_with_published_positions():
    # Crab pulsar; north Galactic pole as Hipparcos fixed it (ESA SP-1200, 1.5.3).
    ra_dec = unit_vectors(np.array([83.633083, 192.85948]), np.array([22.0145, 27.12825]))
    lon, lat = lon_lat(galactic_from_equatorial(ra_dec))
    assert (lon[0], lat[0]) == pytest.approx((184.5575, -5.7843), abs=1e-3)
    assert lat[1] == pytest.approx(90.0, abs=1e-5)
    np.testing.assert_allclose(
        equatorial_from_galactic(galactic_from_equatorial(ra_dec)), ra_dec, atol=1e-12
    )


def test_time_range_cuts_and_sets_the_years(tmp_path: Path, ft1_config: Config):
    path = write_events(tmp_path / "a.fits")
    photons = read_events([path], observed(time_range_met_s=(1000.0, 1500.0)), ft1_config)
    time = event_columns()["TIME"][1]
    assert len(photons) == np.sum(time < 1500.0)
    years = np.floor((time[: len(photons)] - 1000) / 125).astype(int)
    np.testing.assert_array_equal(np.bincount(photons.year), np.bincount(years))


def test_good_time_intervals_set_the_years(tmp_path: Path, ft1_config: Config):
    path = write_events(tmp_path / "a.fits", gti=[(1000.0, 1100.0), (1500.0, 5000.0)])
    assert read_events([path], observed(), ft1_config).year.max() == 0
    early = write_events(tmp_path / "b.fits", gti=[(1200.0, 2000.0)])
    assert read_events([early], observed(), ft1_config).year.min() == 0


def test_photons_outside_the_good_time_are_logged(
    tmp_path: Path, ft1_config: Config, caplog: pytest.LogCaptureFixture
):
    path = write_events(tmp_path / "a.fits", gti=[(1200.0, 2000.0)])
    read_events([path], observed(), ft1_config)
    assert "8 photons lie outside the time" in caplog.text


def test_reading_in_parts_changes_nothing(
    tmp_path: Path, ft1_config: Config, monkeypatch: pytest.MonkeyPatch
):
    path = write_events(tmp_path / "a.fits")
    asked = observed(event_class_bits=(7,), max_zenith_deg=90.0)
    ft1_config = typed(ft1_config, "FRONT")
    whole = read_events([path], asked, ft1_config)
    monkeypatch.setattr("geminga.sky.formats.ft1._CHUNK", 7)
    parts = read_events([path], asked, ft1_config)
    for name in ("xyz", "channel", "year"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_two_files_are_one_observation(tmp_path: Path, ft1_config: Config):
    paths = [write_events(tmp_path / name) for name in ("a.fits", "b.fits")]
    assert len(read_events(paths, observed(), ft1_config)) == 2 * N


def test_empty_list_gives_no_photons(tmp_path: Path, ft1_config: Config):
    path = write_events(tmp_path / "full.fits")
    with fits.open(path) as hdus:
        hdus["EVENTS"].data = hdus["EVENTS"].data[:0]
        path = tmp_path / "empty.fits"
        hdus.writeto(path)
    photons = read_events([path], observed(event_class_bits=(7,)), ft1_config)
    assert len(photons) == 0
    assert photons.xyz.shape == (0, 3)
    assert photons.xyz.dtype == np.float32


def test_other_energy_units_are_converted(tmp_path: Path, ft1_config: Config):
    columns = event_columns()
    columns["ENERGY"] = ("D", np.asarray(columns["ENERGY"][1]) / 1e6)
    path = write_events(tmp_path / "a.fits", columns, units={"ENERGY": "TeV"})
    assert len(read_events([path], observed(), ft1_config)) == N
    odd = write_events(tmp_path / "b.fits", columns, units={"ENERGY": "deg"})
    with pytest.raises(InputError, match="unit 'deg' is not one of MeV"):
        read_events([odd], observed(), ft1_config)


@pytest.mark.parametrize(
    ("dss", "settings", "message"),
    [
        (with_dss("ENERGY", "1000:20000"), {}, "ends inside the last band"),
        (with_dss("BIT_MASK(EVENT_CLASS,1024,P8R2)", "1:1"), {"event_class_bits": (7,)}, "tighter"),
        (with_dss("POS(RA,DEC)", "CIRCLE(83,22,1)", "deg"), {}, "covers only CIRCLE"),
        (with_dss("PHASE", "0:0.5", ""), {}, "unknown DSS cut PHASE = 0:0.5"),
        ([], {}, "no DSS keywords"),
    ],
)
def test_other_selections_are_logged(
    tmp_path: Path,
    ft1_config: Config,
    caplog: pytest.LogCaptureFixture,
    dss: list[tuple[str, str, str]],
    settings: dict[str, Any],
    message: str,
):
    with caplog.at_level(logging.WARNING):
        read_events([write_events(tmp_path / "a.fits", dss=dss)], observed(**settings), ft1_config)
    assert message in caplog.text


def test_a_circle_of_the_whole_sky_is_no_cut(
    tmp_path: Path, ft1_config: Config, caplog: pytest.LogCaptureFixture
):
    dss = [*DSS, ("POS(RA,DEC)", "deg", "CIRCLE(0,0,180)")]
    read_events([write_events(tmp_path / "a.fits", dss=dss)], observed(), ft1_config)
    assert "not the whole sky" not in caplog.text
