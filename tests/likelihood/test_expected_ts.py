"""The photon limit against its formula, its limits, Poisson draws, and the published shares."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geminga.config import Config, load_config
from geminga.geometry import from_plane, lon_lat
from geminga.likelihood.expected_ts import expected_ts, nearest_patches, without_sources
from geminga.patches.grid import PatchGrid, make_grid
from geminga.patches.render import expected_images
from geminga.response import Response, build_response
from geminga.sky.catalogue_sky import catalogue_sky
from geminga.sky.emission.diffuse import diffuse_counts
from geminga.sky.populations.population import load_population
from geminga.sky.populations.sources import SourceSet
from geminga.sky.sky import Sky, expected_counts, simulate_sky


@pytest.fixture(scope="module")
def response(config2: Config) -> Response:
    return build_response(config2)


@pytest.fixture(scope="module")
def drawn(config2: Config, response: Response) -> Sky:
    diffuse = diffuse_counts(config2, response)
    return simulate_sky(config2, response, load_population("4fgl_dr2"), diffuse, 0)


@pytest.fixture(scope="module")
def grid() -> PatchGrid:
    return make_grid(8, 10.0)


def with_sources_at(
    sky: Sky, response: Response, lon: list[float], lat: list[float], flux: list[float]
) -> Sky:
    """Return the sky with power laws E^-2.2 of given photon flux above 1 GeV."""
    n = len(lon)
    table: pd.DataFrame = sky.sources.table.iloc[:n].reset_index(drop=True)
    table = table.assign(
        form="log_parabola",
        lon_deg=lon,
        lat_deg=lat,
        pivot_mev=1e3,
        norm=np.array(flux) * 1.2 / 1e3,
        index=2.2,
        curvature=0.0,
    )
    counts, index = expected_counts(table, response)
    steady = np.ones((n, sky.years))
    return replace(
        sky,
        sources=SourceSet(table, steady),
        source_counts=counts,
        source_psf_index=index,
        shares=steady / sky.years,
    )


def test_it_is_the_sum_over_pixels(drawn: Sky, response: Response, grid: PatchGrid) -> None:
    sky = with_sources_at(drawn, response, [120.3], [45.1], [1e-9])
    patch = int(nearest_patches(sky, grid)[0])
    diffuse = expected_images(without_sources(sky), grid.frames[patch][None], 10.0)
    both = expected_images(sky, grid.frames[patch][None], 10.0)
    b = np.concatenate([d.ravel() for d in diffuse]).astype(float)
    n = np.concatenate([d.ravel() for d in both]).astype(float)
    s = n - b
    expected = 2.0 * np.sum(n * np.log(n / b) - s)
    (ts,) = expected_ts(sky, grid)
    assert ts == pytest.approx(expected, rel=1e-3)
    # Counts s + b that fluctuate give the same on average, with the true flux in the ratio.
    rng = np.random.default_rng(1)
    values = [2.0 * np.sum(rng.poisson(n) * np.log(n / b) - s) for _ in range(400)]
    assert np.mean(values) == pytest.approx(expected, abs=4 * np.std(values) / np.sqrt(400))


def test_faint_and_bright_limits(drawn: Sky, response: Response, grid: PatchGrid) -> None:
    place = ([200.0], [-60.0])
    ts = [
        expected_ts(with_sources_at(drawn, response, *place, [f]), grid)[0]
        for f in (1e-14, 2e-14, 1e-6, 2e-6)
    ]
    # s << b: sum of s^2 / b. s >> b: 2 s (ln(s / b) - 1), a little more than twice for twice s.
    assert ts[1] / ts[0] == pytest.approx(4.0, rel=1e-3)
    assert 2.0 < ts[3] / ts[2] < 2.4


def test_brighter_diffuse_emission_hides(drawn: Sky, response: Response, grid: PatchGrid) -> None:
    sky = with_sources_at(drawn, response, [40.0, 40.0], [70.0, 0.3], [5e-10, 5e-10])
    ts = expected_ts(sky, grid)
    assert ts[0] > 3 * ts[1]
    # The sources are alone within their PSF: with the other in the background nothing changes.
    np.testing.assert_allclose(expected_ts(sky, grid, with_sources=True), ts, rtol=1e-3)
    brighter = replace(sky, diffuse_norm=4.0 * sky.diffuse_norm)
    ratio = expected_ts(brighter, grid) / ts
    assert (ratio > 0.24).all()
    assert (ratio < 0.6).all()


def test_a_neighbour_in_the_background_hides(
    drawn: Sky, response: Response, grid: PatchGrid
) -> None:
    sky = with_sources_at(drawn, response, [40.0, 40.0], [70.0, 70.2], [2e-10, 2e-8])
    alone, crowded = expected_ts(sky, grid), expected_ts(sky, grid, with_sources=True)
    assert crowded[0] < 0.5 * alone[0]
    assert 0.8 * alone[1] < crowded[1] < alone[1]


def test_each_source_has_its_nearest_patch(drawn: Sky, response: Response, grid: PatchGrid) -> None:
    centre = grid.frames[100]
    lon, lat = lon_lat(from_plane(centre, np.array([0.4]), np.array([-0.2])))
    sky = with_sources_at(drawn, response, [*lon, 10.0], [*lat, 5.0], [1e-9, 1e-9])
    assert nearest_patches(sky, grid)[0] == 100
    one = with_sources_at(drawn, response, [*lon], [*lat], [1e-9])
    # No value depends on which other sources the sky has.
    assert expected_ts(sky, grid)[0] == expected_ts(one, grid)[0]


def test_photons_outside_the_patch_do_not_count(
    drawn: Sky, response: Response, grid: PatchGrid
) -> None:
    sky = with_sources_at(drawn, response, [77.0], [50.0], [1e-9])
    patch = grid.frames[nearest_patches(sky, grid)]
    lon, lat = lon_lat(from_plane(patch[0], np.array([0.0, 5.0, 8.0]), np.zeros(3)))
    only = PatchGrid(patch, 10.0, np.eye(3))
    three = with_sources_at(drawn, response, list(lon), list(lat), [1e-9] * 3)
    ts = expected_ts(three, only)
    assert 0.35 * ts[0] < ts[1] < 0.65 * ts[0]
    assert 0.0 <= ts[2] < 0.05 * ts[0]


def test_a_sky_without_sources_and_one_channel(
    drawn: Sky, config2: Config, grid: PatchGrid
) -> None:
    assert expected_ts(without_sources(drawn), grid).shape == (0,)
    config = config2.model_copy(update={"bands": config2.bands[:1]})
    response = build_response(config)
    sky = simulate_sky(
        config, response, load_population("4fgl_dr2"), diffuse_counts(config, response), 0
    )
    few = with_sources_at(sky, response, [0.0, 0.0], [40.0, -40.0], [1e-9, 0.0])
    ts = expected_ts(few, grid)
    assert ts[0] > 10
    assert ts[1] == 0


DIFFUSE = {
    "builtin": [],
    "LAT": [
        "sky.interstellar=diffuse/gll_iem_v07_blockmean_1p5deg.fits",
        "sky.isotropic=diffuse/iso_P8R2_ULTRACLEANVETO_V6_FRONT_v06.txt",
    ],
}


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("model", DIFFUSE)
def test_sources_of_4fgl_dr2_reach_the_published_shares(model: str, lat_data: Path) -> None:
    """76 %, 93 % and 99.8 % of them have TS above 25, 16 and 9; shown with -s."""
    path = Path(__file__).parents[2] / "jobs" / "configs" / "demo.yaml"
    config = load_config(path, [f"data={lat_data}", *DIFFUSE[model]])
    response = build_response(config)
    catalogue = lat_data / "catalogs" / "gll_psc_v27.fit.gz"
    sky = catalogue_sky(config, response, diffuse_counts(config, response), catalogue)
    grid = make_grid(config.patches.grid_nside, config.patches.size_deg)
    for crowded in (False, True):
        ts = expected_ts(sky, grid, with_sources=crowded)
        shares = [float(np.mean(ts > limit)) for limit in (25, 16, 9)]
        beneath = "others in the background" if crowded else "alone"
        print(f"\n{model} diffuse, {beneath}: {shares}")
        assert shares == pytest.approx([0.76, 0.93, 0.998], abs=0.02)
