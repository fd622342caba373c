"""Directions on the sphere and the tangent plane.

Directions are unit vectors of Galactic coordinates. A *frame* is a 3 x 3 matrix whose rows are
the unit vectors (centre, east, north) of a tangent plane; the gnomonic plane coordinates of a
direction ``v`` are ``x = v.east / v.centre`` and ``y = v.north / v.centre``, given in degrees.
A square image of ``n`` pixels and ``size_deg`` width is indexed ``[row, column]`` with row along
y and column along x; the centre of pixel (0, 0) is at ``x = y = (0.5 / n - 0.5) * size_deg``, so
that pixel coordinates are ``column = (x / size_deg + 0.5) * n - 0.5``.
"""

from __future__ import annotations

import numpy as np

from geminga.arrays import Float64


def unit_vectors(lon_deg: Float64, lat_deg: Float64) -> Float64:
    """Return unit vectors, shape (..., 3), of longitudes and latitudes in degrees."""
    lon, lat = np.radians(lon_deg), np.radians(lat_deg)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def lon_lat(vectors: Float64) -> tuple[Float64, Float64]:
    """Return longitude (0 to below 360) and latitude in degrees of vectors (..., 3) of any length."""
    v = np.asarray(vectors, dtype=np.float64)
    lon = np.degrees(np.arctan2(v[..., 1], v[..., 0])) % 360.0
    lon = np.where(lon == 360.0, 0.0, lon)  # what the remainder of a tiny negative angle rounds to
    lat = np.degrees(np.arctan2(v[..., 2], np.hypot(v[..., 0], v[..., 1])))
    return lon, lat


def separation_deg(a: Float64, b: Float64) -> Float64:
    """Return the angle in degrees between unit vectors (..., 3), exact at small angles."""
    chord = np.linalg.norm(np.asarray(a, np.float64) - np.asarray(b, np.float64), axis=-1)
    return np.asarray(np.degrees(2.0 * np.arcsin(np.minimum(chord / 2.0, 1.0))))


def tangent_frames(lon_deg: Float64, lat_deg: Float64) -> Float64:
    """Return frames (n, 3, 3) with rows (centre, east, north) at the given centres."""
    lon, lat = np.radians(np.atleast_1d(lon_deg)), np.radians(np.atleast_1d(lat_deg))
    centre = unit_vectors(np.degrees(lon), np.degrees(lat))
    east = np.stack([-np.sin(lon), np.cos(lon), np.zeros_like(lon)], axis=-1)
    north = np.cross(centre, east)
    return np.stack([centre, east, north], axis=1)


def to_plane(frame: Float64, vectors: Float64) -> tuple[Float64, Float64]:
    """Project directions (n, 3) on the plane of one frame (3, 3); degrees, NaN behind the plane."""
    local = np.asarray(vectors, np.float64) @ frame.T
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.where(local[..., 0] > 0, local[..., 0], np.nan)
        return np.degrees(local[..., 1] / depth), np.degrees(local[..., 2] / depth)


def from_plane(frame: Float64, x_deg: Float64, y_deg: Float64) -> Float64:
    """Return unit vectors (..., 3) of plane coordinates in degrees of one frame (3, 3)."""
    x, y = np.radians(x_deg)[..., None], np.radians(y_deg)[..., None]
    v = frame[0] + x * frame[1] + y * frame[2]
    return np.asarray(v / np.linalg.norm(v, axis=-1, keepdims=True))


def plane_to_pixel(coordinate_deg: Float64, pixels: int, size_deg: float) -> Float64:
    """Return pixel coordinates (0 is the centre of the first pixel) of plane coordinates."""
    return (coordinate_deg / size_deg + 0.5) * pixels - 0.5


def pixel_to_plane(pixel: Float64, pixels: int, size_deg: float) -> Float64:
    """Return plane coordinates in degrees of pixel coordinates; inverse of plane_to_pixel."""
    return ((pixel + 0.5) / pixels - 0.5) * size_deg


def pixel_solid_angle_sr(pixels: int, size_deg: float) -> Float64:
    """Return the solid angle of every pixel of a gnomonic image, shape (pixels, pixels).

    The plane element dx dy at distance r from the centre subtends dx dy / (1 + r^2)^(3/2).
    """
    axis = np.radians(pixel_to_plane(np.arange(pixels, dtype=np.float64), pixels, size_deg))
    r2 = axis[:, None] ** 2 + axis[None, :] ** 2
    return np.asarray(np.radians(size_deg / pixels) ** 2 / (1.0 + r2) ** 1.5)


def random_rotation(rng: np.random.Generator) -> Float64:
    """Return a rotation matrix drawn uniformly from SO(3) (Shoemake 1992)."""
    q = rng.normal(size=4)
    w, x, y, z = q / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
