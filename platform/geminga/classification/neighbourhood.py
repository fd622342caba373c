"""Expected counts around candidates: the diffuse emission, all neighbours, and the candidate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from geminga.arrays import Float64, Int64
from geminga.compiled import compiled
from geminga.geometry import pixel_solid_angle_sr, pixel_to_plane
from geminga.likelihood.source_model import lookup
from geminga.patches.psf_lookup import index_weights, psf_lookup
from geminga.response import BandPsf

DEG2_PER_SR = math.degrees(1.0) ** 2
TAIL_DEG = 10.0
"""Neighbours are followed this far beyond the corners of a grid."""
FAINT = 1e-3
"""A neighbour that adds less than this part of the diffuse emission anywhere is left out."""
NEAR_PIXELS = 2.0
"""Within this many pixels of a neighbour a pixel is cut into `SUBSTEPS` squared."""
SUBSTEPS = 4
OWN_SUBSTEPS = 12
"""The same for the candidate itself, in every pixel."""
LEVELS = 16
"""Nearest sources whose backgrounds give the slope of the diffuse emission."""
LEVEL_WIDTH_DEG = 2.5
"""They count by a Gaussian of this width."""
SLOPE_PRIOR = 0.3
"""Standard deviation of the slope of the logarithm, per degree, before they are looked at."""
STEEPEST = math.log(3.0)
"""Greatest change of the logarithm from the middle of a grid to any pixel."""
_LEAST_LEVEL = 1e-3


@dataclass(frozen=True, eq=False)
class Grid:
    """Square tangent-plane images, one width per channel.

    Attributes
    ----------
    size_deg : tuple of float (C,)
    pixels : int
        Pixels per side, p.
    axis : Float64 (C, p)
        Plane coordinates of pixel centres, radian.
    step : Float64 (C,)
        Width of a pixel, radian.
    area : Float64 (C, p, p)
        Solid angles, sr.
    """

    size_deg: tuple[float, ...]
    pixels: int
    axis: Float64
    step: Float64
    area: Float64

    @property
    def corner_rad(self) -> Float64:
        """Return the angle from the middle to a corner in each channel, (C,)."""
        return np.asarray(np.arctan(np.radians(np.array(self.size_deg)) / math.sqrt(2.0)))


def make_grid(size_deg: Sequence[float], pixels: int) -> Grid:
    """Return the grid of images `pixels` a side with these widths in degrees, one per channel."""
    numbers = np.arange(pixels, dtype=np.float64)
    return Grid(
        tuple(float(size) for size in size_deg),
        pixels,
        np.radians([pixel_to_plane(numbers, pixels, size) for size in size_deg]),
        np.radians(np.asarray(size_deg, np.float64) / pixels),
        np.array([pixel_solid_angle_sr(pixels, size) for size in size_deg]),
    )


@dataclass(frozen=True, eq=False)
class Field:
    """Every source of a sky, as the images need it.

    Attributes
    ----------
    vectors : Float64 (N, 3)
    counts, level : Float64 (N, C)
        Fitted counts; diffuse counts per square degree at the source.
    low, upper : Int64 (N,), Float64 (N,)
        Where the source's index lies among those of the PSF (`patches.psf_lookup`).
    density : Float64 (C, K, nodes)
        PSF of every channel and index, by squared chord.
    tree : cKDTree
        Of the vectors.
    """

    vectors: Float64
    counts: Float64
    level: Float64
    low: Int64
    upper: Float64
    density: Float64
    tree: cKDTree


def make_field(
    vectors: Float64, counts: Float64, level: Float64, index: Float64, psf: BandPsf
) -> Field:
    """Return the sources of a sky.

    Parameters
    ----------
    vectors : Float64 (N, 3)
        Galactic directions.
    counts, level : Float64 (N, C)
        See `Field`; a count or level that is not finite is taken as none.
    index : Float64 (N,)
        Photon indices.
    psf : BandPsf
    """
    low, upper = index_weights(psf, index)
    density = np.stack([psf_lookup(psf, c).density_per_sr for c in range(counts.shape[1])])
    return Field(
        np.ascontiguousarray(vectors),
        np.maximum(np.nan_to_num(counts, posinf=0.0), 0.0),
        np.maximum(np.nan_to_num(level, posinf=0.0), 0.0),
        low,
        upper,
        density,
        cKDTree(vectors),
    )


def diffuse_images(grid: Grid, level: Float64, slope: Float64) -> Float64:
    """Return the diffuse counts of every pixel, (m, C, p, p).

    Parameters
    ----------
    grid : Grid
    level : Float64 (m, C)
        Counts per square degree in the middle.
    slope : Float64 (m, C, 2)
        See `slopes`.
    """
    images = np.empty((*level.shape, grid.pixels, grid.pixels))
    for c, axis in enumerate(grid.axis):
        x, y = np.degrees(axis)[None, None, :], np.degrees(axis)[None, :, None]
        change = slope[:, c, 0, None, None] * x + slope[:, c, 1, None, None] * y
        shape = np.exp(np.clip(change, -STEEPEST, STEEPEST)) * grid.area[c] * DEG2_PER_SR
        images[:, c] = level[:, c, None, None] * shape
    return images


def slopes(field: Field, frames: Float64) -> Float64:
    """Return the slope of the logarithm of the diffuse emission at places, (m, C, 2) per degree.

    To the east and the north, from the levels at the nearest sources of the list.
    """
    result = np.zeros((len(frames), field.level.shape[1], 2))
    if len(frames):
        _, near = field.tree.query(frames[:, 0], k=min(LEVELS, len(field.vectors)))
        near = np.asarray(near, np.int64).reshape(len(frames), -1)
        _slopes(field.vectors, np.log(field.level + _LEAST_LEVEL), frames, near, result)
    return result


def neighbour_images(grid: Grid, field: Field, frames: Float64, own: Int64) -> Float64:
    """Return the counts of all other sources in every pixel, (m, C, p, p).

    Parameters
    ----------
    grid : Grid
    field : Field
    frames : Float64 (m, 3, 3)
        Tangent-plane frames of the images.
    own : Int64 (m,)
        Rows of the sources that are left out, one for each image.
    """
    images = np.zeros((len(frames), len(grid.axis), grid.pixels, grid.pixels))
    if not len(frames):
        return images
    reach = float(grid.corner_rad.max()) + math.radians(TAIL_DEG)
    near = field.tree.query_ball_point(
        frames[:, 0], 2.0 * math.sin(min(reach, math.pi) / 2.0), return_sorted=True
    )
    ends = np.cumsum([0, *(len(rows) for rows in near)])
    found = np.concatenate([np.asarray(rows, np.int64) for rows in near])
    _neighbours(
        np.ascontiguousarray(frames),
        own,
        ends.astype(np.int64),
        found.astype(np.int64),
        field.vectors,
        field.counts,
        field.level,
        field.low,
        field.upper,
        field.density,
        grid.axis,
        grid.step,
        grid.area,
        grid.corner_rad,
        images,
    )
    return images


def own_images(grid: Grid, density: Float64, offsets_deg: Sequence[tuple[float, float]]) -> Float64:
    """Return the images of one count in the middle, averaged over offsets, (C, K, p, p).

    Parameters
    ----------
    grid : Grid
    density : Float64 (C, K, nodes)
        As in `Field`.
    offsets_deg : sequence of (float, float)
        Displacements to the east and north.
    """
    channels, indices = density.shape[:2]
    images = np.zeros((channels, indices, grid.pixels, grid.pixels))
    place = np.zeros(3)
    for x, y in offsets_deg:
        place[:] = 1.0, math.radians(x), math.radians(y)
        place /= np.linalg.norm(place)
        for c in range(channels):
            for k in range(indices):
                _add_source(
                    place,
                    1.0 / len(offsets_deg),
                    density[c, k],
                    density[c, k],
                    0.0,
                    grid.axis[c],
                    grid.step[c],
                    grid.area[c],
                    OWN_SUBSTEPS,
                    np.inf,
                    images[c, k],
                )
    return images


@compiled
def _slopes(
    vectors: Float64, log_level: Float64, frames: Float64, near: Int64, result: Float64
) -> None:
    scale = math.degrees(1.0)
    for m in range(len(frames)):
        for c in range(log_level.shape[1]):
            # Level and slopes together: normal equations of (1, x, y), a prior on the slopes.
            s, sx, sy, sxx, sxy, syy, st, sxt, syt = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for row in near[m]:
                v = vectors[row]
                depth = v[0] * frames[m, 0, 0] + v[1] * frames[m, 0, 1] + v[2] * frames[m, 0, 2]
                if depth <= 0.9:
                    continue
                x = v[0] * frames[m, 1, 0] + v[1] * frames[m, 1, 1] + v[2] * frames[m, 1, 2]
                y = v[0] * frames[m, 2, 0] + v[1] * frames[m, 2, 1] + v[2] * frames[m, 2, 2]
                x, y, t = scale * x / depth, scale * y / depth, log_level[row, c]
                w = math.exp(-0.5 * (x * x + y * y) / LEVEL_WIDTH_DEG**2)
                s, st, sx, sy = s + w, st + w * t, sx + w * x, sy + w * y
                sxx, sxy, syy = sxx + w * x * x, sxy + w * x * y, syy + w * y * y
                sxt, syt = sxt + w * x * t, syt + w * y * t
            if s <= 0.0:
                continue
            # Neighbouring levels scatter by a tenth or so about a plane.
            prior = (0.1 / SLOPE_PRIOR) ** 2
            a, b, d = sxx - sx * sx / s + prior, sxy - sx * sy / s, syy - sy * sy / s + prior
            g, h = sxt - sx * st / s, syt - sy * st / s
            result[m, c, 0] = (d * g - b * h) / (a * d - b * b)
            result[m, c, 1] = (a * h - b * g) / (a * d - b * b)


@compiled
def _add_source(
    place: Float64,
    counts: float,
    lower: Float64,
    higher: Float64,
    weight: float,
    axis: Float64,
    step: float,
    area: Float64,
    substeps: int,
    near: float,
    image: Float64,
) -> None:
    """Add a source to an image; `place` is its direction in the image's frame."""
    n = len(axis)
    near2 = (near * step) ** 2
    for i in range(n):
        for j in range(n):
            x, y = axis[j], axis[i]
            chord2 = 2.0 - 2.0 * (place[0] + x * place[1] + y * place[2]) / math.sqrt(
                1.0 + x * x + y * y
            )
            if chord2 > near2:
                value = (1.0 - weight) * lookup(lower, chord2)[0]
                value += weight * lookup(higher, chord2)[0]
            else:
                value = 0.0
                for a in range(substeps):
                    v = y + step * ((a + 0.5) / substeps - 0.5)
                    for b in range(substeps):
                        u = x + step * ((b + 0.5) / substeps - 0.5)
                        chord2 = 2.0 - 2.0 * (place[0] + u * place[1] + v * place[2]) / math.sqrt(
                            1.0 + u * u + v * v
                        )
                        value += (1.0 - weight) * lookup(lower, chord2)[0]
                        value += weight * lookup(higher, chord2)[0]
                value /= substeps * substeps
            image[i, j] += counts * value * area[i, j]


@compiled
def _neighbours(
    frames: Float64,
    own: Int64,
    ends: Int64,
    found: Int64,
    vectors: Float64,
    counts: Float64,
    level: Float64,
    low: Int64,
    upper: Float64,
    density: Float64,
    axis: Float64,
    step: Float64,
    area: Float64,
    corner: Float64,
    images: Float64,
) -> None:
    place = np.zeros(3)
    last = density.shape[1] - 1
    for m in range(len(frames)):
        for row in found[ends[m] : ends[m + 1]]:
            if row == own[m]:
                continue
            for i in range(3):
                place[i] = 0.0
                for j in range(3):
                    place[i] += frames[m, i, j] * vectors[row, j]
            angle = math.acos(min(max(place[0], -1.0), 1.0))
            k = low[row]
            high = min(k + 1, last)
            for c in range(len(axis)):
                if not counts[row, c] > 0.0:
                    continue
                nearest = 2.0 * math.sin(max(angle - corner[c], 0.0) / 2.0)
                value = max(
                    lookup(density[c, k], nearest * nearest)[0],
                    lookup(density[c, high], nearest * nearest)[0],
                )
                if counts[row, c] * value <= FAINT * level[own[m], c] * DEG2_PER_SR:
                    continue
                _add_source(
                    place,
                    counts[row, c],
                    density[c, k],
                    density[c, high],
                    upper[row],
                    axis[c],
                    step[c],
                    area[c],
                    SUBSTEPS,
                    NEAR_PIXELS,
                    images[m, c],
                )
