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

from geminga.arrays import Float64, Int64
from geminga.bands import Band
from geminga.config import LocalisationConfig
from geminga.likelihood.peaks import local_maxima
from geminga.localisation.map_search import peak_sources
from geminga.localisation.smoothing import (
    backgrounds_of,
    mask_disks,
    poisson_significance,
    resample,
    smooth,
    smoothing_widths,
    source_shares,
)

_BACKGROUND_WIDTH = 2.5
"""Width of the Gaussian of the background over that of the smoothing in the lowest band."""

_MASK_RADIUS = 2.5
"""Radius around a found source left out of the background, over the same width."""

_ROUNDS = 3
"""Estimates of the background: one with every pixel, the others without the sources found."""

_BACKGROUND_ERROR = 0.03
"""Relative error of the background, the value 4FGL weights its likelihood with."""


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
        total += resample(weight * 2.0 * area * counts, pixels)
        mean += resample(weight * 2.0 * area * rate, pixels)
        variance += resample(weight**2 * area * rate, pixels)
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
        smooth(image, w) / smooth(np.ones((1, *image.shape[1:])), w)
        for image, w in zip(images, widths_px, strict=True)
    ]
    free = np.ones((len(images[0]), pixels, pixels), dtype=np.bool_)
    for round_ in range(_ROUNDS):
        surrounding_px = [_BACKGROUND_WIDTH * lowest / p for p in pixel_deg]
        backgrounds = backgrounds_of(images, free, surrounding_px)
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
            free = mask_disks(free.shape, patch, row, column, _MASK_RADIUS * radius_px)
    return result


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
    return peak_sources(
        images,
        bands,
        settings.significance_min_gev,
        lambda part, used: significance_maps(part, used, size_deg, settings),
        settings.significance_threshold,
        settings.significance_smoothing_deg,
        sky_id,
        patch_ids,
        frames,
        size_deg,
    )
