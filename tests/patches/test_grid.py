from __future__ import annotations

import healpy as hp
import numpy as np
import pytest

from geminga.config import Config
from geminga.errors import InputError
from geminga.geometry import lon_lat, random_rotation, to_plane, unit_vectors
from geminga.patches.grid import grid_for_sky, make_grid
from geminga.seeds import Split, sky_id


def directions(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return lon_lat(np.random.default_rng(seed).normal(size=(n, 3)))


def test_centres_are_the_healpix_centres():
    grid = make_grid(8, 10.0)
    lon, lat = hp.pix2ang(8, np.arange(768), lonlat=True)
    assert len(grid) == 768
    np.testing.assert_allclose(np.stack(grid.centres()), np.stack([lon, lat]), atol=1e-10)


def test_frames_are_right_handed_and_orthonormal_after_rotation():
    rotation = random_rotation(np.random.default_rng(1))
    grid = make_grid(4, 10.0, rotation)
    product = grid.frames @ grid.frames.transpose(0, 2, 1)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), product.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(grid.frames), 1.0, atol=1e-12)


def test_rotation_turns_every_axis_of_a_frame():
    rotation = random_rotation(np.random.default_rng(2))
    plain, turned = make_grid(2, 10.0), make_grid(2, 10.0, rotation)
    for row in range(3):
        np.testing.assert_allclose(
            turned.frames[:, row], (rotation @ plain.frames[:, row].T).T, atol=1e-14
        )


def test_rotating_sky_and_grid_together_changes_nothing():
    rotation = random_rotation(np.random.default_rng(3))
    lon, lat = directions(500)
    turned = lon_lat(unit_vectors(lon, lat) @ rotation.T)
    before = make_grid(8, 10.0).covers(lon, lat)
    np.testing.assert_array_equal(make_grid(8, 10.0, rotation).covers(*turned), before)


@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_covers_agrees_with_the_projection(margin: float):
    grid = make_grid(4, 12.0, random_rotation(np.random.default_rng(4)))
    lon, lat = directions(300)
    vectors = unit_vectors(lon, lat)
    expected = np.zeros(300, dtype=np.int64)
    for frame in grid.frames:
        x, y = to_plane(frame, vectors)
        expected += (np.abs(x) < 6.0 - margin) & (np.abs(y) < 6.0 - margin)
    np.testing.assert_array_equal(grid.covers(lon, lat, margin), expected)


def test_mean_coverage_is_the_summed_solid_angle():
    # A gnomonic square of tangents t subtends 4 arcsin(t^2 / (1 + t^2)) sr.
    t2 = np.radians(5.0) ** 2
    expected = 768 * 4 * np.arcsin(t2 / (1 + t2)) / (4 * np.pi)
    covered = make_grid(8, 10.0).covers(*directions(20_000))
    assert covered.mean() == pytest.approx(expected, rel=0.01)
    # The published patches leave slivers of the sky out: less than one part in 500.
    assert np.mean(covered == 0) < 0.002


def test_patches_of_lists_what_covers_counts():
    grid = make_grid(8, 10.0)
    lon, lat = directions(200)
    rows, patches = grid.patches_of(lon, lat)
    np.testing.assert_array_equal(np.bincount(rows, minlength=200), grid.covers(lon, lat))
    vectors = unit_vectors(lon, lat)
    for row, patch in zip(rows[:50], patches[:50], strict=True):
        x, y = to_plane(grid.frames[patch], vectors[row : row + 1])
        assert max(abs(x[0]), abs(y[0])) <= 5.0


def test_no_directions_give_no_counts():
    none = np.empty(0)
    grid = make_grid(1, 10.0)
    assert grid.covers(none, none).shape == (0,)
    assert [len(part) for part in grid.patches_of(none, none)] == [0, 0]


def test_the_opposite_side_of_the_sky_is_not_covered():
    grid = make_grid(1, 10.0)
    lon, lat = grid.centres()
    one = type(grid)(grid.frames[:1], grid.size_deg, grid.rotation)
    assert one.covers(lon[:1], lat[:1]) == 1
    assert one.covers(lon[:1] + 180.0, -lat[:1]) == 0


@pytest.mark.parametrize("nside", [0, -1, 3, 6])
def test_a_resolution_that_is_no_power_of_two_is_refused(nside: int):
    with pytest.raises(InputError, match=f"grid_nside: {nside} is not a power of two"):
        make_grid(nside, 10.0)


@pytest.mark.parametrize("size", [0.0, -1.0, 90.0, float("nan")])
def test_an_impossible_size_is_refused(size: float):
    with pytest.raises(InputError, match="size_deg"):
        make_grid(1, size)


def test_training_skies_have_their_own_rotation_and_test_skies_none(config2: Config):
    train = [grid_for_sky(config2, sky_id(Split.TRAIN, n)).rotation for n in (0, 1)]
    valid = grid_for_sky(config2, sky_id(Split.VALID, 0)).rotation
    again = grid_for_sky(config2, sky_id(Split.TRAIN, 0)).rotation
    np.testing.assert_array_equal(train[0], again)
    assert not np.allclose(train[0], train[1])
    assert not np.allclose(train[0], valid)
    test = grid_for_sky(config2, sky_id(Split.TEST, 0))
    np.testing.assert_array_equal(test.rotation, np.eye(3))
    assert len(test) == 12 * config2.patches.grid_nside**2
