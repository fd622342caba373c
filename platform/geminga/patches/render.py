"""Expected counts of a simulated sky in tangent-plane images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import healpy
import numpy as np

from geminga.arrays import Float32, Float64, Int64
from geminga.bands import pixel_sizes
from geminga.compiled import compiled
from geminga.geometry import lon_lat, pixel_solid_angle_sr, unit_vectors
from geminga.patches.psf_lookup import (
    BIT_SHIFT,
    FIRST_BITS,
    index_weights,
    psf_lookup,
    reach_rad,
)
from geminga.sky.sky import Sky

SINGLE_POINT_PIXELS = 10.0
"""Beyond this many pixels from a source one point stands for a pixel; see `add_sources`."""
CELLS = 4.0
"""Nearer, cells per pixel and side times (distance / pixel)."""
FAINT_COUNTS = 10.0
FAINT_SHARE = 0.5
"""Both are this much smaller for sources of fewer counts: 0.3 % of their counts is no error."""
MAX_CELLS = 10
FRAMES_AT_ONCE = 64
BIT_MASK = (1 << BIT_SHIFT) - 1
BIT_STEP = 1.0 / (1 << BIT_SHIFT)


def expected_images(sky: Sky, frames: Float64, size_deg: float) -> tuple[Float32, ...]:
    """Return the expected counts of all components and years in every patch.

    Parameters
    ----------
    sky : Sky
    frames : Float64 (P, 3, 3)
        Rows (centre, east, north).
    size_deg : float
        Width of a patch.

    Returns
    -------
    tuple of Float32 (P, n_c, n_c), one per channel
    """
    sizes = [size_deg] * len(sky.channels)
    return tuple(render_tangent(sky, frames, sizes, pixel_sizes(sky.channels)))


def render_tangent(
    sky: Sky,
    frames: Float64,
    size_deg: Sequence[float],
    pixels: Sequence[int],
    *,
    channels: Sequence[int] | None = None,
    per_year: bool = False,
) -> list[Float32]:
    """Render square gnomonic images of expected counts.

    Every source is the PSF of its spectral index integrated over the pixels, those outside an
    image included as far as they matter; diffuse emission is interpolated between the centres
    of its HEALPix pixels. An image does not depend on which other frames are rendered with it.

    Parameters
    ----------
    sky : Sky
    frames : Float64 (N, 3, 3)
        Rows (centre, east, north).
    size_deg, pixels : sequence
        Width and pixels per side of the images, for each of `channels`.
    channels : sequence of int, optional
        Channel numbers; all by default.
    per_year : bool
        Give every year its own image.

    Returns
    -------
    list of Float32 (N, n, n), or (N, Y, n, n) if `per_year`; one per channel
    """
    chosen = range(len(sky.channels)) if channels is None else channels
    if not len(chosen) == len(size_deg) == len(pixels):
        raise ValueError(
            f"{len(chosen)} channels, {len(size_deg)} sizes, {len(pixels)} pixels; give one each"
        )
    frames = np.ascontiguousarray(frames, dtype=np.float64)
    table = sky.sources.table
    vectors = unit_vectors(table["lon_deg"].to_numpy(), table["lat_deg"].to_numpy())
    if per_year:
        shares = np.ascontiguousarray(sky.shares)
    else:
        shares = np.ascontiguousarray(sky.shares.sum(axis=1, keepdims=True))
    # Exposure shares change over tens of degrees: one value serves a whole image.
    year_shares = (
        sky.year_share.at(*lon_lat(frames[:, 0])) if per_year else np.ones((len(frames), 1))
    )
    images = []
    for channel, size, n in zip(chosen, size_deg, pixels, strict=True):
        image = np.zeros((len(frames), shares.shape[1], n, n), dtype=np.float32)
        counts = np.ascontiguousarray(sky.source_counts[:, channel])
        index = sky.source_psf_index[:, channel]
        density = sky.diffuse_density(channel)
        lookup = psf_lookup(sky.psf, channel)
        low, weight = index_weights(sky.psf, index)
        add_sources(
            image,
            frames,
            float(np.radians(size)),
            vectors,
            counts,
            reach_rad(sky.psf, channel, counts, index, float(density.min())),
            shares,
            lookup.density_per_sr,
            lookup.core_rad,
            low,
            weight,
        )
        _add_diffuse(image, density, frames, size, year_shares)
        image *= pixel_solid_angle_sr(n, size).astype(np.float32)
        images.append(image)
    return images if per_year else [image[:, 0] for image in images]


def diffuse_images(
    density: Float64 | Float32, frames: Float64, size_deg: float, pixels: int
) -> Float32:
    """Return the expected counts of one diffuse map in square gnomonic images.

    The map is read as `render_tangent` reads that of a sky.

    Parameters
    ----------
    density : Float64 or Float32 (npix,)
        Expected counts per steradian over the whole observing time (RING, Galactic).
    frames : Float64 (N, 3, 3)
        Rows (centre, east, north).
    size_deg, pixels
        Width and pixels per side of the images.

    Returns
    -------
    Float32 (N, pixels, pixels)
        Counts per pixel.
    """
    frames = np.ascontiguousarray(frames, dtype=np.float64)
    image = np.zeros((len(frames), 1, pixels, pixels), dtype=np.float32)
    whole = np.ones((len(frames), 1))
    _add_diffuse(image, np.asarray(density, dtype=np.float64), frames, size_deg, whole)
    return image[:, 0] * pixel_solid_angle_sr(pixels, size_deg).astype(np.float32)


@compiled
def add_sources(
    image: Float32,
    frames: Float64,
    size: float,
    vectors: Float64,
    counts: Float64,
    reach: Float64,
    shares: Float64,
    table: Float64,
    core: Float64,
    low: Int64,
    weight: Float64,
) -> None:
    """Add counts per steradian of sources to images (N, Y, n, n).

    The mean of the PSF over a pixel is taken at one point where the PSF is flat, else in m x m
    cells with 2 x 2 Gauss-Legendre points each, whose error falls with the fourth power of
    cell / distance; m grows as the source comes nearer, up to the width of the PSF's core.
    """
    n = image.shape[2]
    years = shares.shape[1]
    step = size / n
    half = size / 2.0
    nodes = table.shape[1]
    half_diagonal = np.arctan(half * np.sqrt(2.0))
    psf = np.empty(nodes)
    chord2_row = np.empty(n)
    axis = (np.arange(n) + 0.5) * step - half
    shrink = np.empty((n, n))
    for row in range(n):
        for column in range(n):
            shrink[row, column] = 1.0 / np.sqrt(1.0 + axis[row] ** 2 + axis[column] ** 2)
    for s in range(len(counts)):
        if counts[s] <= 0.0 or reach[s] < 0.0:
            continue
        upper = min(low[s] + 1, len(table) - 1)
        softening = 4.0 * ((1.0 - weight[s]) * core[low[s]] + weight[s] * core[upper]) ** 2
        # Pixels are kept when their centre is within reach: half a pixel more than needed.
        cap = min(reach[s] + step, np.pi)
        chord2_cap = (2.0 * np.sin(cap / 2.0)) ** 2
        chord2_near = (2.0 * np.sin(min(cap + half_diagonal, np.pi) / 2.0)) ** 2
        blended = False
        fineness = step * (FAINT_SHARE if counts[s] < FAINT_COUNTS else 1.0)
        for f in range(len(frames)):
            frame = frames[f]
            sc = (
                vectors[s, 0] * frame[0, 0]
                + vectors[s, 1] * frame[0, 1]
                + vectors[s, 2] * frame[0, 2]
            )
            if 2.0 - 2.0 * sc > chord2_near:
                continue
            sx = (
                vectors[s, 0] * frame[1, 0]
                + vectors[s, 1] * frame[1, 1]
                + vectors[s, 2] * frame[1, 2]
            )
            sy = (
                vectors[s, 0] * frame[2, 0]
                + vectors[s, 1] * frame[2, 1]
                + vectors[s, 2] * frame[2, 2]
            )
            if not blended:
                # No farther than a pixel that is kept can reach.
                farthest = 2.0 * np.sin(min(cap + step, np.pi) / 2.0)
                last = min(_node(farthest * farthest) + 2, nodes)
                for i in range(last):
                    psf[i] = counts[s] * (
                        (1.0 - weight[s]) * table[low[s], i] + weight[s] * table[upper, i]
                    )
                blended = True
            # Rows and columns that can hold a pixel within the cap: the angle between two
            # directions is at least that between their planes through a frame axis.
            first_row, last_row = _extent(sy, sc, cap, half, step, n)
            first_column, last_column = _extent(sx, sc, cap, half, step, n)
            for row in range(first_row, last_row):
                y = axis[row]
                along = sc + y * sy
                for column in range(first_column, last_column):
                    chord2_row[column] = (
                        2.0 - 2.0 * (along + axis[column] * sx) * shrink[row, column]
                    )
                for column in range(first_column, last_column):
                    chord2 = chord2_row[column]
                    if chord2 > chord2_cap:
                        continue
                    x = axis[column]
                    scale2 = chord2 + softening
                    value = 0.0
                    if scale2 > (SINGLE_POINT_PIXELS * fineness) ** 2:
                        value = _lookup(psf, chord2)
                    else:
                        cells = min(int(np.ceil(CELLS * fineness / np.sqrt(scale2))), MAX_CELLS)
                        for a in range(2 * cells):
                            yy = y + _gauss_point(a, cells) * step
                            for b in range(2 * cells):
                                xx = x + _gauss_point(b, cells) * step
                                norm = 1.0 / np.sqrt(1.0 + xx * xx + yy * yy)
                                chord2 = 2.0 - 2.0 * (sc + xx * sx + yy * sy) * norm
                                value += _lookup(psf, chord2)
                        value /= 4 * cells * cells
                    for year in range(years):
                        image[f, year, row, column] += shares[s, year] * value


@compiled
def _node(chord2: float) -> int:
    """Return the number of the node at or below a squared chord; see `PsfLookup`."""
    return int((np.float32(chord2).view(np.int32) - FIRST_BITS) >> BIT_SHIFT)


@compiled
def _lookup(psf: Float64, chord2: float) -> float:
    """Return the PSF at a squared chord, linear between the nodes of its table; 0 beyond them."""
    bits = np.float32(chord2).view(np.int32) - FIRST_BITS
    if bits <= 0:
        return float(psf[0])
    i = bits >> BIT_SHIFT
    if i >= len(psf) - 1:
        return 0.0
    part = (bits & BIT_MASK) * BIT_STEP
    return float(psf[i] + part * (psf[i + 1] - psf[i]))


@compiled
def _gauss_point(number: int, cells: int) -> float:
    """Return the place (-0.5 to 0.5) of one of the 2 x cells Gauss-Legendre points of a pixel."""
    half_distance = 0.28867513459481287
    shift = half_distance if number % 2 else -half_distance
    return (number // 2 + 0.5 + shift) / cells - 0.5


@compiled
def _extent(
    along: float, depth: float, cap: float, half: float, step: float, n: int
) -> tuple[int, int]:
    """Return the first and one past the last pixel of an axis that a cap can touch.

    In frame coordinates a direction has components `along` the axis and `depth` towards the
    centre. A great circle plane x = constant is at angle arcsin(|along - x depth| / sqrt(1 +
    x^2)) from it; pixels whose line is farther than the cap are left out.
    """
    sine = np.sin(min(cap, 0.5 * np.pi))
    first = n
    last = 0
    for i in range(n):
        x = (i + 0.5) * step - half
        if abs(along - x * depth) <= sine * np.sqrt(1.0 + x * x):
            if first == n:
                first = i
            last = i + 1
    return first, last


def _add_diffuse(
    image: Float32, density: Float64, frames: Float64, size_deg: float, year_shares: Float64
) -> None:
    """Add diffuse counts per steradian (npix,) to images (N, Y, n, n).

    The HEALPix map is read at nodes of the plane no farther apart than its pixels, and linearly
    in between; `year_shares` (N, Y) says how much of it each year has.
    """
    nside = int(healpy.npix2nside(len(density)))
    width = float(np.radians(size_deg))
    nodes = int(np.ceil(width / healpy.nside2resol(nside))) + 1
    for start in range(0, len(frames), FRAMES_AT_ONCE):
        part = slice(start, start + FRAMES_AT_ONCE)
        pixel, weight = _plane_weights(nside, nodes, width, frames[part].tobytes())
        grid = (density[pixel] * weight).sum(axis=0).reshape(-1, nodes, nodes)
        _upsample(image[part], grid, np.ascontiguousarray(year_shares[part]))


@lru_cache(maxsize=2)
def _plane_weights(nside: int, nodes: int, width: float, frames: bytes) -> tuple[Int64, Float64]:
    """Return healpy's interpolation pixels and weights at plane nodes of some frames.

    All channels of a set of patches read the map at the same places.
    """
    axis = np.linspace(-width / 2.0, width / 2.0, nodes)
    plane = np.stack([np.ones((nodes, nodes)), *np.meshgrid(axis, axis, indexing="xy")], axis=-1)
    of_frames = np.frombuffer(frames).reshape(-1, 3, 3)
    v = np.einsum("ijk,fkl->fijl", plane, of_frames).reshape(-1, 3)
    theta, phi = healpy.vec2ang(v)
    pixel, weight = healpy.get_interp_weights(nside, theta, phi)
    return pixel, weight


@compiled
def _upsample(image: Float32, grid: Float64, shares: Float64) -> None:
    """Add a bilinear enlargement of grids (N, m, m), times shares (N, Y), to images (N, Y, n, n)."""
    m = grid.shape[1]
    years = image.shape[1]
    n = image.shape[2]
    scale = (m - 1) / n
    low = np.empty(n, dtype=np.int64)
    weight = np.empty(n)
    for i in range(n):
        position = (i + 0.5) * scale
        low[i] = min(int(position), m - 2)
        weight[i] = position - low[i]
    line = np.empty(m)
    for f in range(len(image)):
        for row in range(n):
            a = low[row]
            for j in range(m):
                line[j] = grid[f, a, j] + weight[row] * (grid[f, a + 1, j] - grid[f, a, j])
            for column in range(n):
                b = low[column]
                value = line[b] + weight[column] * (line[b + 1] - line[b])
                for year in range(years):
                    image[f, year, row, column] += shares[f, year] * value
