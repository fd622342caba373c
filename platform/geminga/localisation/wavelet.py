"""Wavelet search on photon counts: peaks of their Mexican-hat transform.

The second classical peer of the network, in the spirit of PGWave (Damiani et al. 1997, ApJ 483,
350; Ciprini et al. 2007, AIP Conf. Proc. 921, 546). The counts of each band are transformed with
the wavelet (2 - r^2 / a^2) exp(-r^2 / 2 a^2), whose scale a follows the band's point spread. Its
integral is zero: it sees neither a flat background nor a slope. What a transform may reach by
chance follows from the Poisson fluctuations of the local background, measured in the
surroundings with found sources masked.

PGWave searches one map. Here the transforms of all bands are added at every place with the weight
signal / variance of a typical source, and the sum is judged by its own variance and skewness.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import ndimage, special

from geminga.arrays import Bool, Float64, Int64
from geminga.bands import Band
from geminga.config import LocalisationConfig
from geminga.likelihood.peaks import local_maxima
from geminga.localisation.map_search import peak_sources
from geminga.localisation.smoothing import (
    backgrounds_of,
    mask_disks,
    poisson_significance,
    resample,
    smoothing_widths,
    source_shares,
)

_BACKGROUND_WIDTH = 4.0
"""Width of the Gaussian of the background over the smallest scale in the lowest band."""

_MASK_RADIUS = 2.5
"""Radius around a found source left out of the background, over the same scale."""

_ROUNDS = 3
"""Estimates of the background: one with every pixel, the others without the sources found."""

_SURE = 5.0
"""Sigma of a peak that is masked, and of the source that bands are weighted for."""

_RESPONSE = 0.5
"""Transform of one photon, on average, at a source whose Gaussian point spread is as wide as a."""

_BACKGROUND_ERROR = 0.03
"""Relative error of the background's curvature, over the positive part of the wavelet."""

_REACH = 5.0
"""Where the wavelet is cut off, in scales."""


def hat_kernels(scale_px: float) -> tuple[Float64, Float64]:
    """Return the two rows that make the wavelet's mean over every pixel.

    (2 - x^2 - y^2) exp(-r^2 / 2) = (1 - x^2) e(x) e(y) + e(x) (1 - y^2) e(y) with e a Gaussian, so
    that the wavelet is ``outer(bend, bell) + outer(bell, bend)``. Integrals of both over a pixel
    are exact, and the sum over all pixels is zero however small the scale is.

    Returns
    -------
    bell, bend : Float64, shape (2 m + 1,)
    """
    half = int(np.ceil(_REACH * scale_px))
    edges = (np.arange(2 * half + 2) - half - 0.5) / scale_px
    bell = scale_px * np.sqrt(np.pi / 2) * np.diff(special.erf(edges / np.sqrt(2)))
    bend = scale_px * np.diff(edges * np.exp(-0.5 * edges**2))
    return bell, bend - bell * (bend.sum() / bell.sum())


def transform(images: Float64, scale_px: float) -> Float64:
    """Return the Mexican-hat transform of images (patches, n, n); they are zero outside."""
    bell, bend = hat_kernels(scale_px)

    def along(stack: Float64, row: Float64, axis: int) -> Float64:
        return np.asarray(ndimage.correlate1d(stack, row, axis=axis, mode="constant"))

    return along(along(images, bend, 1), bell, 2) + along(along(images, bell, 1), bend, 2)


def _moments(scale_px: float) -> tuple[float, float, float]:
    """Return the sums over pixels of the wavelet's square, cube and positive part."""
    bell, bend = hat_kernels(scale_px)
    hat = np.outer(bend, bell) + np.outer(bell, bend)
    return float((hat**2).sum()), float((hat**3).sum()), float(hat[hat > 0].sum())


def _combined(
    images: Sequence[Float64],
    backgrounds: Sequence[Float64],
    scales_px: Sequence[float],
    shares: Float64,
    source_counts: float,
    background_error: float,
    pixels: int,
) -> Float64:
    """Return the significance map (patches, pixels, pixels) of the bands' weighted sum.

    A band of background b a pixel and a source of S counts has signal k S, variance b sum(psi^2)
    + k^2 S + (background's error)^2 and weight signal / variance. The sum over bands of weighted
    background photons has variance V, to which the error adds, and third moment T: it is compared
    with Poisson counts of expectation V^3 / T^2 in units of T / V, which have the same (Bohm &
    Zech 2014, NIM A 748, 1, with the mean taken off).
    """
    total = np.zeros((len(images[0]), pixels, pixels))
    variance, third, error = (np.zeros_like(total) for _ in range(3))
    for counts, rate, scale, share in zip(images, backgrounds, scales_px, shares, strict=True):
        square, cube, positive = _moments(scale)
        signal = _RESPONSE * share * source_counts
        error_band = background_error * rate * positive
        weight = signal / (rate * square + _RESPONSE * signal + error_band**2)
        # The background's own transform is that of its curvature and of the patch's edge.
        total += resample(weight * transform(counts - rate, scale), pixels)
        variance += resample(weight**2 * rate * square, pixels)
        third += resample(weight**3 * rate * cube, pixels)
        error += resample(weight * error_band, pixels)
    variance += error**2
    unit, expected = third / variance, variance**3 / third**2
    return poisson_significance(total / unit + expected, expected)


def wavelet_maps(
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
        Scales and threshold.

    Returns
    -------
    Float64, shape (patches, n, n)
        Significance in sigma, of several scales the highest; 0 below the background.
    """
    pixels = max(image.shape[1] for image in images)
    shares = source_shares(bands)
    pixel_deg = [size_deg / image.shape[1] for image in images]
    lowest = min(settings.wavelet_scales_deg)
    radius_px = lowest / size_deg * pixels
    free: Bool = np.ones((len(images[0]), pixels, pixels), dtype=np.bool_)
    for round_ in range(_ROUNDS):
        widths = [_BACKGROUND_WIDTH * lowest / p for p in pixel_deg]
        backgrounds = backgrounds_of(images, free, widths)
        result = np.zeros(free.shape)
        for scale_deg in settings.wavelet_scales_deg:
            scales = smoothing_widths(bands, scale_deg)
            # A pixel is no narrower than the wavelet can be.
            scales_px = [max(a / p, 0.5) for a, p in zip(scales, pixel_deg, strict=True)]
            counts = _SURE**2
            # The first background still holds the sources: an error in proportion to it would
            # hide the brightest ones.
            error = _BACKGROUND_ERROR if round_ else 0.0
            found = _combined(images, backgrounds, scales_px, shares, counts, error, pixels)
            np.maximum(result, found, out=result)
        if round_ < _ROUNDS - 1:
            patch, row, column, _ = local_maxima(result, _SURE, radius_px)
            free = mask_disks(free.shape, patch, row, column, _MASK_RADIUS * radius_px)
    return result


def wavelet_sources(
    images: Sequence[np.ndarray],
    bands: Sequence[Band],
    sky_id: int,
    patch_ids: Int64,
    frames: Float64,
    size_deg: float,
    settings: LocalisationConfig,
) -> pd.DataFrame:
    """Find sources as peaks of the counts' Mexican-hat transform.

    Bands that start at or above ``wavelet_min_gev`` are used, all if none does. A peak is a pixel
    above ``wavelet_threshold`` that is the highest within the smallest scale of the lowest band
    used; its position is the vertex of a parabola, its score the significance.

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
        settings.wavelet_min_gev,
        lambda part, used: wavelet_maps(part, used, size_deg, settings),
        settings.wavelet_threshold,
        min(settings.wavelet_scales_deg),
        sky_id,
        patch_ids,
        frames,
        size_deg,
    )
