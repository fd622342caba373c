"""Simulated events as files: what is written, read back and opened by gammapy."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.io import fits
from event_lists import OBSERVATION, same
from ft1_files import observed
from gammapy.data import GTI, EventList

from geminga.config import Config, ObservedConfig
from geminga.errors import InputError
from geminga.geometry import separation_deg, tangent_frames, unit_vectors
from geminga.patches.project import bin_photons
from geminga.sky.events import Events
from geminga.sky.formats.ft1 import read_events
from geminga.sky.formats.ft1_write import write_events
from geminga.sky.formats.healpix import read_counts
from geminga.sky.formats.healpix_write import write_counts
from geminga.sky.photons import Photons, empty_photons


def test_written_events_are_read_as_the_same_photons(
    tmp_path: Path, drawn_events: Events, front_back: Config, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "events.fits"
    write_events(drawn_events, front_back.channels, path, OBSERVATION, [("SKY_ID", 2, "sky")])
    asked = observed(event_class_bits=(10,), max_zenith_deg=105.0)
    back = read_events([path], asked, front_back)
    same(back, drawn_events.photons)
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []
    frames = tangent_frames(np.array([0.0, 100.0, 9.0]), np.array([0.0, -30.0, 89.0]))
    for a, b in zip(
        bin_photons(back, frames, 10.0, front_back.channels),
        bin_photons(drawn_events.photons, frames, 10.0, front_back.channels),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
        assert a.sum() > 0
    # The map of the list has the same photons again, pixel by pixel.
    paths = write_counts(back, front_back.channels, tmp_path, OBSERVATION)
    with fits.open(paths[0]) as hdus:
        mine = drawn_events.photons.xyz[drawn_events.photons.channel == 0].astype(np.float64)
        nside = front_back.channels[0].nside
        counts = np.bincount(healpy.vec2pix(nside, *mine.T), minlength=12 * nside**2)
        np.testing.assert_array_equal(hdus["SKYMAP"].data["CHANNEL1"], counts)
    maps = {name: [p for p in paths if f"_{name}_" in p.name] for name in ("FRONT", "BACK")}
    settings = ObservedConfig(counts=maps_as_text(maps), event_class_bits=(10,))
    drawn = read_counts(maps, front_back.model_copy(update={"observed": settings}))
    for number, channel in enumerate(front_back.channels):
        whole = [
            np.bincount(
                healpy.vec2pix(channel.nside, *p.xyz[p.channel == number].T.astype(np.float64)),
                minlength=12 * channel.nside**2,
            )
            for p in (drawn, drawn_events.photons)
        ]
        np.testing.assert_array_equal(*whole)


def maps_as_text(maps: dict[str, list[Path]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(str(path) for path in paths) for name, paths in maps.items()}


def test_gammapy_opens_the_list(tmp_path: Path, drawn_events: Events, front_back: Config) -> None:
    path = tmp_path / "events.fits"
    write_events(drawn_events, front_back.channels, path, OBSERVATION)
    read = EventList.read(path)
    assert len(read.table) == len(drawn_events)
    lon, lat = drawn_events.photons.lon_lat()
    assert separation_deg(
        unit_vectors(read.galactic.l.deg, read.galactic.b.deg), unit_vectors(lon, lat)
    ).max() == pytest.approx(0, abs=1e-7)
    assert read.radec.frame.name == "icrs"
    np.testing.assert_array_equal(
        read.energy.to_value("MeV").astype(np.float32), drawn_events.energy_mev
    )
    elapsed = (read.time - read.time_ref).to_value("s")
    np.testing.assert_allclose(elapsed, drawn_events.time_s, atol=1e-4)
    assert read.observation_time_start.utc.isot == "2008-08-04T15:43:36.000"
    assert read.table["EVENT_CLASS"].shape == (len(drawn_events), 32)
    both = EventList.from_stack([read, EventList.read(path)])
    assert len(both.table) == 2 * len(drawn_events)
    assert GTI.read(path).time_sum.to_value("s") == 3e8


def test_the_keywords_fit_the_events(
    tmp_path: Path, drawn_events: Events, front_back: Config
) -> None:
    path = tmp_path / "events.fits"
    write_events(drawn_events, front_back.channels, path, OBSERVATION, [("SKY_ID", 2, "sky")])
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "EVENTS", "GTI"]
        header, table, gti = hdus["EVENTS"].header, hdus["EVENTS"].data, hdus["GTI"]
        assert hdus[0].header["SKY_ID"] == 2
        history = "".join(hdus[0].header["HISTORY"])
        assert "Not simulated and left out: THETA, PHI, ZENITH_ANGLE" in history
        cuts = {header[f"DSTYP{n}"]: header[f"DSVAL{n}"] for n in range(1, header["NDSKEYS"] + 1)}
        assert cuts == {
            "BIT_MASK(EVENT_CLASS,1024,P8R2)": "1:1",
            "POS(RA,DEC)": "CIRCLE(0,0,180)",
            "TIME": "TABLE",
            "BIT_MASK(EVENT_TYPE,3,P8R2)": "1:1",
            "ENERGY": "20000:500000",
            "ZENITH_ANGLE": "0:105",
        }
        assert table["TIME"].min() >= header["TSTART"] == gti.data["START"][0]
        assert table["TIME"].max() <= header["TSTOP"] == gti.data["STOP"][0]
        assert gti.header["ONTIME"] == header["TSTOP"] - header["TSTART"]
        assert (header["TELESCOP"], header["INSTRUME"]) == ("GLAST", "LAT")
        # Bit 10 and the classes that hold it; bit 0 is the last element.
        assert set(31 - np.flatnonzero(table["EVENT_CLASS"][0])) == {4, 6, 7, 8, 9, 10}
        np.testing.assert_array_equal(table["EVENT_TYPE"].sum(axis=1), 1)
        np.testing.assert_array_equal(table["EVENT_TYPE"][:, 30], table["CONVERSION_TYPE"])
        np.testing.assert_array_equal(table["EVENT_ID"], np.arange(1, len(table) + 1))


@pytest.mark.data
def test_the_columns_are_those_of_real_files(
    tmp_path: Path, lat_data: Path, drawn_events: Events, front_back: Config
) -> None:
    path = tmp_path / "events.fits"
    write_events(drawn_events, front_back.channels, path, OBSERVATION)
    with (
        fits.open(lat_data / "events" / "fermi_2fhl_events.fits.gz") as real,
        fits.open(path) as own,
    ):
        formats = dict(zip(real[1].columns.names, real[1].columns.formats, strict=True))
        for name, form in zip(own[1].columns.names, own[1].columns.formats, strict=True):
            wanted = "D" if name in ("RA", "DEC", "L", "B") else formats[name]
            assert form == wanted, name
        left_out = set(formats) - set(own[1].columns.names)
        assert left_out == {
            "THETA", "PHI", "ZENITH_ANGLE", "EARTH_AZIMUTH_ANGLE", "LIVETIME",
            *(f"DIFRSP{n}" for n in range(5)),
        }  # fmt: skip
        for key in ("MJDREFI", "TIMEUNIT", "TIMESYS", "TIMEREF", "TELESCOP", "HDUCLAS1"):
            assert own[1].header[key] == real[1].header[key]
        assert own[1].header["MJDREFF"] == pytest.approx(real[1].header["MJDREFF"], abs=1e-12)


def test_writing_in_parts_changes_nothing(
    tmp_path: Path, drawn_events: Events, front_back: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = Events(
        drawn_events.photons.select(np.arange(1000)),
        drawn_events.energy_mev[:1000],
        drawn_events.time_s[:1000],
        drawn_events.event_type[:1000],
    )
    write_events(few, front_back.channels, tmp_path / "whole.fits", OBSERVATION)
    monkeypatch.setattr("geminga.sky.formats.ft1_write._CHUNK", 137)
    write_events(few, front_back.channels, tmp_path / "parts.fits", OBSERVATION)
    with fits.open(tmp_path / "whole.fits") as a, fits.open(tmp_path / "parts.fits") as b:
        assert a[1].data.tobytes() == b[1].data.tobytes()
        assert len(a[1].data) == 1000


def test_no_events(tmp_path: Path, front_back: Config) -> None:
    none = Events(empty_photons(), np.empty(0, np.float32), np.empty(0), np.empty(0, np.int8))
    path = tmp_path / "none.fits"
    write_events(none, front_back.channels, path, OBSERVATION)
    assert len(read_events([path], observed(event_class_bits=(10,)), front_back)) == 0
    assert len(EventList.read(path).table) == 0


def test_quartiles_do_not_tell_front_from_back(tmp_path: Path, front_back: Config) -> None:
    channels = [c.model_copy(update={"event_types": ("PSF3",)}) for c in front_back.channels[:2]]
    photons = Photons(np.eye(3, dtype=np.float32), np.zeros(3, np.int8), np.zeros(3, np.int8))
    some = Events(photons, np.full(3, 3e4, np.float32), np.full(3, 3e8), np.full(3, 5, np.int8))
    write_events(some, channels, tmp_path / "psf3.fits", OBSERVATION)
    with fits.open(tmp_path / "psf3.fits") as hdus:
        assert "CONVERSION_TYPE" not in hdus[1].columns.names
        assert (31 - np.flatnonzero(hdus[1].data["EVENT_TYPE"][0])).tolist() == [5]
        assert hdus[1].header["DSTYP4"] == "BIT_MASK(EVENT_TYPE,32,P8R2)"


def test_a_class_without_a_known_bit_is_named(
    drawn_events: Events, front_back: Config, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no EVENT_CLASS bit is known for 'P7REP_FANCY_V15'"):
        write_events(
            drawn_events,
            front_back.channels,
            tmp_path / "a.fits",
            replace(OBSERVATION, irf="P7REP_FANCY_V15"),
        )
    assert list(tmp_path.iterdir()) == []
