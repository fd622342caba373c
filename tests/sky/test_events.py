"""Simulated events: the photons of the draw, with energies, times and types of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import healpy
import numpy as np
import pytest
from event_lists import OBSERVATION, same
from scipy import stats

from geminga.bands import Band
from geminga.config import Config
from geminga.geometry import separation_deg, unit_vectors
from geminga.response import Response, build_response, interpolate_energy
from geminga.sky.emission.diffuse import DiffuseCounts, diffuse_counts
from geminga.sky.event_spectra import DiffuseSpectra, energy_grid, table_of
from geminga.sky.events import Events, TypeShares, draw_events, single_precision_edges
from geminga.sky.observation import observation_of
from geminga.sky.observe import draw_photons
from geminga.sky.populations.sources import SourceSet
from geminga.sky.sky import Sky, expected_counts
from geminga.sky.spectra import LOG_PARABOLA, PLEC, differential
from geminga.tables import TRUTH


def test_the_photons_are_those_of_the_draw(front_back_sky: Sky, drawn_events: Events) -> None:
    same(drawn_events.photons, draw_photons(front_back_sky, 5))
    assert len(drawn_events) > 20_000
    assert drawn_events.photons.origin == draw_photons(front_back_sky, 5).origin


def test_energies_and_times_lie_in_band_and_bin(
    front_back_sky: Sky,
    drawn_events: Events,
    front_back: Config,
    front_back_response: Response,
    diffuse_spectra: DiffuseSpectra,
) -> None:
    assert (drawn_events.energy_mev.dtype, drawn_events.time_s.dtype) == (np.float32, np.float64)
    for number, channel in enumerate(front_back.channels):
        mine = drawn_events.photons.channel == number
        energy = drawn_events.energy_mev[mine].astype(np.float64)
        assert (energy >= channel.emin_gev * 1e3).all()
        assert (energy < channel.emax_gev * 1e3).all()
        assert set(drawn_events.event_type[mine]) == {0 if channel.event_types == ("FRONT",) else 1}
    width = (OBSERVATION.stop_s - OBSERVATION.start_s) / front_back_sky.years
    part = (drawn_events.time_s - OBSERVATION.start_s) / width - drawn_events.photons.year
    assert ((part > 0) & (part < 1)).all()
    assert stats.kstest(part, "uniform").pvalue > 1e-4
    again = draw_events(front_back_sky, front_back_response, diffuse_spectra, OBSERVATION, 5)
    np.testing.assert_array_equal(again.energy_mev, drawn_events.energy_mev)
    np.testing.assert_array_equal(again.time_s, drawn_events.time_s)


def test_the_whole_sky_has_the_spectrum_of_its_counts_in_finer_bands(
    front_back: Config, front_back_sky: Sky, drawn_events: Events, front_back_response: Response
) -> None:
    """Photons of one wide band, counted in finer ones, are as many as those are expected to be."""
    tree = front_back.model_dump()
    tree["bands"][1].update(emin_gev=100, emax_gev=500)
    finer = Config.model_validate(tree)
    fine_response = build_response(finer)
    counts, _ = expected_counts(front_back_sky.sources.table, fine_response)
    fine = replace(
        front_back_sky,
        channels=finer.channels,
        source_counts=counts,
        diffuse=diffuse_counts(finer, fine_response),
    )
    wanted = fine.totals().sum(axis=(0, 2))[[1, 3]]
    for channel, expected in zip((1, 3), wanted, strict=True):
        energy = drawn_events.energy_mev[drawn_events.photons.channel == channel]
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
    front_back_response: Response, diffuse_spectra: DiffuseSpectra
) -> None:
    places = [(10.0, 80.0), (120.0, -60.0), (250.0, 5.0)]
    rows = [
        {**row, "exp_index": 2.0 / 3.0, "lon_deg": lon, "lat_deg": lat}
        for row, (lon, lat) in zip(SOURCES, places, strict=True)
    ]
    sky = bright(front_back_response, rows, 20_000.0)
    events = draw_events(sky, front_back_response, diffuse_spectra, OBSERVATION, 1)
    for row, (lon, lat) in zip(rows, places, strict=True):
        near = separation_deg(
            events.photons.xyz.astype(np.float64), unit_vectors(np.array(lon), np.array(lat))
        )
        for number, channel in enumerate(front_back_response.channels):
            mine = (near < 20.0) & (events.photons.channel == number)
            energy = np.geomspace(channel.emin_gev * 1e3, channel.emax_gev * 1e3, 4001)
            flux = differential(
                [row["form"]],
                *(row[k] for k in ("norm", "pivot_mev", "index", "curvature", "exp_index")),
                energy,
            )[0]
            exposure = front_back_response.exposures[number]
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
    front_back_response: Response, diffuse_spectra: DiffuseSpectra
) -> None:
    empty = bright(front_back_response, [{"form": LOG_PARABOLA, "norm": 1e-20}], 0.0)
    maps = np.zeros((2, len(front_back_response.channels), 12 * 64**2), np.float32)
    centre = healpy.query_disc(64, (1.0, 0.0, 0.0), np.radians(4.0))
    pole = healpy.query_disc(64, (0.0, 0.0, 1.0), np.radians(20.0))
    maps[0][:, centre] = 2e6
    maps[1][:, pole] = 1e5
    sky = replace(empty, diffuse=DiffuseCounts.of_maps(*maps))
    events = draw_events(sky, front_back_response, diffuse_spectra, OBSERVATION, 2)
    inside = events.photons.xyz[:, 2] < 0.5
    number = 1
    channel = front_back_response.channels[number]
    energy = np.geomspace(channel.emin_gev * 1e3, channel.emax_gev * 1e3, 400)
    exposure = front_back_response.exposures[number]
    seen = exposure.mean()
    seen = np.exp(np.interp(np.log(energy), np.log(exposure.energy_mev), np.log(seen)))
    planes = np.array(
        [
            diffuse_spectra.interstellar.plane(k, 64)[centre].mean()
            for k in range(len(diffuse_spectra.interstellar.energy_mev))
        ]
    )
    nodes = np.log(diffuse_spectra.interstellar.energy_mev)
    # The last piece of the model goes on straight.
    slope = (np.log(planes[-1]) - np.log(planes[-2])) / (nodes[-1] - nodes[-2])
    log_plane = np.interp(np.log(energy), nodes, np.log(planes))
    log_plane += np.maximum(np.log(energy) - nodes[-1], 0.0) * slope
    for mine, intensity in (
        (inside, np.exp(log_plane)),
        (~inside, diffuse_spectra.isotropic[number].at(energy)),
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
    front_back: Config, front_back_response: Response, diffuse_spectra: DiffuseSpectra
) -> None:
    channels = tuple(
        channel.model_copy(update={"event_types": ("PSF1", "PSF2", "PSF3")})
        for channel in front_back_response.channels[:2]
    )
    few = replace(
        front_back_response,
        channels=channels,
        exposures=front_back_response.exposures[:2],
        nodes=front_back_response.nodes[:2],
    )
    rows = [{**SOURCES[2], "exp_index": 1.0, "lon_deg": 1.0, "lat_deg": 2.0}]
    sky = bright(few, rows, 30_000.0)
    energy = np.array([1e3, 5e4, 5.001e4, 1e6])
    share = np.array([[0.5, 0.5, 0.2, 0.2], [0.3, 0.3, 0.2, 0.2], [0.2, 0.2, 0.6, 0.6]])
    shares = {("PSF1", "PSF2", "PSF3"): TypeShares(energy, share)}
    events = draw_events(sky, few, diffuse_spectra, OBSERVATION, 1, shares)
    for number, wanted in ((0, share[:, 0]), (1, share[:, 3])):
        types = events.event_type[events.photons.channel == number]
        np.testing.assert_allclose(
            np.bincount(types, minlength=6)[3:] / len(types), wanted, atol=0.015
        )
    plain = draw_events(sky, few, diffuse_spectra, OBSERVATION, 1)
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


def test_an_observation_lasts_as_configured(front_back: Config) -> None:
    observation = observation_of(front_back)
    assert observation.start_s == 239557417.0
    assert observation.stop_s - observation.start_s == 365.25 * 86400
