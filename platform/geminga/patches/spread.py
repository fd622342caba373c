"""Counts in HEALPix pixels, spread evenly over their pixel and cut into tangent-plane images.

The mean of a likelihood over all places that the photons of a pixel can have is the likelihood of
counts that are spread over it: lnL is linear in the counts of an image. It needs no random
numbers, and half the variance of placing each photon at random is gone.

A pixel is the union of 4**d equal pixels of a finer level: each takes its part of the counts to
the one image pixel that its centre is in. The frames are turned into the map's own coordinates,
not the map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import healpy as hp
import numpy as np

from geminga.arrays import Float32, Float64, Int64
from geminga.bands import Band, pixel_sizes
from geminga.compiled import compiled
from geminga.sky.formats.fits_input import equatorial_from_galactic
from geminga.sky.formats.healpix_file import FINEST_ORDER
from geminga.sky.pixel_counts import MapPart, PixelCounts

FINER = 4
"""Sub-pixels are at least this much narrower than the pixels of the images."""
DEEPEST = 5
"""Most levels that a pixel is divided: where maps are far coarser than the images."""
COARSE_ORDER = 5
"""Cells (1.8 deg) in which the frames near are looked up; maps of fewer pixels use those."""
_RING = np.array([2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4], dtype=np.int64)
_TURN = np.array([1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7], dtype=np.int64)
"""Ring and longitude of the lowest corner of HEALPix's base pixels (Gorski et al. 2005, ApJ 622,
759, figure 4): in nside, and in eighths of the circle."""


def bin_pixel_counts(
    counts: PixelCounts, frames: Float64, size_deg: float, bands: Sequence[Band]
) -> tuple[Float32, ...]:
    """Spread the counts of pixels over patches of one width, with each band's own pixels.

    Parameters
    ----------
    counts : PixelCounts
    frames : Float64 (P, 3, 3)
        Frames of the patches.
    size_deg : float
        Width of the patches in degrees.
    bands : sequence of Band
        Bands, whose `pixels` give the resolution.

    Returns
    -------
    tuple of Float32 (P, n_b, n_b), one per band
        Counts of whole pixels and parts of them; rows along y (north).
    """
    return spread_tangent(counts, frames, [size_deg] * len(bands), pixel_sizes(bands))


def spread_tangent(
    counts: PixelCounts, frames: Float64, size_deg: Sequence[float], pixels: Sequence[int]
) -> tuple[Float32, ...]:
    """Spread the counts of pixels over square images, one size and resolution per channel.

    Parameters
    ----------
    counts : PixelCounts
    frames : Float64 (P, 3, 3)
        Frames of the images.
    size_deg : sequence of float, one per channel
        Widths in degrees.
    pixels : sequence of int, one per channel
        Pixels per side.

    Returns
    -------
    tuple of Float32 (P, n_c, n_c), one per channel
        Counts of whole pixels and parts of them; rows along y (north).
    """
    images = tuple(np.zeros((len(frames), n, n), np.float32) for n in pixels)
    own = {True: np.ascontiguousarray(frames, dtype=np.float64)}
    own[False] = np.ascontiguousarray(equatorial_from_galactic(own[True]))
    near: dict[tuple[bool, int, float], tuple[Int64, Int64]] = {}
    for part in counts.parts:
        size = size_deg[part.channel]
        key = part.galactic, min(COARSE_ORDER, part.nside.bit_length() - 1), size
        if key not in near:
            near[key] = _frames_near(own[part.galactic], size, key[1])
        _add(part, key[1], *near[key], own[part.galactic], size, images[part.channel])
    return images


def levels(nside: int, size_deg: float, pixels: int) -> int:
    """Return how often HEALPix pixels are divided for images of `pixels` a side."""
    ratio = math.degrees(hp.nside2resol(nside)) * FINER * pixels / size_deg
    finest = FINEST_ORDER - (nside.bit_length() - 1)
    return min(max(math.ceil(math.log2(ratio)), 1), DEEPEST, finest)


def _frames_near(frames: Float64, size_deg: float, order: int) -> tuple[Int64, Int64]:
    """List the frames that reach into each NESTED cell: row starts (cells + 1,) and numbers."""
    nside = 1 << order
    centres = np.stack(hp.pix2vec(nside, np.arange(12 * nside**2), nest=True), axis=-1)
    reach = hp.max_pixrad(nside) + math.atan(math.radians(size_deg) / math.sqrt(2.0)) + 1e-6
    cell, frame = np.nonzero(centres @ frames[:, 0].T >= math.cos(min(reach, math.pi)))
    start = np.searchsorted(cell, np.arange(len(centres) + 1))
    return start.astype(np.int64), frame.astype(np.int64)


def _add(
    part: MapPart,
    order: int,
    start: Int64,
    found: Int64,
    frames: Float64,
    size_deg: float,
    images: Float32,
) -> None:
    """Add the counts of one map to the images (P, n, n) of its channel."""
    own = part.nside.bit_length() - 1
    cells = len(start) - 1
    rows = np.searchsorted(part.pixels, np.arange(cells + 1) << 2 * (own - order))
    depth = levels(part.nside, size_deg, images.shape[1])
    _spread(
        part.pixels,
        part.counts,
        rows.astype(np.int64),
        start,
        found,
        frames,
        1.0 / math.radians(size_deg),
        own + depth,
        depth,
        images,
    )


@compiled
def _even_bits(value: int) -> int:
    """Return the number made of every second bit."""
    v = value & 0x5555555555555555
    v = (v ^ (v >> 1)) & 0x3333333333333333
    v = (v ^ (v >> 2)) & 0x0F0F0F0F0F0F0F0F
    v = (v ^ (v >> 4)) & 0x00FF00FF00FF00FF
    v = (v ^ (v >> 8)) & 0x0000FFFF0000FFFF
    return (v ^ (v >> 16)) & 0x00000000FFFFFFFF


@compiled
def _spread(
    pixels: Int64,
    counts: Int64,
    rows: Int64,
    start: Int64,
    found: Int64,
    frames: Float64,
    scale: float,
    order: int,
    depth: int,
    images: Float32,
) -> None:
    """Add counts of pixels, `depth` levels above `order`, to the images of the frames near.

    `rows` are the rows of `pixels` at which each cell begins, `start` and `found` its frames.
    """
    nside = np.int64(1) << order
    children = np.int64(1) << (2 * depth)
    face_bits = (np.int64(1) << (2 * order)) - 1
    area = 1.0 / (3.0 * nside * nside)
    n = images.shape[1]
    for cell in range(len(start) - 1):
        if start[cell] == start[cell + 1]:
            continue
        for row in range(rows[cell], rows[cell + 1]):
            share = np.float32(counts[row] / children)
            for child in range(children):
                pixel = pixels[row] * children + child
                face = pixel >> (2 * order)
                ix, iy = _even_bits(pixel & face_bits), _even_bits((pixel & face_bits) >> 1)
                ring = _RING[face] * nside - ix - iy - 1
                around = nside
                if ring < nside:
                    around = ring
                    from_pole = around * around * area
                    v2, across = 1.0 - from_pole, np.sqrt(from_pole * (2.0 - from_pole))
                elif ring > 3 * nside:
                    around = 4 * nside - ring
                    from_pole = around * around * area
                    v2, across = from_pole - 1.0, np.sqrt(from_pole * (2.0 - from_pole))
                else:
                    v2 = (2 * nside - ring) * 2.0 / (3.0 * nside)
                    across = np.sqrt((1.0 - v2) * (1.0 + v2))
                phi = 0.25 * np.pi * (_TURN[face] * around + ix - iy) / around
                v0, v1 = across * np.cos(phi), across * np.sin(phi)
                for k in range(start[cell], start[cell + 1]):
                    f = found[k]
                    away = v0 * frames[f, 0, 0] + v1 * frames[f, 0, 1] + v2 * frames[f, 0, 2]
                    if away <= 0.0:
                        continue
                    x = v0 * frames[f, 1, 0] + v1 * frames[f, 1, 1] + v2 * frames[f, 1, 2]
                    column = math.floor((x / away * scale + 0.5) * n)
                    if column < 0 or column >= n:
                        continue
                    y = v0 * frames[f, 2, 0] + v1 * frames[f, 2, 1] + v2 * frames[f, 2, 2]
                    line = math.floor((y / away * scale + 0.5) * n)
                    if line >= 0 and line < n:
                        images[f, line, column] += share
