from __future__ import annotations

import numpy as np
import pytest

from geminga.geometry import from_plane, lon_lat, pixel_to_plane, tangent_frames
from geminga.patches.targets import disk_targets

SIZE = 10.0
PIXELS = 128


def place(row: float, column: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames and the position of pixel coordinates in the first of them."""
    frames = tangent_frames(np.array([15.0, 200.0]), np.array([-30.0, 40.0]))
    x, y = (np.array([float(pixel_to_plane(np.float64(p), PIXELS, SIZE))]) for p in (column, row))
    lon, lat = lon_lat(from_plane(frames[0], x, y))
    return frames, lon, lat


def test_a_source_on_a_pixel_centre_gives_69_pixels() -> None:
    frames, lon, lat = place(40.0, 90.0)
    target = disk_targets(frames, SIZE, lon, lat, PIXELS, 5.0 - 1e-9)
    assert target.dtype == np.uint8
    assert target.shape == (2, PIXELS, PIXELS)
    assert target[0].sum() == 69
    assert target[1].sum() == 0
    rows, columns = np.nonzero(target[0])
    assert (rows.mean(), columns.mean()) == (40.0, 90.0)


@pytest.mark.parametrize("radius", [1.5, 5.0, 7.3])
def test_pixels_are_those_within_the_radius(radius: float) -> None:
    frames, lon, lat = place(63.3, 20.8)
    target = disk_targets(frames, SIZE, lon, lat, PIXELS, radius)
    i, j = np.mgrid[:PIXELS, :PIXELS]
    np.testing.assert_array_equal(target[0], (i - 63.3) ** 2 + (j - 20.8) ** 2 < radius**2)


@pytest.mark.parametrize(("row", "column"), [(-3.0, 60.2), (60.2, 130.9), (-2.0, -2.0)])
def test_a_disk_reaches_in_from_outside(row: float, column: float) -> None:
    frames, lon, lat = place(row, column)
    target = disk_targets(frames, SIZE, lon, lat, PIXELS, 5.0)
    i, j = np.mgrid[:PIXELS, :PIXELS]
    expected = (i - row) ** 2 + (j - column) ** 2 < 25
    assert expected.any()
    np.testing.assert_array_equal(target[0], expected)


def test_far_sources_and_no_sources_leave_no_mark() -> None:
    frames, lon, lat = place(60.0, -30.0)
    assert disk_targets(frames, SIZE, lon, lat, PIXELS, 5.0).sum() == 0
    antipode = disk_targets(frames, SIZE, lon + 180.0, -lat, PIXELS, 5.0)
    assert antipode.sum() == 0
    none = np.empty(0)
    assert disk_targets(frames, SIZE, none, none, PIXELS, 5.0).sum() == 0


def test_overlapping_disks_stay_one() -> None:
    frames, lon, lat = place(60.0, 60.0)
    twice = disk_targets(frames, SIZE, np.tile(lon, 2), np.tile(lat, 2), PIXELS, 5.0)
    assert twice.max() == 1
    np.testing.assert_array_equal(twice, disk_targets(frames, SIZE, lon, lat, PIXELS, 5.0))
