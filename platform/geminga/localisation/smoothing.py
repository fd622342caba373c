"""What the searches on counts share: widths and weights of bands, smoothing, surroundings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from geminga.arrays import Bool, Float64, Int64
from geminga.bands import Band

_NARROWEST = 0.3
"""The smoothing of high energies, where the point spread no longer shrinks, over the lowest's."""

_SOURCE_INDEX = 2.2
"""Photon index of the source the bands are weighted for, a typical one of 4FGL."""

_SHARPENINGS = 1
"""Richardson-Lucy steps that give the smoothed background back its curvature."""

_PRIOR_COUNTS = 0.5
"""Counts of the patch's mean rate added to each background estimate: no surrounding is empty."""


def smoothing_widths(bands: Sequence[Band], lowest_deg: float) -> Float64:
    """Return the Gaussian width per band in degrees, given that of the lowest band.

    The point spread of a pair telescope falls as E^-0.8 while multiple scattering limits it
    (Ackermann et al. 2013, ApJ 765, 54, for the LAT), down to a floor set by its strips.
    """
    energy = np.array([np.sqrt(b.emin_gev * min(b.emax_gev, 10 * b.emin_gev)) for b in bands])
    falling = (energy / energy.min()) ** -0.8
    return np.asarray(lowest_deg * np.hypot(falling, _NARROWEST) / np.hypot(1.0, _NARROWEST))


def source_shares(bands: Sequence[Band]) -> Float64:
    """Return the share of each band in the photons of a typical source, E^-2.2, flat exposure."""
    low = np.array([b.emin_gev for b in bands])
    high = np.array([b.emax_gev for b in bands])
    photons = low ** (1 - _SOURCE_INDEX) - high ** (1 - _SOURCE_INDEX)
    return np.asarray(photons / photons.sum())


def poisson_significance(counts: Float64, expected: Float64) -> Float64:
    """Return the significance in sigma of counts above a known expectation, 0 below it.

    The likelihood ratio sqrt(2 (n ln(n / b) - n + b)): Li & Ma 1983, eq. 17, in the limit of a
    background known much better than the counts.
    """
    n = np.maximum(counts, expected)
    return np.asarray(np.sqrt(np.maximum(2.0 * (n * np.log(n / expected) - n + expected), 0.0)))


def resample(stack: Float64, pixels: int) -> Float64:
    """Interpolate maps (patches, m, m) linearly to `pixels` per side over the same square."""
    m = stack.shape[1]
    if m == pixels:
        return stack
    place = np.clip((np.arange(pixels) + 0.5) * m / pixels - 0.5, 0, m - 1)
    low = np.minimum(place.astype(np.int64), max(m - 2, 0))
    high, part = np.minimum(low + 1, m - 1), place - low
    rows = stack[:, low] * (1 - part)[None, :, None] + stack[:, high] * part[None, :, None]
    return np.asarray(rows[:, :, low] * (1 - part) + rows[:, :, high] * part)


def smooth(stack: Float64, width_px: float) -> Float64:
    """Smooth maps (patches, n, n) with a Gaussian of unit sum; zero outside."""
    return np.asarray(
        ndimage.gaussian_filter(stack, width_px, mode="constant", truncate=4.0, axes=(1, 2))
    )


def surroundings(counts: Float64, use: Bool, width_px: float) -> Float64:
    """Return the mean counts per pixel of the surroundings, masked pixels left out.

    Counts over their Gaussian-weighted area, then `_SHARPENINGS` times by the ratio of the smoothed
    counts to the smoothed estimate (Richardson-Lucy steps): plain smoothing flattens the ridge of
    the Galactic plane, by several sigma of what is left. Counts are first added in blocks, no
    larger than half the width: the result is as smooth.
    """
    patches, n, _ = counts.shape
    block = 1
    while 2 * block <= width_px / 2 and n % (2 * block) == 0:
        block *= 2
    coarse = (patches, n // block, block, n // block, block)
    total = (counts * use).reshape(coarse).sum(axis=(2, 4))
    area = use.reshape(coarse).sum(axis=(2, 4), dtype=np.float64)
    width = width_px / block
    patch_mean = np.maximum(counts.mean(axis=(1, 2), keepdims=True), 1.0 / (n * n))
    # The Gaussian scaled to 1 at its centre sums counts: the prior is in counts.
    scale = 2.0 * np.pi * width**2
    smoothed = scale * smooth(total, width) + _PRIOR_COUNTS
    rate = smoothed / (scale * smooth(area, width) + _PRIOR_COUNTS / patch_mean)
    for _ in range(_SHARPENINGS):
        rate = rate * smoothed / (scale * smooth(area * rate, width) + _PRIOR_COUNTS)
    return resample(rate, n)


def backgrounds_of(
    images: Sequence[Float64], free: Bool, widths_px: Sequence[float]
) -> list[Float64]:
    """Return the surroundings of every band's counts where `free` (patches, m, m) allows."""
    return [
        surroundings(image, resample(free.astype(np.float64), image.shape[1]) > 0.5, width)
        for image, width in zip(images, widths_px, strict=True)
    ]


def mask_disks(
    shape: tuple[int, ...], patch: Int64, row: Float64, column: Float64, radius_px: float
) -> Bool:
    """Return an array that is False within the radius of each position."""
    free = np.ones(shape, dtype=np.bool_)
    half = int(np.ceil(radius_px))
    axis = np.arange(-half, half + 1)
    dy, dx = (a.ravel() for a in np.meshgrid(axis, axis, indexing="ij"))
    inside = dy**2 + dx**2 <= radius_px**2
    r = np.rint(row).astype(np.int64)[:, None] + dy[inside]
    c = np.rint(column).astype(np.int64)[:, None] + dx[inside]
    ok = (r >= 0) & (r < shape[1]) & (c >= 0) & (c < shape[2])
    free[np.broadcast_to(patch[:, None], r.shape)[ok], r[ok], c[ok]] = False
    return free
