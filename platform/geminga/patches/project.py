"""Photons binned straight into tangent-plane images, every one in exactly one pixel per image.

Each photon looks up the frames near it in a table over a coarse partition of the sky (a cube
whose faces are cut into squares, so that finding the cell takes one division and no
trigonometry), and is then projected on those frames alone. The same table serves a few hundred
wide patches and many thousand small boxes around candidate sources.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from geminga.arrays import Float32, Float64, Int8, Int64
from geminga.bands import Band, pixel_sizes
from geminga.compiled import compiled
from geminga.sky.photons import Photons

UInt32 = NDArray[np.uint32]

CELLS_PER_SIDE = 64
"""Cells along one side of a cube face: 1.8 deg in the middle of a face."""


@compiled
def _cell(x: float, y: float, z: float, side: int) -> int:
    ax, ay, az = abs(x), abs(y), abs(z)
    if ax >= ay and ax >= az:
        face, u, v, w = (0 if x > 0 else 1), y, z, ax
    elif ay >= az:
        face, u, v, w = (2 if y > 0 else 3), x, z, ay
    else:
        face, u, v, w = (4 if z > 0 else 5), x, y, az
    if not w > 0.0:
        return -1
    i = min(int((u / w + 1.0) * 0.5 * side), side - 1)
    j = min(int((v / w + 1.0) * 0.5 * side), side - 1)
    return (face * side + i) * side + j


def _cells(side: int) -> tuple[Float64, Float64]:
    """Return unit vectors (6 side^2, 3) of the cells' middles and their radii in radians."""
    edges = np.linspace(-1.0, 1.0, side + 1)
    middle = 0.5 * (edges[1:] + edges[:-1])

    def on_faces(u: Float64, v: Float64) -> Float64:
        one = np.ones_like(u)
        faces = [(one, u, v), (-one, u, v), (u, one, v), (u, -one, v), (u, v, one), (u, v, -one)]
        vectors = np.stack([np.stack(face, axis=-1) for face in faces])
        return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))

    centres = on_faces(*np.meshgrid(middle, middle, indexing="ij"))
    corners = on_faces(*np.meshgrid(edges, edges, indexing="ij"))
    shifted = [corners[:, a : a + side, b : b + side] for a, b in ((0, 0), (0, 1), (1, 0), (1, 1))]
    nearest = np.min([np.sum(centres * corner, axis=-1) for corner in shifted], axis=0)
    radius = np.arccos(np.clip(nearest, -1.0, 1.0))
    return centres.reshape(-1, 3), radius.ravel()


@compiled
def _candidates(
    centres: Float64, reach_cos: Float64, frame_centres: Float64
) -> tuple[Int64, Int64]:
    """List the frames within reach of each cell: row starts (cells + 1,) and frame numbers."""
    start = np.zeros(len(centres) + 1, dtype=np.int64)
    for fill in range(2):
        if fill == 0:
            found = np.empty(0, dtype=np.int64)
        else:
            found = np.empty(start[len(centres)], dtype=np.int64)
        n = 0
        for c in range(len(centres)):
            c0, c1, c2, limit = centres[c, 0], centres[c, 1], centres[c, 2], reach_cos[c]
            for f in range(len(frame_centres)):
                if (
                    c0 * frame_centres[f, 0] + c1 * frame_centres[f, 1] + c2 * frame_centres[f, 2]
                    >= limit
                ):
                    if fill == 1:
                        found[n] = f
                    n += 1
            start[c + 1] = n
    return start, found


@compiled
def _bin(
    xyz: Float32,
    band: Int8,
    year: Int8,
    frames: Float64,
    scale: Float64,
    pixels: Int64,
    years: int,
    offset: Int64,
    start: Int64,
    found: Int64,
    side: int,
    images: UInt32,
) -> None:
    """Count photons into the flat images; image (frame, year) of band b starts at offset[b]."""
    for i in range(len(band)):
        b = band[i]
        if b < 0 or b >= len(pixels):
            continue
        time_bin = 0
        if years > 0:
            time_bin = year[i]
            if time_bin < 0 or time_bin >= years:
                continue
        v0, v1, v2 = np.float64(xyz[i, 0]), np.float64(xyz[i, 1]), np.float64(xyz[i, 2])
        cell = _cell(v0, v1, v2, side)
        if cell < 0:
            continue
        n = pixels[b]
        for k in range(start[cell], start[cell + 1]):
            f = found[k]
            depth = v0 * frames[f, 0, 0] + v1 * frames[f, 0, 1] + v2 * frames[f, 0, 2]
            if depth <= 0.0:
                continue
            x = v0 * frames[f, 1, 0] + v1 * frames[f, 1, 1] + v2 * frames[f, 1, 2]
            column = math.floor((x / depth * scale[b] + 0.5) * n)
            if column < 0 or column >= n:
                continue
            y = v0 * frames[f, 2, 0] + v1 * frames[f, 2, 1] + v2 * frames[f, 2, 2]
            row = math.floor((y / depth * scale[b] + 0.5) * n)
            if row < 0 or row >= n:
                continue
            image = f * max(years, 1) + time_bin
            images[offset[b] + (image * n + row) * n + column] += 1


def bin_tangent(
    photons: Photons,
    frames: Float64,
    size_deg: Sequence[float],
    pixels: Sequence[int],
    per_year: bool = False,
    years: int | None = None,
) -> tuple[UInt32, ...]:
    """Count photons in square tangent-plane images, one size and resolution per band.

    Parameters
    ----------
    photons : Photons
        Photons of a band outside ``range(len(pixels))`` (such as -1) are left out, and so are,
        with `per_year`, those of a year outside ``range(years)``.
    frames : Float64 (N, 3, 3)
        Tangent-plane frames; see `geminga.geometry`.
    size_deg : sequence of float, one per band
        Widths of the images in degrees.
    pixels : sequence of int, one per band
        Pixels per side of the images.
    per_year : bool
        Keep the years apart.
    years : int, optional
        Number of years, needed with `per_year`.

    Returns
    -------
    tuple of uint32 arrays, one per band
        Shape (N, n_b, n_b), or (N, years, n_b, n_b) with `per_year`; rows along y (north).

    Raises
    ------
    ValueError
        If sizes and pixels differ in length, or years are missing: a fault of the caller.
    """
    if len(size_deg) != len(pixels):
        raise ValueError(f"{len(size_deg)} widths for {len(pixels)} bands")
    if per_year and years is None:
        raise ValueError("per_year needs the number of years")
    frames = np.ascontiguousarray(frames, dtype=np.float64).reshape(-1, 3, 3)
    n_years = int(years) if per_year and years is not None else 0
    leading = (len(frames), n_years) if per_year else (len(frames),)
    shapes = [(*leading, int(n), int(n)) for n in pixels]
    ends = np.cumsum([math.prod(shape) for shape in shapes], dtype=np.int64)
    offset = np.concatenate([np.zeros(1, dtype=np.int64), ends])
    images = np.zeros(int(offset[-1]), dtype=np.uint32)
    # A plane coordinate is the tangent of the angle, in degrees of arc at the centre.
    half_diagonal = math.sqrt(2.0) * math.radians(max(size_deg, default=0.0)) / 2.0
    centres, radius = _cells(CELLS_PER_SIDE)
    reach = np.minimum(radius + math.atan(half_diagonal) + 1e-6, math.pi)
    start, found = _candidates(centres, np.cos(reach), np.ascontiguousarray(frames[:, 0]))
    _bin(
        np.ascontiguousarray(photons.xyz, dtype=np.float32),
        photons.channel,
        photons.year,
        frames,
        1.0 / np.radians(np.asarray(size_deg, dtype=np.float64)),
        np.asarray(pixels, dtype=np.int64),
        n_years,
        offset,
        start,
        found,
        CELLS_PER_SIDE,
        images,
    )
    return tuple(images[offset[b] : offset[b + 1]].reshape(shape) for b, shape in enumerate(shapes))


def bin_photons(
    photons: Photons, frames: Float64, size_deg: float, bands: Sequence[Band]
) -> tuple[UInt32, ...]:
    """Count photons in patches of one width, with each band's own pixels.

    Parameters
    ----------
    photons : Photons
        Photons outside every band (-1) are left out.
    frames : Float64 (P, 3, 3)
        Frames of the patches.
    size_deg : float
        Width of the patches in degrees.
    bands : sequence of Band
        Bands, whose `pixels` give the resolution.

    Returns
    -------
    tuple of uint32 (P, n_b, n_b), one per band
    """
    return bin_tangent(photons, frames, [size_deg] * len(bands), pixel_sizes(bands))
