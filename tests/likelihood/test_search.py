"""The likelihood search of single patches: what is found, where, and what must not matter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from geminga.arrays import Bool, Float32, Float64
from geminga.bands import Band
from geminga.config import Config, ImageConfig, PatchConfig, SkyConfig
from geminga.geometry import from_plane, lon_lat, separation_deg, tangent_frames, unit_vectors
from geminga.likelihood.diffuse_templates import Templates
from geminga.likelihood.known import KnownSources, known_sources
from geminga.likelihood.local_problem import patch_data, place_sources
from geminga.likelihood.search import (
    PatchResult,
    PatchSearch,
    Place,
    make_search,
    places_of,
    search_patch,
)
from geminga.likelihood.source_table import on_the_sphere, source_columns, source_table
from geminga.response import build_response
from geminga.tables import patch_sources

THRESHOLDS = (25.0, 12.0)
PER_DEG2 = (120.0, 20.0)
"""Diffuse counts of the two bands."""


@dataclass(frozen=True)
class Field:
    """A patch with sources: what is expected and what was counted."""

    search: PatchSearch
    place: Place
    background: tuple[Float32, ...]
    expected: tuple[Float64, ...]
    counts: tuple[Float32, ...]

    @property
    def templates(self) -> Templates:
        parts = tuple(0.7 * image[None] for image in self.background)
        return Templates(parts, tuple(0.3 / 0.7 * image for image in parts))

    def find(
        self,
        known: KnownSources | None = None,
        thresholds: tuple[float, ...] = THRESHOLDS,
        outside: list[Bool] | None = None,
        true: bool = False,
        in_full: bool = True,
    ) -> PatchResult:
        return search_patch(
            self.search,
            self.counts,
            self.place,
            known_sources() if known is None else known,
            thresholds,
            templates=None if true else self.templates,
            background=self.background if true else None,
            outside=outside,
            in_full=in_full,
        )


@pytest.fixture(scope="module")
def search(bands2: tuple[Band, Band]) -> PatchSearch:
    return search_with(bands2)


def search_with(bands: tuple[Band, ...]) -> PatchSearch:
    config = Config(
        name="test",
        bands=bands,
        sky=SkyConfig(years=4, diffuse_nside=64),
        patches=PatchConfig(grid_nside=1),
        images=ImageConfig(box_deg=(2.0, 1.0)[: len(bands)]),
    )
    return make_search(config, build_response(config))


def field(
    search: PatchSearch,
    sources: list[tuple[float, float, float, float]],
    seed: int | None = 1,
    lon: float = 30.0,
    lat: float = 40.0,
) -> Field:
    """Draw a patch with sources (x, y, flux, index); expected counts themselves without a seed."""
    frames = tangent_frames(np.array([lon]), np.array([lat]))
    place = places_of(search, frames, frames)[0]
    pixels = [int(n) for n in search.model.pixels]
    background = tuple(
        np.full((n, n), per * (search.size_deg / n) ** 2, np.float32)
        for n, per in zip(pixels, PER_DEG2, strict=False)
    )
    data = patch_data(background, background, search.model, place.spectra)
    x, y, flux, index = np.array(sources, np.float64).reshape(-1, 4).T
    shine = place_sources(data, x, y, flux, index).images(data.layout) if len(x) else 0.0
    flat = data.background + shine
    expected = tuple(flat[start : start + n * n].reshape(n, n) for n, start in data.layout.T)
    rng = np.random.default_rng(seed)
    counts = tuple(
        image.astype(np.float32) if seed is None else rng.poisson(image).astype(np.float32)
        for image in expected
    )
    return Field(search, place, background, expected, counts)


SOURCES = [(1.0, -2.0, 3e-9, 2.2), (-3.1, 0.4, 8e-9, 2.6), (2.5, 3.2, 2e-9, 1.9)]


def nearest(result: PatchResult, x: float, y: float) -> tuple[int, float]:
    distance = np.hypot(result.fit.x_deg - x, result.fit.y_deg - y)
    return int(np.argmin(distance)), float(distance.min())


@pytest.mark.parametrize("true", [True, False])
def test_injected_sources_are_found_where_they_are(search: PatchSearch, true: bool) -> None:
    result = field(search, SOURCES).find(true=true)
    for x, y, flux, index in SOURCES:
        row, distance = nearest(result, x, y)
        fit = result.fit
        sigma = np.sqrt(np.trace(fit.position_covariance[row]))
        assert fit.ts[row] > 50
        assert distance < 3 * sigma < 0.2
        assert abs(fit.flux[row] - flux) < 4 * fit.flux_error[row]
        assert abs(fit.index[row] - index) < 4 * fit.index_error[row]
        assert fit.flux_error[row] < 0.25 * flux
    assert np.all(result.fit.ts >= search.settings.search_least_ts)
    assert len(result.fit) <= len(SOURCES) + 2
    for found, real in zip(result.diffuse, field(search, []).background, strict=True):
        assert np.abs(found / real - 1).max() < 0.15


def test_expected_counts_of_a_bright_source_are_one_source(search: PatchSearch) -> None:
    result = field(search, [(0.37, 1.21, 2e-7, 2.3)], seed=None).find(thresholds=(25.0, 12.0, 8.0))
    row, distance = nearest(result, 0.37, 1.21)
    assert distance < 0.005
    assert result.fit.flux[row] == pytest.approx(2e-7, rel=0.02)
    assert result.fit.ts[row] == result.fit.ts.max() > 1e4


def test_two_close_sources_both_keep_what_is_theirs(search: PatchSearch) -> None:
    result = field(search, [(0.0, 0.0, 3e-8, 2.2), (0.6, 0.0, 1e-8, 2.2)], seed=5).find(true=True)
    (one, near), (other, far) = nearest(result, 0.0, 0.0), nearest(result, 0.6, 0.0)
    assert one != other
    assert near < 0.05
    assert far < 0.1
    assert result.fit.ts[one] > result.fit.ts[other] > 50


def test_a_bright_source_does_not_lose_its_ts_to_a_spurious_one_beside_it(
    search: PatchSearch,
) -> None:
    patch = field(search, [(0.0, 0.0, 3e-8, 2.2)], seed=6)
    lon, lat = lon_lat(from_plane(patch.place.frame, np.array([0.0, 0.2]), np.array([0.0, 0.0])))
    table = pd.DataFrame({"lon_deg": lon, "lat_deg": lat, "s1": [2e-8, 1e-8], "index": [2.2, 2.2]})
    known = known_sources(table)
    result = patch.find(known, (12.0,), true=True)
    row, distance = nearest(result, 0.0, 0.0)
    assert distance < 0.05
    assert result.fit.ts[row] > 300
    assert result.fit.flux[row] > 1.5e-8


def test_two_fits_of_one_source_do_not_give_it_up(search: PatchSearch) -> None:
    """Each could take the other's place: the TS of both was nothing, and a bright source lost."""
    patch = field(search, [(0.5, 0.5, 1e-8, 2.2), (-2.0, 1.0, 1e-8, 2.2)], seed=8)
    x, y = np.array([0.48, 0.51, -2.0]), np.array([0.5, 0.5, 1.0])
    lon, lat = lon_lat(from_plane(patch.place.frame, x, y))
    known = known_sources(
        pd.DataFrame({"lon_deg": lon, "lat_deg": lat, "s1": [7e-9, 3e-9, 1e-8], "index": 2.2})
    )
    fit = patch.find(known, (12.0,), true=True).fit
    close = np.hypot(fit.x_deg - 0.5, fit.y_deg - 0.5) < 0.3
    assert np.count_nonzero(close) == 1
    assert fit.ts[close][0] > 0.5 * fit.ts.max() > 50
    assert abs(fit.flux[close][0] - 1e-8) < 4 * fit.flux_error[close][0]


def test_known_sources_beyond_the_edge_are_taken_away(search: PatchSearch) -> None:
    beyond = (5.6, 1.0, 2e-7, 2.3)
    patch = field(search, [beyond, (0.0, 0.0, 4e-9, 2.2)], seed=2)
    lon, lat = lon_lat(from_plane(patch.place.frame, np.array([5.6]), np.array([1.0])))
    known = known_sources(
        pd.DataFrame({"lon_deg": lon, "lat_deg": lat, "s1": [2e-7], "index": [2.3]})
    )
    unaware = patch.find(true=True)
    assert np.hypot(unaware.fit.x_deg - 5, unaware.fit.y_deg - 1).min() < 0.6
    aware = patch.find(known, true=True)
    assert np.hypot(aware.fit.x_deg - 5, aware.fit.y_deg - 1).min() > 0.9
    assert nearest(aware, 0.0, 0.0)[1] < 0.15
    assert np.abs(aware.fit.x_deg).max() < 5


def test_sources_that_lie_deeper_in_another_patch_are_its_to_report(search: PatchSearch) -> None:
    patch = field(search, [(4.0, 0.0, 8e-9, 2.2), (-1.0, 0.0, 8e-9, 2.2)], seed=3)
    lon, lat = lon_lat(from_plane(patch.place.frame, np.array([6.0]), np.array([0.0])))
    frames = np.concatenate([patch.place.frame[None], tangent_frames(lon, lat)])
    place = places_of(search, frames, frames)[0]
    assert len(place.others) == 1
    shared = Field(search, place, patch.background, patch.expected, patch.counts)
    alone, among = patch.find(true=True), shared.find(true=True)
    assert nearest(alone, 4.0, 0.0)[1] < 0.1
    assert nearest(among, 4.0, 0.0)[1] > 0.5
    mine, theirs = nearest(alone, -1.0, 0.0)[0], nearest(among, -1.0, 0.0)[0]
    # It was fitted all the same: the other source has not changed.
    assert among.fit.x_deg[theirs] == alone.fit.x_deg[mine]
    assert among.fit.ts[theirs] == alone.fit.ts[mine]
    # With what the other patch says of it, it is not fitted, and not found again.
    lon, lat = lon_lat(from_plane(patch.place.frame, np.array([4.0]), np.array([0.0])))
    known = known_sources(
        pd.DataFrame({"lon_deg": lon, "lat_deg": lat, "s1": [8e-9], "index": [2.2]})
    )
    third = shared.find(known, true=True)
    assert nearest(third, -1.0, 0.0)[1] < 0.1
    assert nearest(third, 4.0, 0.0)[1] > 0.5


def test_sources_in_a_gap_between_patches_are_the_nearest_ones(search: PatchSearch) -> None:
    """No patch holds x = 5.2: the one 0.2 deg away reports it, the one 0.3 deg away does not."""
    gap = (5.2, 0.0, 2e-8, 2.2)
    patch = field(search, [gap, (0.0, 0.0, 4e-9, 2.2)], seed=6)
    lon, lat = lon_lat(from_plane(patch.place.frame, np.array([10.5]), np.array([0.0])))
    frames = np.concatenate([patch.place.frame[None], tangent_frames(lon, lat)])
    near, far = places_of(search, frames, frames)
    lon, lat = lon_lat(from_plane(patch.place.frame, np.array([5.2]), np.array([0.0])))
    known = known_sources(
        pd.DataFrame({"lon_deg": lon, "lat_deg": lat, "s1": [2e-8], "index": [2.2]})
    )
    found = Field(search, near, patch.background, patch.expected, patch.counts).find(
        known, true=True
    )
    row, distance = nearest(found, 5.2, 0.0)
    assert distance < 0.1
    assert abs(found.fit.flux[row] - 2e-8) < 4 * found.fit.flux_error[row]
    assert found.fit.ts[row] > 100
    empty = field(search, [], seed=7)
    beyond = Field(search, far, empty.background, empty.expected, empty.counts).find(
        known, true=True
    )
    assert np.abs(beyond.fit.x_deg).max(initial=0.0) < 5.0


def test_half_a_patch_without_data(search: PatchSearch) -> None:
    whole = field(search, [(2.0, 1.0, 6e-9, 2.2), (-2.0, 1.0, 6e-9, 2.2)], seed=4)
    masks, counts = [], []
    for image in whole.counts:
        n = len(image)
        mask = np.zeros((n, n), np.bool_)
        mask[:, : n // 2] = True
        masks.append(mask)
        counts.append(np.where(mask, 0, image).astype(np.float32))
    half = Field(search, whole.place, whole.background, whole.expected, tuple(counts))
    for true in (True, False):
        result = half.find(outside=masks, true=true)
        assert nearest(result, 2.0, 1.0)[1] < 0.1
        # Nothing where nothing was observed, and no line of sources along the border.
        assert np.all(result.fit.x_deg > -0.5)
        assert np.count_nonzero(np.abs(result.fit.x_deg) < 0.5) <= 1
        assert len(result.fit) <= 3
    assert all(np.isfinite(image).all() for image in result.diffuse)


def test_other_patches_do_not_matter(search: PatchSearch) -> None:
    patch = field(search, SOURCES, seed=7)
    other = tangent_frames(np.array([200.0, 210.0]), np.array([-30.0, 10.0]))
    frames = np.concatenate([other, patch.place.frame[None]])
    place = places_of(search, frames, frames)[2]
    together = Field(search, place, patch.background, patch.expected, patch.counts).find()
    alone = patch.find()
    for name in ("x_deg", "y_deg", "flux", "ts", "index_error", "counts", "position_covariance"):
        np.testing.assert_array_equal(getattr(together.fit, name), getattr(alone.fit, name))


def test_without_photons_there_is_nothing(search: PatchSearch) -> None:
    patch = field(search, [])
    dark = Field(
        search,
        patch.place,
        patch.background,
        patch.expected,
        tuple(np.zeros_like(image) for image in patch.counts),
    )
    for result in (dark.find(), dark.find(true=True), dark.find(in_full=False)):
        columns = source_columns(result.fit, result.diffuse, patch.place.frame, search.size_deg)
        table = source_table([columns], 3, np.array([5]), 2)
        assert len(table) == 0
        assert list(table.columns) == patch_sources(2).names
    assert list(source_table([], 3, np.array([]), 2).columns) == patch_sources(2).names


def test_columns_of_the_table(search: PatchSearch) -> None:
    patch = field(search, SOURCES, seed=8)
    result = patch.find()
    columns = source_columns(result.fit, result.diffuse, patch.place.frame, search.size_deg)
    table = source_table([columns, columns], 3, np.array([5, 6]), 2)
    n = len(result.fit)
    assert table["patch_id"].tolist() == [5] * n + [6] * n
    assert (table["sky_id"] == 3).all()
    for c, per in enumerate(PER_DEG2):
        np.testing.assert_array_equal(table[f"counts_{c}"][:n], result.fit.counts[:, c])
        np.testing.assert_array_equal(
            table[f"flux_error_{c}"][:n], result.fit.band_flux_error[:, c]
        )
        np.testing.assert_allclose(table[f"background_{c}"], per, rtol=0.15)
    place = unit_vectors(table["lon_deg"].to_numpy(), table["lat_deg"].to_numpy())
    back = from_plane(patch.place.frame, table["x_deg"].to_numpy(), table["y_deg"].to_numpy())
    assert np.max(separation_deg(place, back)) < 1e-6
    depth = 5 - np.maximum(table["x_deg"].abs(), table["y_deg"].abs())
    np.testing.assert_allclose(table["edge_deg"], depth)


def test_one_band(bands2: tuple[Band, Band]) -> None:
    one = search_with(bands2[:1])
    patch = field(one, [(1.0, -2.0, 6e-9, 2.2)], seed=9)
    result = patch.find()
    row, distance = nearest(result, 1.0, -2.0)
    assert distance < 0.15
    assert result.fit.counts.shape == (len(result.fit), 1)
    assert abs(result.fit.flux[row] - 6e-9) < 4 * result.fit.flux_error[row]


def test_lower_thresholds_find_more(search: PatchSearch) -> None:
    fluxes = np.geomspace(2e-8, 1e-10, 8)
    places = [(-3.5 + 2.3 * (k % 4), -2.0 + 4.0 * (k // 4)) for k in range(8)]
    patch = field(search, [(*p, f, 2.2) for p, f in zip(places, fluxes, strict=True)], seed=10)
    numbers = [len(patch.find(thresholds=(t,)).fit) for t in (1000.0, 100.0, 25.0, 9.0)]
    assert numbers == sorted(numbers)
    assert numbers[0] < numbers[1] < numbers[3]


def test_an_outline_has_the_same_sources(search: PatchSearch) -> None:
    patch = field(search, SOURCES, seed=11)
    full, rough = patch.find(), patch.find(in_full=False)
    for x, y, _, _ in SOURCES:
        (a, _), (b, _) = nearest(full, x, y), nearest(rough, x, y)
        # To a good part of the error: the fit ends sooner.
        sigma = np.sqrt(np.trace(full.fit.position_covariance[a]))
        assert np.hypot(full.fit.x_deg[a] - rough.fit.x_deg[b], full.fit.y_deg[a] - rough.fit.y_deg[b]) < 0.5 * sigma  # fmt: skip
        assert rough.fit.ts[b] == pytest.approx(full.fit.ts[a], rel=0.1)
    assert np.isnan(rough.fit.flux_error).all()


@pytest.mark.parametrize("lat", [0.0, 60.0, 89.0])
def test_covariance_on_the_sphere_is_that_of_scattered_places(lat: float) -> None:
    """Near the pole too, where Galactic north turns within a patch."""
    frame = tangent_frames(np.array([120.0]), np.array([lat]))[0]
    x, y = np.array([3.0]), np.array([-2.0])
    plane = np.array([[4e-4, 1.5e-4], [1.5e-4, 1e-4]])
    found = on_the_sphere(plane[None], frame, x, y)[0]
    rng = np.random.default_rng(12)
    shift = rng.multivariate_normal([0, 0], plane, 40_000)
    centre = tangent_frames(*lon_lat(from_plane(frame, x, y)))[0]
    vectors = from_plane(frame, x + shift[:, 0], y + shift[:, 1])
    offset = np.degrees(vectors @ centre[1:].T)
    np.testing.assert_allclose(found, np.cov(offset.T), rtol=0.04, atol=2e-6)


def test_pulls_of_positions_are_normal_near_the_pole(search: PatchSearch) -> None:
    pulls = []
    for seed in range(6):
        patch = field(search, SOURCES, seed=100 + seed, lat=88.5)
        result = patch.find(true=True)
        columns = source_columns(result.fit, result.diffuse, patch.place.frame, search.size_deg)
        for x, y, _, _ in SOURCES:
            row, _ = nearest(result, x, y)
            axes = tangent_frames(columns["lon_deg"][[row]], columns["lat_deg"][[row]])[0]
            true = from_plane(patch.place.frame, np.array([x]), np.array([y]))[0]
            offset = np.degrees(axes[1:] @ true)
            cross = columns["cov_cross_deg2"][row]
            covariance = [
                [columns["cov_east_deg2"][row], cross],
                [cross, columns["cov_north_deg2"][row]],
            ]
            pulls.append(offset @ np.linalg.solve(covariance, offset))
    # Chi squares of two degrees of freedom, 18 of them: mean 2, scatter of the mean 0.47.
    assert 0.8 < np.mean(pulls) < 3.6
    assert np.max(pulls) < 16


def test_what_is_missing_is_said(search: PatchSearch) -> None:
    patch = field(search, [])
    with pytest.raises(ValueError, match="templates or a background"):
        search_patch(search, patch.counts, patch.place, known_sources(), (25.0,))
    with pytest.raises(ValueError, match="one round at least"):
        patch.find(thresholds=())
