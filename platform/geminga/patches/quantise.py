"""Expected counts as 16-bit codes on a logarithmic scale, and how they are packed.

A code c stands for the expected count mu = MU0 (exp(c STEP) - 1), rounded to single precision:
linear far below MU0, logarithmic above. Rounding to the nearest code changes mu by at most
``MAX_RELATIVE_ERROR (mu + MU0)``, a part ``MAX_RELATIVE_ERROR sqrt(mu)`` of the Poisson noise:
0.8 % of it at 1,000 counts a pixel, 0.03 % at one. Zero stays zero. The coded values are what simulated patches are
made of: they are set where patches are made, before anything is drawn from them.

On disk a code is replaced by its difference from the plane through its neighbours
(left + above - above left, the "gradient" predictor of lossless image coding, Weinberger, Seroussi
and Sapiro 2000, IEEE Trans. Image Process. 9, 1309, section III), with the sign in the lowest bit,
and the low and high bytes of an image are kept apart: what is left is mostly small numbers, which
a general compressor shortens well.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geminga.arrays import Float32
from geminga.compiled import compiled
from geminga.errors import InputError

UInt8 = NDArray[np.uint8]
UInt16 = NDArray[np.uint16]

MU0 = 1e-5
"""Expected counts per pixel below which the scale is linear: nothing is ever detected there."""
STEP = 2.0**-11
"""Step of the scale in ln(mu + MU0)."""
MAX_RELATIVE_ERROR = 2.5e-4
"""Half a step is 2.44e-4; single precision adds a little."""
MAX_CODE = 65535
MAX_COUNTS = MU0 * math.expm1(MAX_CODE * STEP)
"""Largest expected count of a pixel, 7.9e8."""


@lru_cache(maxsize=1)
def code_values() -> Float32:
    """Return the expected count of every code, (65536,)."""
    values: Float32 = (MU0 * np.expm1(np.arange(MAX_CODE + 1) * STEP)).astype(np.float32)
    values.setflags(write=False)
    return values


def encode(images: NDArray[Any], where: str = "expected counts") -> UInt16:
    """Return the codes nearest to expected counts of any shape.

    Raises
    ------
    InputError
        If a count is negative, not finite or above `MAX_COUNTS`.
    """
    if images.size:
        # Any comparison with NaN is false; the last code reaches half a step beyond its value.
        low, high = float(images.min()), float(images.max())
        if not (low >= 0.0 and high <= 1.0001 * MAX_COUNTS):
            raise InputError(
                where,
                "has a pixel that is negative, not finite or too large "
                f"({high if low >= 0.0 else low:g})",
                f"need expected counts of 0 to {MAX_COUNTS:.2g}",
            )
    scaled = np.asarray(images, dtype=np.float32) * np.float32(1.0 / MU0)
    # One temporary array: a sky has 42 million pixels.
    scaled += np.float32(1.0)
    np.log(scaled, out=scaled)
    scaled *= np.float32(1.0 / STEP)
    np.rint(scaled, out=scaled)
    return scaled.astype(np.uint16)


def decode(codes: UInt16) -> Float32:
    """Return the expected counts of codes of any shape."""
    return np.take(code_values(), codes)


def quantised(images: NDArray[Any], where: str = "expected counts") -> Float32:
    """Return expected counts rounded to the values that can be stored; see `encode`."""
    return decode(encode(images, where))


def pack(images: Float32) -> UInt8:
    """Pack images (N, rows, columns) of `quantised` expected counts into N rows of bytes.

    Returns
    -------
    uint8 (N, 2 rows columns)
        Low bytes of an image's differences, then the high bytes.

    Raises
    ------
    ValueError
        If a value is none that `quantised` returns: a fault of the caller.
    """
    codes = np.ascontiguousarray(encode(images))
    packed = np.empty((len(codes), 2 * codes.shape[1] * codes.shape[2]), dtype=np.uint8)
    exact = _pack(np.ascontiguousarray(images, dtype=np.float32), codes, code_values(), packed)
    if not exact:
        raise ValueError("expected counts that were not rounded to storable values")
    return packed


def unpack(packed: UInt8, rows: int, columns: int) -> Float32:
    """Return the images (N, rows, columns) that `pack` took."""
    images = np.empty((len(packed), rows, columns), dtype=np.float32)
    _unpack(np.ascontiguousarray(packed), code_values(), images)
    return images


@compiled
def _pack(images: Float32, codes: UInt16, values: Float32, packed: UInt8) -> bool:
    count, rows, columns = codes.shape
    half = rows * columns
    exact = True
    for i in range(count):
        for y in range(rows):
            left = np.int64(0)
            above_left = np.int64(0)
            for x in range(columns):
                code = np.int64(codes[i, y, x])
                if values[code] != images[i, y, x]:
                    exact = False
                above = np.int64(codes[i, y - 1, x]) if y > 0 else np.int64(0)
                # Differences wrap around at 16 bits, so that they always fit.
                rest = (code - left - above + above_left + 32768) % 65536 - 32768
                signed = 2 * rest if rest >= 0 else -2 * rest - 1
                packed[i, y * columns + x] = signed & 255
                packed[i, half + y * columns + x] = signed >> 8
                left, above_left = code, above
    return exact


@compiled
def _unpack(packed: UInt8, values: Float32, images: Float32) -> None:
    count, rows, columns = images.shape
    half = rows * columns
    above = np.empty(columns, dtype=np.int64)
    for i in range(count):
        above[:] = 0
        for y in range(rows):
            slope = np.int64(0)
            for x in range(columns):
                k = y * columns + x
                signed = np.int64(packed[i, k]) | (np.int64(packed[i, half + k]) << 8)
                slope += (signed >> 1) ^ -(signed & 1)
                code = (above[x] + slope) & 65535
                above[x] = code
                images[i, y, x] = values[code]
