from __future__ import annotations

import gzip
import logging
from pathlib import Path
from typing import Any

import healpy as hp
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits

from geminga.config import Config, ObservedConfig
from geminga.errors import InputError
from geminga.geometry import lon_lat, separation_deg, unit_vectors
from geminga.sky.event_bits import bit_is_set
from geminga.sky.fits_input import equatorial_from_galactic, galactic_from_equatorial
from geminga.sky.ft1 import read_events
from geminga.sky.photons import NSIDE as PHOTON_NSIDE
from geminga.sky.photons import Photons

N = 40
DSS = [
    ("BIT_MASK(EVENT_CLASS,128,P8R2)", "DIMENSIONLESS", "1:1"),
    ("TIME", "s", "TABLE"),
    ("BIT_MASK(EVENT_TYPE,3,P8R2)", "DIMENSIONLESS", "1:1"),
    ("ENERGY", "MeV", "1000:500000"),
    ("ZENITH_ANGLE", "deg", "0:105"),
]


def typed(config: Config, *entries: str) -> Config:
    tree = config.model_dump()
    tree["response"]["event_types"] = entries
    return Config.model_validate(tree)


@pytest.fixture
def config2(config2: Config) -> Config:
    """All events, so that no test loses half of them by default."""
    return typed(config2, "FRONT+BACK")


def places(photons: Photons) -> np.ndarray:
    """Return the pixel each photon is kept in, sorted."""
    return np.sort(hp.vec2pix(PHOTON_NSIDE, *photons.xyz.astype(float).T, nest=True))


def bits(*numbers: int) -> np.ndarray:
    row = np.zeros(32, dtype=bool)
    row[[31 - number for number in numbers]] = True
    return row


def event_columns(n: int = N) -> dict[str, tuple[str, Any]]:
    rng = np.random.default_rng(3)
    lon, lat = rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    icrs = SkyCoord(lon, lat, unit="deg", frame="galactic").icrs
    classes = np.array([bits(7, 10) if i % 4 == 0 else bits(7) for i in range(n)])
    types = np.array([bits(i % 2, 2 + i % 4) for i in range(n)])
    return {
        "ENERGY": ("E", np.where(np.arange(n) % 2, 2000.0, 20000.0)),
        "RA": ("E", icrs.ra.deg),
        "DEC": ("E", icrs.dec.deg),
        "L": ("E", lon),
        "B": ("E", lat),
        "ZENITH_ANGLE": ("E", np.linspace(0, 104, n)),
        "TIME": ("D", np.linspace(1000.0, 1999.0, n)),
        "EVENT_CLASS": ("32X", classes),
        "EVENT_TYPE": ("32X", types),
    }


def write_events(
    path: Path,
    columns: dict[str, tuple[str, Any]] | None = None,
    dss: list[tuple[str, str, str]] = DSS,
    gti: list[tuple[float, float]] | None = None,
    units: dict[str, str] | None = None,
    **header: object,
) -> Path:
    columns = event_columns() if columns is None else columns
    events = fits.BinTableHDU.from_columns(
        [
            fits.Column(name, form, array=np.asarray(values), unit=(units or {}).get(name))
            for name, (form, values) in columns.items()
        ],
        name="EVENTS",
    )
    events.header["TSTART"], events.header["TSTOP"] = 1000.0, 2000.0
    for number, (kind, unit, value) in enumerate(dss, start=1):
        events.header[f"DSTYP{number}"] = kind
        events.header[f"DSUNI{number}"] = unit
        events.header[f"DSVAL{number}"] = value
    for key, value in header.items():
        if value is None:
            events.header.remove(key)
        else:
            events.header[key] = value
    hdus = [fits.PrimaryHDU(), events]
    if gti is not None:
        start, stop = np.array(gti).T
        hdus.append(
            fits.BinTableHDU.from_columns(
                [fits.Column("START", "D", array=start), fits.Column("STOP", "D", array=stop)],
                name="GTI",
            )
        )
    fits.HDUList(hdus).writeto(path)
    return path


def observed(**settings: Any) -> ObservedConfig:
    return ObservedConfig(events=("events.fits",), **settings)


def test_all_photons_with_band_year_and_position(tmp_path: Path, config2: Config):
    path = write_events(tmp_path / "a.fits")
    photons = read_events([path], observed(), config2)
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


def test_positions_come_from_ra_dec_without_l_b(tmp_path: Path, config2: Config):
    columns = event_columns()
    truth = unit_vectors(columns.pop("L")[1], columns.pop("B")[1])
    photons = read_events([write_events(tmp_path / "a.fits", columns)], observed(), config2)
    assert separation_deg(photons.xyz[:, None, :], truth[None]).min(axis=1).max() < 1e-3


def test_l_b_alone_are_enough(tmp_path: Path, config2: Config):
    columns = event_columns()
    del columns["RA"], columns["DEC"]
    photons = read_events([write_events(tmp_path / "a.fits", columns)], observed(), config2)
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


def test_disagreeing_positions_are_refused(tmp_path: Path, config2: Config):
    columns = event_columns()
    columns["L"] = ("E", columns["L"][1] + 1.0)
    path = write_events(tmp_path / "a.fits", columns)
    with pytest.raises(InputError, match="L, B and RA, DEC of a photon are"):
        read_events([path], observed(), config2)


def test_impossible_positions_are_refused(tmp_path: Path, config2: Config):
    columns = event_columns()
    columns["B"][1][5] = np.nan
    path = write_events(tmp_path / "a.fits", columns)
    with pytest.raises(InputError, match="1 events have no direction"):
        read_events([path], observed(), config2)


@pytest.mark.parametrize("form", ["32X", "32L", "J", "4B"])
def test_class_bits_in_every_storage(tmp_path: Path, config2: Config, form: str):
    columns = event_columns()
    for name in ("EVENT_CLASS", "EVENT_TYPE"):
        values = columns[name][1]
        packed = np.packbits(values, axis=1)
        stored = {
            "32X": values,
            "32L": values,
            "4B": packed,
            "J": packed.view(">u4").ravel().astype(np.int32),
        }
        columns[name] = (form, stored[form])
    path = write_events(tmp_path / "a.fits", columns)
    assert len(read_events([path], observed(event_class_bits=(7,)), config2)) == N
    assert len(read_events([path], observed(event_class_bits=(7, 10)), config2)) == N // 4
    assert len(read_events([path], observed(), typed(config2, "FRONT"))) == N // 2
    assert len(read_events([path], observed(), typed(config2, "FRONT", "BACK"))) == N
    some = read_events([path], observed(event_class_bits=(10,)), typed(config2, "BACK"))
    assert len(some) == 0


def test_bit_zero_is_the_last_element():
    values = np.zeros((1, 32), dtype=bool)
    values[0, 31] = True
    assert bit_is_set(values, 0, "x")[0]
    assert not bit_is_set(values, 31, "x")[0]
    assert bit_is_set(np.array([-(2**31)], dtype=np.int32), 31, "x")[0]


@pytest.mark.parametrize("bit", [-1, 32])
def test_a_bit_the_column_has_not_is_refused(bit: int):
    with pytest.raises(InputError, match=f"has no bit {bit}"):
        bit_is_set(np.zeros((1, 32), dtype=bool), bit, "x")


def test_a_column_of_numbers_is_not_bits():
    with pytest.raises(InputError, match="not bits"):
        bit_is_set(np.zeros(3), 0, "x")


def test_zenith_cut_looser_in_the_file_is_applied(tmp_path: Path, config2: Config):
    path = write_events(tmp_path / "a.fits")
    photons = read_events([path], observed(max_zenith_deg=52.0), config2)
    assert len(photons) == np.sum(event_columns()["ZENITH_ANGLE"][1] <= 52.0)


def test_zenith_cut_tighter_in_the_file_is_logged(
    tmp_path: Path, config2: Config, caplog: pytest.LogCaptureFixture
):
    path = write_events(tmp_path / "a.fits")
    read_events([path], observed(max_zenith_deg=110.0), config2)
    assert "zenith angle 105 deg, below the 110 deg asked for" in caplog.text


def test_the_zenith_column_is_not_needed_when_the_file_was_cut(tmp_path: Path, config2: Config):
    columns = event_columns()
    del columns["ZENITH_ANGLE"]
    path = write_events(tmp_path / "a.fits", columns)
    assert len(read_events([path], observed(max_zenith_deg=105.0), config2)) == N
    with pytest.raises(InputError, match="no column ZENITH_ANGLE"):
        read_events([path], observed(max_zenith_deg=100.0), config2)


def test_time_range_cuts_and_sets_the_years(tmp_path: Path, config2: Config):
    path = write_events(tmp_path / "a.fits")
    photons = read_events([path], observed(time_range_met_s=(1000.0, 1500.0)), config2)
    time = event_columns()["TIME"][1]
    assert len(photons) == np.sum(time < 1500.0)
    years = np.floor((time[: len(photons)] - 1000) / 125).astype(int)
    np.testing.assert_array_equal(np.bincount(photons.year), np.bincount(years))


def test_good_time_intervals_set_the_years(tmp_path: Path, config2: Config):
    path = write_events(tmp_path / "a.fits", gti=[(1000.0, 1100.0), (1500.0, 5000.0)])
    assert read_events([path], observed(), config2).year.max() == 0
    early = write_events(tmp_path / "b.fits", gti=[(1200.0, 2000.0)])
    assert read_events([early], observed(), config2).year.min() == 0


def test_photons_outside_the_good_time_are_logged(
    tmp_path: Path, config2: Config, caplog: pytest.LogCaptureFixture
):
    path = write_events(tmp_path / "a.fits", gti=[(1200.0, 2000.0)])
    read_events([path], observed(), config2)
    assert "8 photons lie outside the time" in caplog.text


def test_reading_in_parts_changes_nothing(
    tmp_path: Path, config2: Config, monkeypatch: pytest.MonkeyPatch
):
    path = write_events(tmp_path / "a.fits")
    asked = observed(event_class_bits=(7,), max_zenith_deg=90.0)
    config2 = typed(config2, "FRONT")
    whole = read_events([path], asked, config2)
    monkeypatch.setattr("geminga.sky.ft1._CHUNK", 7)
    parts = read_events([path], asked, config2)
    for name in ("xyz", "channel", "year"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))


def test_two_files_are_one_observation(tmp_path: Path, config2: Config):
    paths = [write_events(tmp_path / name) for name in ("a.fits", "b.fits")]
    assert len(read_events(paths, observed(), config2)) == 2 * N


def test_no_time_keywords_and_several_years_is_refused(tmp_path: Path, config2: Config):
    path = write_events(tmp_path / "a.fits", TSTART=None, TSTOP=None)
    with pytest.raises(InputError, match="neither good time intervals nor TSTART"):
        read_events([path], observed(), config2)


def test_empty_list_gives_no_photons(tmp_path: Path, config2: Config):
    path = write_events(tmp_path / "full.fits")
    with fits.open(path) as hdus:
        hdus["EVENTS"].data = hdus["EVENTS"].data[:0]
        path = tmp_path / "empty.fits"
        hdus.writeto(path)
    photons = read_events([path], observed(event_class_bits=(7,)), config2)
    assert len(photons) == 0
    assert photons.xyz.shape == (0, 3)
    assert photons.xyz.dtype == np.float32


@pytest.mark.parametrize("name", ["ENERGY", "TIME", "EVENT_CLASS", "EVENT_TYPE"])
def test_a_missing_column_is_named(tmp_path: Path, config2: Config, name: str):
    columns = event_columns()
    del columns[name]
    path = write_events(tmp_path / "a.fits", columns)
    with pytest.raises(InputError, match=f"table EVENTS has no column {name}"):
        read_events([path], observed(event_class_bits=(7,)), typed(config2, "FRONT"))


def test_no_position_columns_at_all(tmp_path: Path, config2: Config):
    columns = {k: v for k, v in event_columns().items() if k not in ("L", "RA", "DEC")}
    path = write_events(tmp_path / "a.fits", columns)
    with pytest.raises(InputError, match="no column RA, DEC"):
        read_events([path], observed(), config2)


def test_other_energy_units_are_converted(tmp_path: Path, config2: Config):
    columns = event_columns()
    columns["ENERGY"] = ("D", np.asarray(columns["ENERGY"][1]) / 1e6)
    path = write_events(tmp_path / "a.fits", columns, units={"ENERGY": "TeV"})
    assert len(read_events([path], observed(), config2)) == N
    odd = write_events(tmp_path / "b.fits", columns, units={"ENERGY": "deg"})
    with pytest.raises(InputError, match="unit 'deg' is not one of MeV"):
        read_events([odd], observed(), config2)


def with_dss(kind: str, value: str, unit: str = "MeV") -> list[tuple[str, str, str]]:
    return [(kind, unit, value)]


def test_a_file_that_starts_above_the_first_band_is_refused(tmp_path: Path, config2: Config):
    path = write_events(tmp_path / "a.fits", dss=with_dss("ENERGY", "2000:500000"))
    with pytest.raises(InputError, match="DSS energy cut 2000:500000 MeV starts above"):
        read_events([path], observed(), config2)


def test_a_file_that_ends_below_the_last_band_is_refused(tmp_path: Path, config2: Config):
    path = write_events(tmp_path / "a.fits", dss=with_dss("ENERGY", "1000:3000"))
    with pytest.raises(InputError, match="ends below the last band"):
        read_events([path], observed(), config2)


def test_a_cut_that_is_no_range_is_refused(tmp_path: Path, config2: Config):
    path = write_events(tmp_path / "a.fits", dss=with_dss("ENERGY", "many"))
    with pytest.raises(InputError, match="'many' is not a range"):
        read_events([path], observed(), config2)


def test_a_file_without_the_asked_event_type_is_refused(tmp_path: Path, config2: Config):
    path = write_events(tmp_path / "a.fits", dss=with_dss("BIT_MASK(EVENT_TYPE,1,P8R2)", "1:1"))
    with pytest.raises(InputError, match=r"event type bits \[0\] only, without \[1\]"):
        read_events([path], observed(), config2)
    assert len(read_events([path], observed(), typed(config2, "FRONT"))) == N // 2


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
    config2: Config,
    caplog: pytest.LogCaptureFixture,
    dss: list[tuple[str, str, str]],
    settings: dict[str, Any],
    message: str,
):
    with caplog.at_level(logging.WARNING):
        read_events([write_events(tmp_path / "a.fits", dss=dss)], observed(**settings), config2)
    assert message in caplog.text


def test_no_file_named(config2: Config):
    with pytest.raises(InputError, match="names no file"):
        read_events([], observed(), config2)


def test_missing_file(tmp_path: Path, config2: Config):
    with pytest.raises(InputError, match="does not exist"):
        read_events([tmp_path / "none.fits"], observed(), config2)


@pytest.mark.parametrize("content", [b"", b"no FITS at all" * 500])
def test_not_fits(tmp_path: Path, config2: Config, content: bytes):
    path = tmp_path / "a.fits"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a readable FITS file"):
        read_events([path], observed(), config2)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_truncated(tmp_path: Path, config2: Config, kept: float, zipped: bool):
    path = write_events(tmp_path / "a.fits", event_columns(2000), gti=[(1000.0, 2000.0)])
    content = path.read_bytes()
    content = gzip.compress(content) if zipped else content
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError, match=r"truncated|not a readable FITS"):
        read_events([path], observed(), config2)


def test_no_events_table(tmp_path: Path, config2: Config):
    path = tmp_path / "a.fits"
    fits.PrimaryHDU().writeto(path)
    with pytest.raises(InputError, match="has no table EVENTS"):
        read_events([path], observed(), config2)


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        (("FRONT", "BACK"), {0: N // 4, 1: N // 4, 2: N // 4, 3: N // 4}),
        (("BACK",), {0: N // 2}),
        (("PSF1+PSF3", "PSF0"), {0: N // 2, 3: N // 4}),
        (("PSF0+PSF1+PSF2+PSF3",), {0: N // 2, 1: N // 2}),
    ],
)
def test_each_event_goes_to_the_channel_of_its_type(
    tmp_path: Path, config2: Config, entries: tuple[str, ...], wanted: dict[int, int]
):
    columns = event_columns()
    number = np.arange(N)
    if entries[0].startswith("FRONT"):
        # Energies that do not go with the type, so that all four channels are filled.
        columns["ENERGY"] = ("E", np.where(number // 2 % 2, 2000.0, 20000.0))
    photons = read_events(
        [write_events(tmp_path / "a.fits", columns)], observed(), typed(config2, *entries)
    )
    if entries == ("BACK",):
        # Odd events are BACK and have 2 GeV.
        assert (photons.channel == 0).all()
    found = dict(zip(*np.unique(photons.channel, return_counts=True), strict=True))
    assert found == wanted
    assert photons.origin["event_types"] == ", ".join(entries)


def test_conversion_type_stands_in_for_front_and_back(tmp_path: Path, config2: Config):
    columns = event_columns()
    del columns["EVENT_TYPE"]
    columns["CONVERSION_TYPE"] = ("I", np.arange(N) % 2)
    path = write_events(tmp_path / "a.fits", columns)
    both = read_events([path], observed(), typed(config2, "BACK", "FRONT"))
    np.testing.assert_array_equal(np.bincount(both.channel), [N // 2, 0, 0, N // 2])
    with pytest.raises(InputError, match="table EVENTS has no column EVENT_TYPE"):
        read_events([path], observed(), typed(config2, "PSF3"))
    columns["CONVERSION_TYPE"][1][7] = 2
    odd = write_events(tmp_path / "b.fits", columns)
    with pytest.raises(InputError, match=r"CONVERSION_TYPE of 1 events .* names 0 of the event"):
        read_events([odd], observed(), typed(config2, "BACK"))


def test_all_events_need_no_event_types(tmp_path: Path, config2: Config):
    columns = event_columns()
    del columns["EVENT_TYPE"]
    path = write_events(tmp_path / "a.fits", columns)
    assert len(read_events([path], observed(), config2)) == N
    with pytest.raises(InputError, match="table EVENTS has no column EVENT_TYPE"):
        read_events([path], observed(), typed(config2, "FRONT"))


@pytest.mark.parametrize(
    ("row", "entry", "message"),
    [
        (bits(), "FRONT", r"EVENT_TYPE of 1 events .* names 0 of the .* one of bits \[0, 1\]"),
        (bits(0, 1), "BACK", r"EVENT_TYPE of 1 events .* names 2 of the event types"),
        (bits(0, 9), "PSF3", r"names 0 of the .* one of bits \[2, 3, 4, 5\]"),
        (bits(31), "FRONT", r"EVENT_TYPE of 1 events .*energy 20000.*names 0"),
    ],
)
def test_events_of_no_type_or_two_are_refused(
    tmp_path: Path, config2: Config, row: np.ndarray, entry: str, message: str
):
    columns = event_columns()
    columns["EVENT_TYPE"][1][4] = row
    path = write_events(tmp_path / "a.fits", columns)
    with pytest.raises(InputError, match=message):
        read_events([path], observed(), typed(config2, entry))


@pytest.mark.parametrize(
    "entries", [("FRONT", "FRONT+BACK"), ("FRONT", "PSF2"), ("BACK", "BACK"), ("PSF0+PSF0",)]
)
def test_selections_that_share_events_are_refused(
    tmp_path: Path, config2: Config, entries: tuple[str, ...]
):
    path = write_events(tmp_path / "a.fits")
    with pytest.raises(InputError, match=r"response\.event_types: .* count events twice"):
        read_events([path], observed(), typed(config2, *entries))


def test_an_unknown_event_type_is_named(tmp_path: Path, config2: Config):
    path = write_events(tmp_path / "a.fits")
    with pytest.raises(InputError, match="unknown event type 'PSF4'; choose from FRONT, BACK"):
        read_events([path], observed(), typed(config2, "PSF4"))


def with_zenith(config: Config, *limits: float) -> Config:
    tree = config.model_dump()
    for band, limit in zip(tree["bands"], limits, strict=True):
        band["max_zenith_deg"] = limit
    return Config.model_validate(tree)


def test_each_band_has_its_zenith_cut(tmp_path: Path, config2: Config):
    path = write_events(tmp_path / "a.fits")
    columns = event_columns()
    zenith, low = columns["ZENITH_ANGLE"][1], columns["ENERGY"][1] < 3000.0
    photons = read_events([path], observed(), with_zenith(config2, 30.0, 90.0))
    wanted = [np.sum(zenith[low] <= 30.0), np.sum(zenith[~low] <= 90.0)]
    np.testing.assert_array_equal(np.bincount(photons.channel), wanted)
    lower = read_events([path], observed(max_zenith_deg=60.0), with_zenith(config2, 30.0, 90.0))
    np.testing.assert_array_equal(
        np.bincount(lower.channel), [wanted[0], np.sum(zenith[~low] <= 60.0)]
    )


def test_a_list_without_zenith_angles_is_taken_as_cut(
    tmp_path: Path, config2: Config, caplog: pytest.LogCaptureFixture
):
    columns = event_columns()
    del columns["ZENITH_ANGLE"]
    path = write_events(tmp_path / "a.fits", columns)
    assert len(read_events([path], observed(), with_zenith(config2, 90.0, 105.0))) == N
    assert "no column ZENITH_ANGLE: its events are taken to be cut" in caplog.text
    assert "90 deg at the least" in caplog.text


def test_events_without_a_zenith_angle_are_refused(tmp_path: Path, config2: Config):
    columns = event_columns()
    columns["ZENITH_ANGLE"][1][3:5] = np.nan
    path = write_events(tmp_path / "a.fits", columns)
    for asked in (observed(), observed(max_zenith_deg=60.0)):
        with pytest.raises(
            InputError, match=r"2 events have no zenith angle \(ZENITH_ANGLE is nan"
        ):
            read_events([path], asked, with_zenith(config2, 90.0, 105.0))


def test_a_circle_of_the_whole_sky_is_no_cut(
    tmp_path: Path, config2: Config, caplog: pytest.LogCaptureFixture
):
    dss = [*DSS, ("POS(RA,DEC)", "deg", "CIRCLE(0,0,180)")]
    read_events([write_events(tmp_path / "a.fits", dss=dss)], observed(), config2)
    assert "not the whole sky" not in caplog.text
