"""Stamps: counts around candidates on several scales, and what all but the candidate explains."""

from __future__ import annotations

import numpy as np

from geminga.arrays import Bool, Float32, Float64, Int64
from geminga.classification.neighbourhood import (
    Field,
    Grid,
    diffuse_images,
    make_grid,
    neighbour_images,
)
from geminga.patches.project import bin_tangent
from geminga.patches.spread import spread_tangent
from geminga.response import BandPsf
from geminga.sections.learning import EvidenceConfig
from geminga.sky.coverage import Coverage
from geminga.sky.photons import Photons
from geminga.sky.pixel_counts import PixelCounts

TYPICAL_INDEX = 2.3
"""Photon index whose PSF sets the widths of all images."""


def r68_deg(psf: BandPsf, channels: int) -> tuple[float, ...]:
    """Return the radius that holds 68 % of a typical source's photons in each channel, degrees."""
    return tuple(psf.radius_of_containment(c, TYPICAL_INDEX, 0.68) for c in range(channels))


def stamp_grids(r68: tuple[float, ...], settings: EvidenceConfig) -> tuple[Grid, ...]:
    """Return the grids of the stamps, one for each scale."""
    low, high = settings.stamp_limits_deg
    return tuple(
        make_grid([min(max(width * r, low), high) for r in r68], settings.stamp_pixels)
        for width in settings.stamp_widths_r68
    )


def count_images(photons: Photons | PixelCounts, grid: Grid, frames: Float64) -> Float64:
    """Return counts of all years, (m, C, p, p); those of maps are spread over their pixels."""
    pixels = [grid.pixels] * len(grid.size_deg)
    if isinstance(photons, PixelCounts):
        spread = spread_tangent(photons, frames, grid.size_deg, pixels)
        return np.stack(spread, axis=1).astype(np.float64)
    return np.stack(bin_tangent(photons, frames, grid.size_deg, pixels), axis=1).astype(np.float64)


def outside(coverage: Coverage, grid: Grid, frames: Float64) -> Bool:
    """Return which pixels have no data, (m, C, p, p)."""
    return np.stack([~coverage.masks(frames, s, grid.pixels) for s in grid.size_deg], axis=1)


def measure_stamps(
    photons: Photons | PixelCounts,
    grids: tuple[Grid, ...],
    field: Field,
    frames: Float64,
    own: Int64,
    level: Float64,
    slope: Float64,
    coverage: Coverage,
) -> Float32:
    """Return counts and expected counts of all but the candidate, (m, C * S, 2, p, p).

    Parameters
    ----------
    photons : Photons or PixelCounts
    grids : tuple of Grid (S)
    field : Field
        All sources of the sky.
    frames : Float64 (m, 3, 3)
        North is up, east to the right.
    own : Int64 (m,)
        Row of each candidate in the field.
    level : Float64 (m, C)
        Diffuse counts per square degree; NaN where a channel has no data: its stamps are NaN too.
    slope : Float64 (m, C, 2)
        See `neighbourhood.slopes`.
    coverage : Coverage
        Pixels outside it are NaN.
    """
    channels, pixels = level.shape[1], grids[0].pixels
    stamps = np.zeros((len(frames), channels, len(grids), 2, pixels, pixels), np.float32)
    for s, grid in enumerate(grids):
        stamps[:, :, s, 0] = count_images(photons, grid, frames)
        expected = diffuse_images(grid, level, slope) + neighbour_images(grid, field, frames, own)
        stamps[:, :, s, 1] = expected
        if not coverage.whole:
            stamps[:, :, s][np.repeat(outside(coverage, grid, frames)[:, :, None], 2, 2)] = np.nan
    stamps[~np.isfinite(level)] = np.nan
    return stamps.reshape(len(frames), channels * len(grids), 2, pixels, pixels)
