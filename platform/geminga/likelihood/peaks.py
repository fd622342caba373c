"""Local maxima of maps, to a fraction of a pixel."""

from __future__ import annotations

import numpy as np

from geminga.arrays import Float64, Int64
from geminga.compiled import compiled


@compiled
def _parabola(before: float, at: float, after: float) -> float:
    """Return the vertex of the parabola through three points at -1, 0, 1; within half a pixel."""
    bend = before - 2.0 * at + after
    if bend >= 0.0:
        return 0.0
    return min(max(0.5 * (before - after) / bend, -0.5), 0.5)


@compiled
def _maxima(maps: Float64, threshold: float, radius: float) -> tuple[Int64, Float64]:
    patches, n, _ = maps.shape
    half = int(np.ceil(radius))
    patch_of, found = np.empty(1024, np.int64), np.empty((1024, 3))
    count = 0
    for patch in range(patches):
        image = maps[patch]
        for row in range(n):
            for column in range(n):
                value = image[row, column]
                if value < threshold:
                    continue
                highest = True
                for r in range(max(row - half, 0), min(row + half + 1, n)):
                    for c in range(max(column - half, 0), min(column + half + 1, n)):
                        near = (r - row) ** 2 + (c - column) ** 2 <= radius**2
                        if not near or (r == row and c == column):
                            continue
                        # Of equal pixels the first one, in scan order, is the maximum.
                        earlier = r < row or (r == row and c < column)
                        if image[r, c] > value or (earlier and image[r, c] == value):
                            highest = False
                            break
                    if not highest:
                        break
                if not highest:
                    continue
                dy, dx = 0.0, 0.0
                if 0 < row < n - 1:
                    dy = _parabola(image[row - 1, column], value, image[row + 1, column])
                if 0 < column < n - 1:
                    dx = _parabola(image[row, column - 1], value, image[row, column + 1])
                if count == patch_of.size:
                    longer, wider = np.empty(2 * count, np.int64), np.empty((2 * count, 3))
                    longer[:count], wider[:count] = patch_of, found
                    patch_of, found = longer, wider
                patch_of[count] = patch
                found[count, 0], found[count, 1] = row + dy, column + dx
                found[count, 2] = value
                count += 1
    return patch_of[:count].copy(), found[:count].copy()


def local_maxima(
    maps: Float64, threshold: float, radius_px: float
) -> tuple[Int64, Float64, Float64, Float64]:
    """Find the pixels that are highest within a radius and at least as high as a threshold.

    Parameters
    ----------
    maps : Float64, shape (patches, n, n)
        Maps to search.
    threshold : float
        Lowest value of a maximum.
    radius_px : float
        No pixel within this distance is higher; at least 1.5, the eight neighbours.

    Returns
    -------
    patch : Int64, shape (m,)
        Map of each maximum.
    row, column : Float64, shape (m,)
        Vertices of the parabolas through the maximum and its neighbours, along each axis.
    value : Float64, shape (m,)
        Value of the highest pixel.
    """
    patch, found = _maxima(np.ascontiguousarray(maps, np.float64), threshold, max(radius_px, 1.5))
    return patch, found[:, 0], found[:, 1], found[:, 2]
