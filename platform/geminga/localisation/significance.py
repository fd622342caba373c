"""Plain search on photon counts: peaks of a smoothed significance map.

The classical peer of the network. Per band, counts are smoothed with a Gaussian as wide as the
point spread and the background is taken from the surroundings with found sources masked. Bands
are added with weights source / (background + source), and the significance of the sum against
the background is that of the Poisson distribution with the same mean and variance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import ndimage

from geminga.arrays import Bool, Float64, Int64
from geminga.bands import Band
from geminga.config import LocalisationConfig
from geminga.errors import InputError
from geminga.likelihood.peaks import local_maxima
from geminga.localisation.tables import check_patches, patch_detections

_PATCHES_AT_ONCE = 32  # bounds the memory: about 60 MiB for six bands of 128 pixels

_NARROWEST = 0.3
"""The smoothing of high energies, where the point spread no longer shrinks, over the lowest's."""

_BACKGROUND_WIDTH = 2.5
"""Width of the Gaussian of the background over that of the smoothing in the lowest band."""

_MASK_RADIUS = 2.5
"""Radius around a found source left out of the background, over the same width."""

_ROUNDS = 3
"""Estimates of the background: one with every pixel, the others without the sources found."""

_SOURCE_INDEX = 2.2
"""Photon index of the source the bands are weighted for, a typical one of 4FGL."""

_SHARPENINGS = 1
"""Richardson-Lucy steps that give the smoothed background back its curvature."""

_BACKGROUND_ERROR = 0.03
"""Relative error of the background, the value 4FGL weights its likelihood with."""

_PRIOR_COUNTS = 0.5
"""Counts of the patch's mean rate added to each background estimate: no surrounding is empty."""


def search_bands(bands: Sequence[Band], min_gev: float) -> list[int]:
    """Return the numbers of the bands that start at or above `min_gev`; all if there is none."""
    chosen = [b for b, band in enumerate(bands) if band.emin_gev >= min_gev]
    return chosen or list(range(len(bands)))


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


def _resample(stack: Float64, pixels: int) -> Float64:
    """Interpolate maps (patches, m, m) linearly to `pixels` per side over the same square."""
    m = stack.shape[1]
    if m == pixels:
        return stack
    place = np.clip((np.arange(pixels) + 0.5) * m / pixels - 0.5, 0, m - 1)
    low = np.minimum(place.astype(np.int64), max(m - 2, 0))
    high, part = np.minimum(low + 1, m - 1), place - low
    rows = stack[:, low] * (1 - part)[None, :, None] + stack[:, high] * part[None, :, None]
    return np.asarray(rows[:, :, low] * (1 - part) + rows[:, :, high] * part)


def _smooth(stack: Float64, width_px: float) -> Float64:
    """Smooth maps (patches, n, n) with a Gaussian of unit sum; zero outside."""
    return np.asarray(
        ndimage.gaussian_filter(stack, width_px, mode="constant", truncate=4.0, axes=(1, 2))
    )


def _background(counts: Float64, use: Bool, width_px: float) -> Float64:
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
    smoothed = scale * _smooth(total, width) + _PRIOR_COUNTS
    rate = smoothed / (scale * _smooth(area, width) + _PRIOR_COUNTS / patch_mean)
    for _ in range(_SHARPENINGS):
        rate = rate * smoothed / (scale * _smooth(area * rate, width) + _PRIOR_COUNTS)
    return _resample(rate, n)


def _significance(
    smoothed: Sequence[Float64],
    backgrounds: Sequence[Float64],
    widths_px: Sequence[float],
    shares: Float64,
    source_counts: float,
    pixels: int,
) -> Float64:
    """Return the significance map (patches, pixels, pixels) of the weighted sum of all bands.

    A photon at distance d of a band counts w exp(-d^2 / 2 s^2), w = S / (B + S), with S the
    source's photons and B those of the background in the Gaussian's effective area 4 pi s^2. The
    sum of such weights over background photons has mean M and variance V; sum / (V / M) is
    compared with Poisson counts of expectation M^2 / V (Bohm & Zech 2014, NIM A 748, 1).
    """
    total = np.zeros((len(smoothed[0]), pixels, pixels))
    mean, variance = np.zeros_like(total), np.zeros_like(total)
    for counts, rate, width, share in zip(smoothed, backgrounds, widths_px, shares, strict=True):
        # `rate` is per pixel of the band; the Gaussian's sum is 2 pi s^2, its square's pi s^2.
        area = np.pi * width**2
        weight = share * source_counts / (4.0 * area * rate + share * source_counts)
        total += _resample(weight * 2.0 * area * counts, pixels)
        mean += _resample(weight * 2.0 * area * rate, pixels)
        variance += _resample(weight**2 * area * rate, pixels)
    scale = (variance + (_BACKGROUND_ERROR * mean) ** 2) / mean
    return poisson_significance(total / scale, mean / scale)


def significance_maps(
    images: Sequence[Float64], bands: Sequence[Band], size_deg: float, settings: LocalisationConfig
) -> Float64:
    """Return significance maps (patches, n, n) on the grid of the finest band.

    Parameters
    ----------
    images : sequence of arrays, shape (patches, n_b, n_b)
        Counts of each band to be used.
    bands : sequence of Band
        The same bands.
    size_deg : float
        Width of a patch.
    settings : LocalisationConfig
        Smoothing and threshold.

    Returns
    -------
    Float64, shape (patches, n, n)
        Significance in sigma, 0 below the background. The background is made from the same
        counts, which takes away some of every excess: 3 sigma are met 0.4 times as often on
        pure background as in a normal distribution.
    """
    pixels = max(image.shape[1] for image in images)
    widths = smoothing_widths(bands, settings.significance_smoothing_deg)
    shares = source_shares(bands)
    pixel_deg = [size_deg / image.shape[1] for image in images]
    lowest = float(widths.max())
    # Smoothed counts per pixel, corrected for the part of the Gaussian outside the patch. A pixel
    # is no narrower than the smoothing can be: a quarter pixel is already no smoothing.
    widths_px = [max(w / p, 0.5) for w, p in zip(widths, pixel_deg, strict=True)]
    smoothed = [
        _smooth(image, w) / _smooth(np.ones((1, *image.shape[1:])), w)
        for image, w in zip(images, widths_px, strict=True)
    ]
    free = np.ones((len(images[0]), pixels, pixels), dtype=np.bool_)
    for round_ in range(_ROUNDS):
        backgrounds = [
            _background(
                image,
                _resample(free.astype(np.float64), image.shape[1]) > 0.5,
                _BACKGROUND_WIDTH * lowest / p,
            )
            for image, p in zip(images, pixel_deg, strict=True)
        ]
        result = _significance(
            smoothed,
            backgrounds,
            widths_px,
            shares,
            settings.significance_threshold**2,
            pixels,
        )
        if round_ < _ROUNDS - 1:
            radius_px = lowest / size_deg * pixels
            patch, row, column, _ = local_maxima(result, settings.significance_threshold, radius_px)
            free = _mask_disks(free.shape, patch, row, column, _MASK_RADIUS * radius_px)
    return result


def _mask_disks(
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


def significance_sources(
    images: Sequence[np.ndarray],
    bands: Sequence[Band],
    sky_id: int,
    patch_ids: Int64,
    frames: Float64,
    size_deg: float,
    settings: LocalisationConfig,
) -> pd.DataFrame:
    """Find sources as peaks of a smoothed significance map of the counts.

    Bands that start at or above ``significance_min_gev`` are used, all if none does. A peak is a
    pixel above ``significance_threshold`` that is the highest within the smoothing width of the
    lowest band used; its position is the vertex of a parabola, its score the significance.

    Parameters
    ----------
    images : sequence of arrays, one per band, shape (patches, n_b, n_b)
        Counts.
    bands : sequence of Band
        All bands of the configuration, in order.
    sky_id, patch_ids, frames, size_deg, settings
        As for `geminga.localisation.cluster.find_sources`.

    Returns
    -------
    pandas.DataFrame
        PATCH_DETECTIONS; ``group_pixels`` is 1.

    Raises
    ------
    InputError
        If there is not one image array per band, shapes disagree, or counts are not finite and
        non-negative.
    """
    if len(images) != len(bands):
        raise InputError(
            "counts images", f"{len(images)} for {len(bands)} bands", "give one array per band"
        )
    chosen = search_bands(bands, settings.significance_min_gev)
    for b in chosen:
        shape = images[b].shape
        if len(shape) != 3 or shape[1] != shape[2]:
            raise InputError(
                f"counts of band {bands[b].label}", f"shape {shape}", "must be (patches, n, n)"
            )
        check_patches(shape[0], patch_ids, frames)
        if not bool(np.all(images[b] >= 0)) or not bool(np.all(np.isfinite(images[b]))):
            raise InputError(
                f"counts of band {bands[b].label}",
                "negative or not finite",
                "give photon counts",
            )
    used = [bands[b] for b in chosen]
    pixels = max(images[b].shape[1] for b in chosen)
    radius_px = settings.significance_smoothing_deg / size_deg * pixels
    found = [np.empty((0, 4))]
    for first in range(0, len(patch_ids), _PATCHES_AT_ONCE):
        part = [images[b][first : first + _PATCHES_AT_ONCE].astype(np.float64) for b in chosen]
        patch, row, column, height = local_maxima(
            significance_maps(part, used, size_deg, settings),
            settings.significance_threshold,
            radius_px,
        )
        found.append(np.column_stack([patch + first, row, column, height]))
    patch_of, row, column, score = np.concatenate(found).T
    return patch_detections(
        sky_id,
        patch_ids,
        frames,
        size_deg,
        pixels,
        patch_of.astype(np.int64),
        row,
        column,
        score,
        np.ones(len(score), dtype=np.int64),
    )
