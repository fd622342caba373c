from __future__ import annotations

import numpy as np
import pytest

from geminga.bands import Band
from geminga.geometry import (
    from_plane,
    pixel_to_plane,
    plane_to_pixel,
    random_rotation,
    separation_deg,
    tangent_frames,
    to_plane,
)
from geminga.patches.grid import make_grid
from geminga.patches.project import bin_photons, bin_tangent
from geminga.sky.photons import Photons, empty_photons


def photons_at(xyz: np.ndarray, band: int | np.ndarray = 0, year: int | np.ndarray = 0) -> Photons:
    n = len(xyz)
    return Photons(
        np.asarray(xyz, dtype=np.float32),
        np.broadcast_to(np.asarray(band, dtype=np.int8), n).copy(),
        np.broadcast_to(np.asarray(year, dtype=np.int8), n).copy(),
    )


def random_photons(n: int, bands: int, years: int = 1, seed: int = 0) -> Photons:
    rng = np.random.default_rng(seed)
    xyz = rng.normal(size=(n, 3))
    xyz /= np.linalg.norm(xyz, axis=1, keepdims=True)
    return photons_at(xyz, rng.integers(0, bands, n), rng.integers(0, years, n))


def by_hand(photons: Photons, frames: np.ndarray, size_deg: float, pixels: int) -> np.ndarray:
    """The same counts from geometry.to_plane and a histogram, frame by frame."""
    edges = np.linspace(-size_deg / 2, size_deg / 2, pixels + 1)
    images = []
    for frame in frames:
        x, y = to_plane(frame, photons.xyz)
        seen = np.isfinite(x)
        images.append(np.histogram2d(y[seen], x[seen], bins=(edges, edges))[0])
    return np.array(images)


@pytest.mark.parametrize("size_deg", [10.0, 40.0])
def test_counts_agree_with_a_histogram_of_plane_coordinates(size_deg: float):
    photons = random_photons(30_000, 1)
    frames = make_grid(2, size_deg, random_rotation(np.random.default_rng(5))).frames
    (images,) = bin_tangent(photons, frames, [size_deg], [16])
    assert images.dtype == np.uint32
    np.testing.assert_array_equal(images, by_hand(photons, frames, size_deg, 16))


def test_every_photon_is_in_one_pixel_of_each_patch_that_holds_it(bands2: tuple[Band, ...]):
    photons = random_photons(50_000, len(bands2))
    grid = make_grid(8, 10.0, random_rotation(np.random.default_rng(6)))
    images = bin_photons(photons, grid.frames, grid.size_deg, bands2)
    for number, (band, image) in enumerate(zip(bands2, images, strict=True)):
        assert image.shape == (768, band.pixels, band.pixels)
        covering = grid.covers(*photons.select(photons.channel == number).lon_lat())
        assert image.sum() == covering.sum()


def test_small_boxes_around_many_directions():
    photons = random_photons(20_000, 2)
    centres = photons.select(np.arange(500)).lon_lat()
    frames = tangent_frames(*centres)
    wide, narrow = bin_tangent(photons, frames, [4.0, 0.5], [7, 5])
    assert wide.shape == (500, 7, 7)
    assert narrow.shape == (500, 5, 5)
    for number, (image, size) in enumerate([(wide, 4.0), (narrow, 0.5)]):
        mine = photons.select(photons.channel == number)
        np.testing.assert_array_equal(image, by_hand(mine, frames, size, image.shape[1]))


def test_sky_to_pixel_to_sky_returns_within_a_micro_degree():
    rng = np.random.default_rng(7)
    grid = make_grid(8, 10.0, random_rotation(rng))
    x, y = rng.uniform(-5, 5, 1000), rng.uniform(-5, 5, 1000)
    for frame in grid.frames[::97]:
        sky = from_plane(frame, x, y)
        column = plane_to_pixel(to_plane(frame, sky)[0], 128, 10.0)
        row = plane_to_pixel(to_plane(frame, sky)[1], 128, 10.0)
        back = from_plane(frame, pixel_to_plane(column, 128, 10.0), pixel_to_plane(row, 128, 10.0))
        assert separation_deg(sky, back).max() < 1e-6


def test_a_photon_at_a_pixel_centre_lights_that_pixel():
    frames = tangent_frames(np.array([83.6]), np.array([-5.8]))
    n, size = 8, 10.0
    for row, column in [(0, 0), (0, 7), (7, 0), (3, 5)]:
        at = from_plane(
            frames[0],
            np.array([pixel_to_plane(column, n, size)]),
            np.array([pixel_to_plane(row, n, size)]),
        )
        (image,) = bin_tangent(photons_at(at), frames, [size], [n])
        assert image[0, row, column] == 1
        assert image.sum() == 1


def test_edges_between_patches_count_once():
    # Two images side by side in one plane: shared pixel borders belong to one pixel only.
    frame = tangent_frames(np.array([0.0]), np.array([0.0]))
    steps = np.linspace(-5, 5, 41)
    x, y = (axis.ravel() for axis in np.meshgrid(steps[:-1], steps[:-1]))
    (image,) = bin_tangent(photons_at(from_plane(frame[0], x, y)), frame, [10.0 + 1e-4], [10])
    assert image.sum() == len(x)


def test_photons_behind_the_plane_do_not_appear():
    frames = tangent_frames(np.array([10.0]), np.array([20.0]))
    (image,) = bin_tangent(photons_at(-frames[:, 0]), frames, [60.0], [4])
    assert image.sum() == 0


def test_photons_outside_the_bands_are_left_out():
    frames = tangent_frames(np.array([10.0]), np.array([20.0]))
    here = np.repeat(frames[:, 0], 4, axis=0)
    images = bin_tangent(photons_at(here, np.array([-1, 0, 1, 2])), frames, [5.0, 5.0], [4, 4])
    assert [int(image.sum()) for image in images] == [1, 1]


def test_zero_and_broken_vectors_are_left_out():
    frames = tangent_frames(np.array([10.0]), np.array([20.0]))
    (image,) = bin_tangent(photons_at(np.array([[0, 0, 0], [np.nan, 0, 1]])), frames, [60.0], [4])
    assert image.sum() == 0


def test_years_sum_to_the_total():
    photons = random_photons(20_000, 2, years=3)
    frames = make_grid(2, 10.0).frames
    total = bin_tangent(photons, frames, [10.0, 10.0], [8, 4])
    yearly = bin_tangent(photons, frames, [10.0, 10.0], [8, 4], per_year=True, years=3)
    for whole, parts in zip(total, yearly, strict=True):
        assert parts.shape == (48, 3, *whole.shape[1:])
        np.testing.assert_array_equal(parts.sum(axis=1), whole)
    first = photons.select(photons.year == 0)
    np.testing.assert_array_equal(yearly[0][:, 0], bin_tangent(first, frames, [10, 10], [8, 4])[0])


def test_a_year_without_photons_is_an_image_of_zeros():
    frames = tangent_frames(np.array([10.0]), np.array([20.0]))
    (image,) = bin_tangent(
        photons_at(frames[:, 0], year=1), frames, [5.0], [3], per_year=True, years=4
    )
    np.testing.assert_array_equal(image.sum(axis=(2, 3)), [[0, 1, 0, 0]])


def test_no_photons_or_no_frames():
    frames = make_grid(1, 10.0).frames
    (image,) = bin_tangent(empty_photons(), frames, [10.0], [4])
    assert image.shape == (12, 4, 4)
    assert image.sum() == 0
    (image,) = bin_tangent(random_photons(10, 1), np.empty((0, 3, 3)), [10.0], [4])
    assert image.shape == (0, 4, 4)


def test_order_of_photons_does_not_matter():
    photons = random_photons(5_000, 1)
    frames = make_grid(2, 10.0).frames
    shuffled = photons.select(np.random.default_rng(8).permutation(5_000))
    np.testing.assert_array_equal(
        bin_tangent(photons, frames, [10.0], [8])[0], bin_tangent(shuffled, frames, [10.0], [8])[0]
    )


def test_faulty_calls_are_refused():
    frames = make_grid(1, 10.0).frames
    with pytest.raises(ValueError, match="2 widths for 1 bands"):
        bin_tangent(empty_photons(), frames, [1.0, 2.0], [4])
    with pytest.raises(ValueError, match="number of years"):
        bin_tangent(empty_photons(), frames, [1.0], [4], per_year=True)
