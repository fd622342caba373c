"""Targets of the localisation network: a disk around every source."""

from __future__ import annotations

import numpy as np

from geminga.arrays import Float64, UInt8
from geminga.compiled import compiled
from geminga.geometry import unit_vectors


def disk_targets(
    frames: Float64,
    size_deg: float,
    lon: Float64,
    lat: Float64,
    pixels: int,
    radius_px: float,
) -> UInt8:
    """Draw a disk around every source in every patch.

    A pixel belongs to a disk if its centre is less than `radius_px` from the source's position
    in the plane: 69 pixels for a source on a pixel centre and a radius of 5. Sources outside a
    patch whose disk reaches into it count too.

    Parameters
    ----------
    frames : Float64 (P, 3, 3)
        Rows (centre, east, north).
    size_deg : float
        Width of a patch.
    lon, lat : Float64 (n,)
        Galactic positions in degrees.
    pixels : int
        Pixels per side.
    radius_px : float
        Radius of a disk in pixels.

    Returns
    -------
    UInt8 (P, pixels, pixels)
        1 in a disk, else 0.
    """
    vectors = unit_vectors(np.asarray(lon, np.float64), np.asarray(lat, np.float64))
    target = np.zeros((len(frames), pixels, pixels), dtype=np.uint8)
    _draw(
        target,
        np.ascontiguousarray(frames, dtype=np.float64),
        np.ascontiguousarray(vectors.reshape(-1, 3)),
        float(np.radians(size_deg)),
        float(radius_px),
    )
    return target


@compiled
def _draw(target: UInt8, frames: Float64, vectors: Float64, size: float, radius_px: float) -> None:
    n = target.shape[1]
    reach = (0.5 + (radius_px + 1.0) / n) * size * np.sqrt(2.0)
    nearest_cosine = np.cos(np.arctan(reach))
    for f in range(len(frames)):
        frame = frames[f]
        for s in range(len(vectors)):
            v = vectors[s]
            depth = v[0] * frame[0, 0] + v[1] * frame[0, 1] + v[2] * frame[0, 2]
            if depth < nearest_cosine:
                continue
            x = (v[0] * frame[1, 0] + v[1] * frame[1, 1] + v[2] * frame[1, 2]) / depth
            y = (v[0] * frame[2, 0] + v[1] * frame[2, 1] + v[2] * frame[2, 2]) / depth
            column = (x / size + 0.5) * n - 0.5
            row = (y / size + 0.5) * n - 0.5
            for i in range(max(int(row - radius_px), 0), min(int(row + radius_px) + 2, n)):
                for j in range(
                    max(int(column - radius_px), 0), min(int(column + radius_px) + 2, n)
                ):
                    if (i - row) ** 2 + (j - column) ** 2 < radius_px**2:
                        target[f, i, j] = 1
