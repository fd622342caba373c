"""Simulated events: the photons of the draw, with energies, times and types of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import pytest
from astropy.io import fits
from gammapy.data import GTI, EventList
from scipy import stats

from geminga.bands import Band
from geminga.config import Config, ObservedConfig
from geminga.errors import InputError
from geminga.geometry import separation_deg, tangent_frames, unit_vectors
from geminga.patches.project import bin_photons
from geminga.response import Response, build_response, interpolate_energy
from geminga.sky.diffuse import DiffuseCounts, diffuse_counts, interstellar_models, isotropic_model
from geminga.sky.event_spectra import DiffuseSpectra, energy_grid, table_of
from geminga.sky.events import Events, TypeShares, draw_events, single_precision_edges
from geminga.sky.ft1 import read_events
from geminga.sky.ft1_write import write_events
from geminga.sky.healpix import read_counts
from geminga.sky.healpix_write import write_counts
from geminga.sky.observation import Observation, observation_of
from geminga.sky.observe import draw_photons
from geminga.sky.photons import Photons, empty_photons
from geminga.sky.population import load_population
from geminga.sky.sky import Sky, expected_counts, simulate_sky
from geminga.sky.sources import SourceSet
from geminga.sky.spectra import LOG_PARABOLA, PLEC, differential
from geminga.tables import TRUTH

OBSERVATION = Observation("P8R2_ULTRACLEANVETO_V6", 239557417.0, 539557417.0)


@pytest.fixture(scope="module")
def config(config2: Config) -> Config:
    """Two bands of front and of back events, few photons."""
    tree = config2.model_dump()
    tree["bands"][0].update(emin_gev=20, emax_gev=50)
    tree["bands"][1].update(emin_gev=50, emax_gev=500)
    tree["response"].update(event_types=["FRONT", "BACK"], duration_years=1.0)
    return Config.model_validate(tree)


@pytest.fixture(scope="module")
def response(config: Config) -> Response:
    return build_response(config)


@pytest.fixture(scope="module")
def spectra(config: Config) -> DiffuseSpectra:
    return DiffuseSpectra(interstellar_models(config)[0], isotropic_model(config))


@pytest.fixture(scope="module")
def sky(config: Config, response: Response) -> Sky:
    diffuse = diffuse_counts(config, response)
    return simulate_sky(config, response, load_population("4fgl_dr2"), diffuse, 2_000_000)


@pytest.fixture(scope="module")
def events(sky: Sky, response: Response, spectra: DiffuseSpectra) -> Events:
    return draw_events(sky, response, spectra, OBSERVATION, 5)


def same(a: Photons, b: Photons) -> None:
    for name in ("xyz", "channel", "year"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_the_photons_are_those_of_the_draw(sky: Sky, events: Events) -> None:
    same(events.photons, draw_photons(sky, 5))
    assert len(events) > 20_000
    assert events.photons.origin == draw_photons(sky, 5).origin


def test_energies_and_times_lie_in_band_and_bin(
    sky: Sky, events: Events, config: Config, response: Response, spectra: DiffuseSpectra
) -> None:
    assert (events.energy_mev.dtype, events.time_s.dtype) == (np.float32, np.float64)
    for number, channel in enumerate(config.channels):
        mine = events.photons.channel == number
        energy = events.energy_mev[mine].astype(np.float64)
        assert (energy >= channel.emin_gev * 1e3).all()
        assert (energy < channel.emax_gev * 1e3).all()
        assert set(events.event_type[mine]) == {0 if channel.event_types == ("FRONT",) else 1}
    width = (OBSERVATION.stop_s - OBSERVATION.start_s) / sky.years
    part = (events.time_s - OBSERVATION.start_s) / width - events.photons.year
    assert ((part > 0) & (part < 1)).all()
    assert stats.kstest(part, "uniform").pvalue > 1e-4
    again = draw_events(sky, response, spectra, OBSERVATION, 5)
    np.testing.assert_array_equal(again.energy_mev, events.energy_mev)
    np.testing.assert_array_equal(again.time_s, events.time_s)


def test_the_whole_sky_has_the_spectrum_of_its_counts_in_finer_bands(
    config: Config, sky: Sky, events: Events, response: Response
) -> None:
    """Photons of one wide band, counted in finer ones, are as many as those are expected to be."""
    tree = config.model_dump()
    tree["bands"][1].update(emin_gev=100, emax_gev=500)
    finer = Config.model_validate(tree)
    fine_response = build_response(finer)
    counts, _ = expected_counts(sky.sources.table, fine_response)
    fine = replace(
        sky,
        channels=finer.channels,
        source_counts=counts,
        diffuse=diffuse_counts(finer, fine_response),
    )
    wanted = fine.totals().sum(axis=(0, 2))[[1, 3]]
    for channel, expected in zip((1, 3), wanted, strict=True):
        energy = events.energy_mev[events.photons.channel == channel]
        found = np.sum(energy >= 1e5)
        assert found == pytest.approx(expected, abs=5 * np.sqrt(expected) + 0.01 * expected)


def bright(response: Response, rows: list[dict[str, Any]], counts: float) -> Sky:
    """Return a sky of some sources with equal counts in each channel and year, and nothing else."""
    n = len(rows)
    data = {c.name: np.zeros(n) for c in TRUTH.columns if c.dtype != "str"}
    text = {c.name: ["PSR"] * n for c in TRUTH.columns if c.dtype == "str"}
    given = {name: [row[name] for row in rows] for name in rows[0]}
    table = TRUTH.frame({**data, **text, **given})
    channels = response.channels
    years = len(response.year_share.maps)
    return Sky(
        7,
        channels,
        ("PSR",),
        SourceSet(table, np.ones((n, years))),
        np.full((n, len(channels)), counts),
        np.full((n, len(channels)), 2.3),
        np.full((n, years), 1.0 / years),
        DiffuseCounts.of_maps(*np.zeros((2, len(channels), 12 * 64**2), np.float32)),
        0,
        np.ones((3, len(channels))),
        np.empty(0),
        response.psf,
        response.year_share,
    )


SOURCES: list[dict[str, Any]] = [
    {"form": LOG_PARABOLA, "norm": 1e-12, "pivot_mev": 1e3, "index": 2.0, "curvature": 0.3},
    {"form": PLEC, "norm": 1e-12, "pivot_mev": 1e3, "index": 1.5, "curvature": 2e-3},
    {"form": LOG_PARABOLA, "norm": 1e-12, "pivot_mev": 1e3, "index": 1.0, "curvature": 0.0},
]


def test_source_energies_follow_spectrum_times_exposure(
    response: Response, spectra: DiffuseSpectra
) -> None:
    places = [(10.0, 80.0), (120.0, -60.0), (250.0, 5.0)]
    rows = [
        {**row, "exp_index": 2.0 / 3.0, "lon_deg": lon, "lat_deg": lat}
        for row, (lon, lat) in zip(SOURCES, places, strict=True)
    ]
    sky = bright(response, rows, 20_000.0)
    events = draw_events(sky, response, spectra, OBSERVATION, 1)
    for row, (lon, lat) in zip(rows, places, strict=True):
        near = separation_deg(
            events.photons.xyz.astype(np.float64), unit_vectors(np.array(lon), np.array(lat))
        )
        for number, channel in enumerate(response.channels):
            mine = (near < 20.0) & (events.photons.channel == number)
            energy = np.geomspace(channel.emin_gev * 1e3, channel.emax_gev * 1e3, 4001)
            flux = differential(
                [row["form"]],
                *(row[k] for k in ("norm", "pivot_mev", "index", "curvature", "exp_index")),
                energy,
            )[0]
            exposure = response.exposures[number]
            seen = interpolate_energy(
                exposure.at(np.array([lon]), np.array([lat])), exposure.energy_mev, energy
            )[:, 0]
            weight = flux * seen * energy
            contained = np.append(0.0, np.cumsum(0.5 * (weight[1:] + weight[:-1])))
            contained /= contained[-1]
            found = events.energy_mev[mine].astype(np.float64)
            assert len(found) > 18_000
            distance = stats.kstest(
                found, lambda e, x=energy, c=contained: np.interp(e, x, c)
            ).statistic
            # 1 in 10^5 by chance at 20,000 events.
            assert distance < 0.0175


def test_isotropic_and_interstellar_photons_have_their_own_spectra(
    response: Response, spectra: DiffuseSpectra
) -> None:
    empty = bright(response, [{"form": LOG_PARABOLA, "norm": 1e-20}], 0.0)
    maps = np.zeros((2, len(response.channels), 12 * 64**2), np.float32)
    centre = healpy.query_disc(64, (1.0, 0.0, 0.0), np.radians(4.0))
    pole = healpy.query_disc(64, (0.0, 0.0, 1.0), np.radians(20.0))
    maps[0][:, centre] = 2e6
    maps[1][:, pole] = 1e5
    sky = replace(empty, diffuse=DiffuseCounts.of_maps(*maps))
    events = draw_events(sky, response, spectra, OBSERVATION, 2)
    inside = events.photons.xyz[:, 2] < 0.5
    number = 1
    channel = response.channels[number]
    energy = np.geomspace(channel.emin_gev * 1e3, channel.emax_gev * 1e3, 400)
    exposure = response.exposures[number]
    seen = exposure.mean()
    seen = np.exp(np.interp(np.log(energy), np.log(exposure.energy_mev), np.log(seen)))
    planes = np.array(
        [
            spectra.interstellar.plane(k, 64)[centre].mean()
            for k in range(len(spectra.interstellar.energy_mev))
        ]
    )
    nodes = np.log(spectra.interstellar.energy_mev)
    # The last piece of the model goes on straight.
    slope = (np.log(planes[-1]) - np.log(planes[-2])) / (nodes[-1] - nodes[-2])
    log_plane = np.interp(np.log(energy), nodes, np.log(planes))
    log_plane += np.maximum(np.log(energy) - nodes[-1], 0.0) * slope
    for mine, intensity in (
        (inside, np.exp(log_plane)),
        (~inside, spectra.isotropic.at(energy)),
    ):
        weight = intensity * seen * energy
        mean = np.sum(weight * np.log(energy)) / weight.sum()
        found = np.log(events.energy_mev[mine & (events.photons.channel == number)])
        assert len(found) > 10_000
        assert found.mean(dtype=np.float64) == pytest.approx(
            mean, abs=5 * found.std() / np.sqrt(len(found)) + 0.01
        )


def test_power_laws_are_drawn_exactly() -> None:
    x = energy_grid(Band(emin_gev=1, emax_gev=100, nside=1, pixels=1))
    table = table_of(x, np.array([-3.0, 0.0, 1.0])[:, None] * x)
    u = np.linspace(0.0, 1.0 - 1e-12, 1001)
    for row, slope in enumerate((-3.0, 0.0, 1.0)):
        found = table.draw(np.full(len(u), row), u)
        if slope == 0.0:
            wanted = 1e3 * 100.0**u
        else:
            wanted = 1e3 * (1.0 + u * (100.0**slope - 1.0)) ** (1.0 / slope)
        # Shares are kept in single precision: the last few of 10^6 events move a little.
        inside = u < 0.999
        np.testing.assert_allclose(found[inside], wanted[inside], rtol=2e-4)
        assert (np.diff(found) >= 0).all()


def test_a_spectrum_that_vanishes_in_the_band_stays_inside() -> None:
    x = energy_grid(Band(emin_gev=1, emax_gev=1000, nside=1, pixels=1))
    table = table_of(x, np.where(x > np.log(2e3), -690.0, -40.0 * x)[None])
    found = table.draw(np.zeros(1000, np.int64), np.linspace(0, 1 - 1e-16, 1000))
    assert np.isfinite(found).all()
    assert ((found >= 999.9) & (found < 2.6e3)).all()


def test_added_types_are_drawn_by_their_shares(
    config: Config, response: Response, spectra: DiffuseSpectra
) -> None:
    channels = tuple(
        channel.model_copy(update={"event_types": ("PSF1", "PSF2", "PSF3")})
        for channel in response.channels[:2]
    )
    few = replace(
        response,
        channels=channels,
        exposures=response.exposures[:2],
        nodes=response.nodes[:2],
    )
    rows = [{**SOURCES[2], "exp_index": 1.0, "lon_deg": 1.0, "lat_deg": 2.0}]
    sky = bright(few, rows, 30_000.0)
    energy = np.array([1e3, 5e4, 5.001e4, 1e6])
    share = np.array([[0.5, 0.5, 0.2, 0.2], [0.3, 0.3, 0.2, 0.2], [0.2, 0.2, 0.6, 0.6]])
    shares = {("PSF1", "PSF2", "PSF3"): TypeShares(energy, share)}
    events = draw_events(sky, few, spectra, OBSERVATION, 1, shares)
    for number, wanted in ((0, share[:, 0]), (1, share[:, 3])):
        types = events.event_type[events.photons.channel == number]
        np.testing.assert_allclose(
            np.bincount(types, minlength=6)[3:] / len(types), wanted, atol=0.015
        )
    plain = draw_events(sky, few, spectra, OBSERVATION, 1)
    np.testing.assert_allclose(
        np.bincount(plain.event_type, minlength=6)[3:] / len(plain), 1 / 3, atol=0.01
    )
    np.testing.assert_array_equal(plain.energy_mev, events.energy_mev)


def test_band_edges_that_single_precision_cannot_hold() -> None:
    for low, high in ((0.1, 0.3), (18.651314, 34.7862), (1.0, 2.0)):
        band = Band(emin_gev=low, emax_gev=high, nside=1, pixels=1)
        first, last = single_precision_edges(band)
        assert low * 1e3 <= float(first) < low * 1e3 * (1 + 1e-6)
        assert high * 1e3 * (1 - 1e-6) < float(last) < high * 1e3


def observed(**settings: Any) -> ObservedConfig:
    return ObservedConfig(events=("events.fits",), **settings)


def test_written_events_are_read_as_the_same_photons(
    tmp_path: Path, events: Events, config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "events.fits"
    write_events(events, config.channels, path, OBSERVATION, [("SKY_ID", 2, "sky")])
    asked = observed(event_class_bits=(10,), max_zenith_deg=105.0)
    back = read_events([path], asked, config)
    same(back, events.photons)
    assert caplog.text == ""
    frames = tangent_frames(np.array([0.0, 100.0, 9.0]), np.array([0.0, -30.0, 89.0]))
    for a, b in zip(
        bin_photons(back, frames, 10.0, config.channels),
        bin_photons(events.photons, frames, 10.0, config.channels),
        strict=True,
    ):
        np.testing.assert_array_equal(a, b)
        assert a.sum() > 0
    # The map of the list has the same photons again, pixel by pixel.
    paths = write_counts(back, config.channels, tmp_path, OBSERVATION)
    with fits.open(paths[0]) as hdus:
        mine = events.photons.xyz[events.photons.channel == 0].astype(np.float64)
        nside = config.channels[0].nside
        counts = np.bincount(healpy.vec2pix(nside, *mine.T), minlength=12 * nside**2)
        np.testing.assert_array_equal(hdus["SKYMAP"].data["CHANNEL1"], counts)
    maps = {name: [p for p in paths if f"_{name}_" in p.name] for name in ("FRONT", "BACK")}
    settings = ObservedConfig(counts=maps_as_text(maps), event_class_bits=(10,))
    drawn = read_counts(maps, config.model_copy(update={"observed": settings}))
    for number, channel in enumerate(config.channels):
        whole = [
            np.bincount(
                healpy.vec2pix(channel.nside, *p.xyz[p.channel == number].T.astype(np.float64)),
                minlength=12 * channel.nside**2,
            )
            for p in (drawn, events.photons)
        ]
        np.testing.assert_array_equal(*whole)


def maps_as_text(maps: dict[str, list[Path]]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(str(path) for path in paths) for name, paths in maps.items()}


def test_gammapy_opens_the_list(tmp_path: Path, events: Events, config: Config) -> None:
    path = tmp_path / "events.fits"
    write_events(events, config.channels, path, OBSERVATION)
    read = EventList.read(path)
    assert len(read.table) == len(events)
    lon, lat = events.photons.lon_lat()
    assert separation_deg(
        unit_vectors(read.galactic.l.deg, read.galactic.b.deg), unit_vectors(lon, lat)
    ).max() == pytest.approx(0, abs=1e-7)
    assert read.radec.frame.name == "icrs"
    np.testing.assert_array_equal(read.energy.to_value("MeV").astype(np.float32), events.energy_mev)
    elapsed = (read.time - read.time_ref).to_value("s")
    np.testing.assert_allclose(elapsed, events.time_s, atol=1e-4)
    assert read.observation_time_start.utc.isot == "2008-08-04T15:43:36.000"
    assert read.table["EVENT_CLASS"].shape == (len(events), 32)
    both = EventList.from_stack([read, EventList.read(path)])
    assert len(both.table) == 2 * len(events)
    assert GTI.read(path).time_sum.to_value("s") == 3e8


def test_the_keywords_fit_the_events(tmp_path: Path, events: Events, config: Config) -> None:
    path = tmp_path / "events.fits"
    write_events(events, config.channels, path, OBSERVATION, [("SKY_ID", 2, "sky")])
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
    tmp_path: Path, lat_data: Path, events: Events, config: Config
) -> None:
    path = tmp_path / "events.fits"
    write_events(events, config.channels, path, OBSERVATION)
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
    tmp_path: Path, events: Events, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = Events(
        events.photons.select(np.arange(1000)),
        events.energy_mev[:1000],
        events.time_s[:1000],
        events.event_type[:1000],
    )
    write_events(few, config.channels, tmp_path / "whole.fits", OBSERVATION)
    monkeypatch.setattr("geminga.sky.ft1_write._CHUNK", 137)
    write_events(few, config.channels, tmp_path / "parts.fits", OBSERVATION)
    with fits.open(tmp_path / "whole.fits") as a, fits.open(tmp_path / "parts.fits") as b:
        assert a[1].data.tobytes() == b[1].data.tobytes()
        assert len(a[1].data) == 1000


def test_no_events(tmp_path: Path, config: Config) -> None:
    none = Events(empty_photons(), np.empty(0, np.float32), np.empty(0), np.empty(0, np.int8))
    path = tmp_path / "none.fits"
    write_events(none, config.channels, path, OBSERVATION)
    assert len(read_events([path], observed(event_class_bits=(10,)), config)) == 0
    assert len(EventList.read(path).table) == 0


def test_quartiles_do_not_tell_front_from_back(tmp_path: Path, config: Config) -> None:
    channels = [c.model_copy(update={"event_types": ("PSF3",)}) for c in config.channels[:2]]
    photons = Photons(np.eye(3, dtype=np.float32), np.zeros(3, np.int8), np.zeros(3, np.int8))
    some = Events(photons, np.full(3, 3e4, np.float32), np.full(3, 3e8), np.full(3, 5, np.int8))
    write_events(some, channels, tmp_path / "psf3.fits", OBSERVATION)
    with fits.open(tmp_path / "psf3.fits") as hdus:
        assert "CONVERSION_TYPE" not in hdus[1].columns.names
        assert (31 - np.flatnonzero(hdus[1].data["EVENT_TYPE"][0])).tolist() == [5]
        assert hdus[1].header["DSTYP4"] == "BIT_MASK(EVENT_TYPE,32,P8R2)"


def test_a_class_without_a_known_bit_is_named(
    events: Events, config: Config, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="no EVENT_CLASS bit is known for 'P7REP_FANCY_V15'"):
        write_events(
            events,
            config.channels,
            tmp_path / "a.fits",
            replace(OBSERVATION, irf="P7REP_FANCY_V15"),
        )
    assert list(tmp_path.iterdir()) == []


def test_an_observation_lasts_as_configured(config: Config) -> None:
    observation = observation_of(config)
    assert observation.start_s == 239557417.0
    assert observation.stop_s - observation.start_s == 365.25 * 86400
