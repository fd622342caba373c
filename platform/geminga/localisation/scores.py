"""Disk-kernel scores: how much network output lies within a few pixels of each pixel."""

from __future__ import annotations

import numpy as np

from geminga.arrays import Float32, Float64, Int64
from geminga.compiled import compiled
from geminga.errors import InputError


def disk_chords(radius_px: float) -> Int64:
    """Return the half-width in pixels of the disk x^2 + y^2 < r^2 in each of its rows.

    Parameters
    ----------
    radius_px : float
        Radius r; 5 gives 9 rows and 69 pixels.

    Returns
    -------
    Int64, shape (2 h + 1,)
        Row ``dy`` (from -h to h) of the disk covers ``-w <= x <= w`` with ``w`` the value at
        ``dy + h``.
    """
    half = int(np.ceil(radius_px)) - 1
    dy = np.arange(-half, half + 1, dtype=np.float64)
    # The largest integer w with w^2 < r^2 - dy^2: the boundary itself is outside.
    return np.asarray(np.ceil(np.sqrt(radius_px**2 - dy**2)) - 1, dtype=np.int64)


def disk_area(radius_px: float) -> int:
    """Return the number of pixels of the disk kernel, which is the highest possible score."""
    return int(np.sum(2 * disk_chords(radius_px) + 1))


def checked_maps(maps: Float32, where: str = "score maps") -> Float32:
    """Return network output as contiguous float32 (patches, n, n).

    Raises
    ------
    InputError
        If the shape is not (patches, n, n) or a value is not finite.
    """
    maps = np.ascontiguousarray(maps, dtype=np.float32)
    if maps.ndim != 3 or maps.shape[1] != maps.shape[2]:
        raise InputError(where, f"shape {maps.shape}", "must be (patches, pixels, pixels)")
    bad = int(maps.size - np.count_nonzero(np.isfinite(maps)))
    if bad:
        raise InputError(
            where, f"{bad} of {maps.size} values are not finite", "check the network's weights"
        )
    return maps


@compiled
def _sum_disks(maps: Float32, chords: Int64, scores: Float32) -> None:
    patches, n, _ = maps.shape
    half = (chords.size - 1) // 2
    pad = chords[half]
    # Running sums of every row, with room on both sides so that chords need no bounds checks:
    # a chord is the difference of two of them.
    running = np.zeros((n, n + 2 * pad + 1))
    total = np.empty(n)
    for patch in range(patches):
        for row in range(n):
            value = 0.0
            for column in range(n):
                value += maps[patch, row, column]
                running[row, pad + column + 1] = value
            for column in range(pad + n + 1, n + 2 * pad + 1):
                running[row, column] = value
        for row in range(n):
            total[:] = 0.0
            for k in range(chords.size):
                source = row + k - half
                if source < 0 or source >= n:
                    continue
                first, last = pad - chords[k], pad + chords[k] + 1
                line = running[source]
                for column in range(n):
                    total[column] += line[column + last] - line[column + first]
            for column in range(n):
                scores[patch, row, column] = total[column]


def disk_kernel_scores(maps: Float32, radius_px: float) -> Float32:
    """Sum each map over the disk x^2 + y^2 < r^2 around every pixel.

    What lies outside a map counts zero, so scores fall off towards its edge. Sums are accumulated
    in float64 from running row sums, 2 r additions a pixel.

    Parameters
    ----------
    maps : Float32, shape (patches, n, n)
        Network output, 0 to 1.
    radius_px : float
        Kernel radius r in pixels; the thesis uses 5, which gives scores from 0 to 69.

    Returns
    -------
    Float32, shape (patches, n, n)

    Raises
    ------
    InputError
        If the shape is wrong or a value is not finite.
    """
    maps = checked_maps(maps)
    scores = np.empty_like(maps)
    _sum_disks(maps, disk_chords(radius_px), scores)
    return scores


def score_at(scores: Float32, row: Float64, column: Float64) -> Float64:
    """Return one score map (n, n) at fractional pixel positions, linear between pixels.

    Positions outside the outermost pixel centres take the nearest edge value.
    """
    n = scores.shape[0]
    row, column = np.clip(row, 0, n - 1), np.clip(column, 0, n - 1)
    low_row = np.minimum(row.astype(np.int64), max(n - 2, 0))
    low_column = np.minimum(column.astype(np.int64), max(n - 2, 0))
    high_row, high_column = np.minimum(low_row + 1, n - 1), np.minimum(low_column + 1, n - 1)
    y, x = row - low_row, column - low_column
    values = scores.astype(np.float64)
    return np.asarray(
        values[low_row, low_column] * (1 - y) * (1 - x)
        + values[low_row, high_column] * (1 - y) * x
        + values[high_row, low_column] * y * (1 - x)
        + values[high_row, high_column] * y * x
    )
