from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geminga.geometry import (
    from_plane,
    lon_lat,
    pixel_solid_angle_sr,
    pixel_to_plane,
    plane_to_pixel,
    random_rotation,
    separation_deg,
    tangent_frames,
    to_plane,
    unit_vectors,
)

CENTRES = [
    (0.0, 0.0),
    (359.999999, 0.0),
    (184.0, -5.8),
    (33.0, 89.9999),
    (0.0, 90.0),
    (12.0, -90.0),
]


def one(value: float) -> np.ndarray:
    return np.array([value])


def test_axes_of_the_galactic_frame() -> None:
    vectors = unit_vectors(np.array([0.0, 90.0, 0.0]), np.array([0.0, 0.0, 90.0]))
    np.testing.assert_allclose(vectors, np.eye(3), atol=1e-15)


@given(lon=st.floats(0, 360, exclude_max=True), lat=st.floats(-89.999, 89.999))
def test_sky_to_vector_and_back(lon: float, lat: float) -> None:
    back_lon, back_lat = lon_lat(unit_vectors(one(lon), one(lat)))
    assert abs((back_lon[0] - lon + 180) % 360 - 180) * np.cos(np.radians(lat)) < 1e-6
    assert abs(back_lat[0] - lat) < 1e-6


@pytest.mark.parametrize("lat", [-90.0, 90.0])
def test_poles_come_back_as_poles(lat: float) -> None:
    assert lon_lat(unit_vectors(one(123.0), one(lat)))[1][0] == pytest.approx(lat, abs=1e-9)


def test_longitude_stays_below_360() -> None:
    lon, _ = lon_lat(np.array([[1.0, -1e-20, 0.0], [1.0, -1e-17, 0.0], [1.0, -0.0, 0.0]]))
    assert np.all((lon >= 0) & (lon < 360))


def test_length_of_a_vector_does_not_matter() -> None:
    vector = unit_vectors(one(40.0), one(-20.0))
    np.testing.assert_allclose(np.hstack(lon_lat(17.0 * vector)), [40.0, -20.0])


@pytest.mark.parametrize(
    ("a", "b", "angle"),
    [
        ((0, 0), (90, 0), 90),
        ((10, 90), (200, -90), 180),
        ((359.5, 0), (0.5, 0), 1),
        ((30, 60), (30, 60), 0),
        ((0, 0), (1e-9, 0), 1e-9),
        ((0, 89), (180, 89), 2),
    ],
)
def test_separation(a: tuple[float, float], b: tuple[float, float], angle: float) -> None:
    va, vb = (unit_vectors(one(lon), one(lat)) for lon, lat in (a, b))
    # Near 180 degrees the chord no longer tells angles apart below about 1e-6 degrees.
    tolerance = 1e-5 if angle == 180 else 1e-12
    assert separation_deg(va, vb)[0] == pytest.approx(angle, rel=1e-6, abs=tolerance)


@pytest.mark.parametrize(("lon", "lat"), CENTRES)
def test_frames_are_orthonormal_and_right_handed(lon: float, lat: float) -> None:
    frame = tangent_frames(one(lon), one(lat))[0]
    np.testing.assert_allclose(frame @ frame.T, np.eye(3), atol=1e-14)
    assert np.linalg.det(frame) == pytest.approx(1)
    assert frame[1, 2] == 0, "east runs along the parallel"
    assert frame[2, 2] >= 0, "north points to the north pole"


@pytest.mark.parametrize(("lon", "lat"), CENTRES)
@settings(max_examples=50)
@given(x=st.floats(-8, 8), y=st.floats(-8, 8))
def test_plane_to_sky_and_back(lon: float, lat: float, x: float, y: float) -> None:
    frame = tangent_frames(one(lon), one(lat))[0]
    back = to_plane(frame, from_plane(frame, one(x), one(y)))
    np.testing.assert_allclose(np.hstack(back), [x, y], atol=1e-9)


@pytest.mark.parametrize(("lon", "lat"), CENTRES)
def test_sky_to_pixel_to_sky(lon: float, lat: float) -> None:
    """Positions survive the way to pixel coordinates and back to 1e-6 degrees."""
    frame = tangent_frames(one(lon), one(lat))[0]
    rng = np.random.default_rng(1)
    start = from_plane(frame, rng.uniform(-5, 5, 200), rng.uniform(-5, 5, 200))
    start = unit_vectors(*lon_lat(start))
    x, y = (plane_to_pixel(c, 128, 10.0) for c in to_plane(frame, start))
    end = from_plane(frame, pixel_to_plane(x, 128, 10.0), pixel_to_plane(y, 128, 10.0))
    assert separation_deg(start, unit_vectors(*lon_lat(end))).max() < 1e-6


def test_x_grows_to_the_east_and_y_to_the_north() -> None:
    frame = tangent_frames(one(100.0), one(20.0))[0]
    x, y = to_plane(frame, unit_vectors(np.array([100.1, 100.0]), np.array([20.0, 20.1])))
    assert x[0] == pytest.approx(0.1 * np.cos(np.radians(20)), rel=1e-4)
    assert y[1] == pytest.approx(0.1, rel=1e-4)
    assert abs(x[1]) < 1e-12


def test_directions_behind_the_plane_have_no_coordinates() -> None:
    frame = tangent_frames(one(0.0), one(0.0))[0]
    x, y = to_plane(frame, unit_vectors(np.array([180.0, 90.0, 0.0]), np.array([0.0, 0.0, 0.0])))
    assert np.isnan(x[0])
    assert np.isnan(y[0])
    assert x[2] == 0


def test_the_same_direction_falls_in_the_same_part_of_every_resolution() -> None:
    """The centre of a coarse pixel is the corner shared by its four finer ones: no half-pixel slip."""
    coarse = pixel_to_plane(np.arange(32.0), 32, 10.0)
    fine = plane_to_pixel(coarse, 64, 10.0)
    np.testing.assert_allclose(fine, 2 * np.arange(32) + 0.5, atol=1e-12)


def test_first_and_last_pixel_lie_half_a_pixel_inside() -> None:
    assert pixel_to_plane(np.array([0.0, 127.0]), 128, 10.0).tolist() == [-4.9609375, 4.9609375]
    assert plane_to_pixel(one(0.0), 128, 10.0)[0] == 63.5


@pytest.mark.parametrize("size", [0.5, 10.0, 40.0])
def test_solid_angles_add_up_to_the_square(size: float) -> None:
    half = np.radians(size) / 2
    # A square |x|, |y| < h of the tangent plane subtends 4 arcsin(h^2 / (1 + h^2)).
    exact = 4 * np.arcsin(half**2 / (1 + half**2))
    total = pixel_solid_angle_sr(128, size).sum()
    assert total == pytest.approx(exact, rel=1e-5)


def test_solid_angle_is_largest_in_the_middle_and_symmetric() -> None:
    area = pixel_solid_angle_sr(8, 20.0)
    assert area.shape == (8, 8)
    np.testing.assert_allclose(area, area.T)
    np.testing.assert_allclose(area, area[::-1, ::-1])
    assert area[3, 3] == area.max()


def test_random_rotations_are_rotations_and_uniform() -> None:
    rng = np.random.default_rng(5)
    rotations = np.array([random_rotation(rng) for _ in range(4000)])
    products = rotations @ rotations.transpose(0, 2, 1)
    np.testing.assert_allclose(products, np.broadcast_to(np.eye(3), products.shape), atol=1e-13)
    np.testing.assert_allclose(np.linalg.det(rotations), 1)
    # Each element of a uniform rotation is uniform in -1..1: mean 0, variance 1/3.
    assert np.abs(rotations.mean(axis=0)).max() < 5 * np.sqrt(1 / 3 / 4000)
    np.testing.assert_allclose(rotations.var(axis=0), 1 / 3, atol=0.03)
