"""Light curves: the flux of every year over the mean flux, and how much it varies.

The amplitude of a year is the most likely one, given the model of every pixel and channel: photons
count by the chance w = s / (s + b) that they are the source's (Kerr 2011, ApJ 732, 38,
arXiv:1103.2128), so that background does not drown it.
"""

from __future__ import annotations

import numpy as np

from geminga.arrays import Bool, Float64
from geminga.compiled import compiled
from geminga.patches.project import UInt32

_ITERATIONS = 30
_STEP = 1e-6
_LEAST_REST = 0.02
"""No year's amplitude is so negative that less than this part of a pixel's background is left."""
_LEAST_AMPLITUDE = 1e-3
"""Lowest amplitude of a source without background."""
_USUAL_VARIATION = 1.0
"""Standard deviation of yearly amplitudes that errors are shrunk with; see `amplitudes`."""


def variability_index(ratio: Float64, error: Float64) -> Float64:
    """Return twice the gain in lnL of a flux for every year over a constant one, (n,).

    As in 4FGL (Abdollahi et al. 2020, section 3.6) with Gaussian likelihoods: the chi2 about the
    weighted mean. A constant source has a chi2 with one degree of freedom less than years.

    Parameters
    ----------
    ratio, error : Float64 (n, Y)
        Flux of each year and its error; years that are not finite are left out.

    Returns
    -------
    Float64 (n,)
        NaN with fewer than two years.
    """
    known, values, weight = _known(ratio, error)
    mean = (weight * values).sum(axis=1) / np.maximum(weight.sum(axis=1), np.finfo(float).tiny)
    index = (weight * (values - mean[:, None]) ** 2).sum(axis=1)
    return np.where(known.sum(axis=1) > 1, index, np.nan)


def excess_variance(ratio: Float64, error: Float64) -> Float64:
    """Return the variance of the years beyond that of their errors, (n,).

    The square of the fractional variability of 4FGL (Abdollahi et al. 2020, section 3.6) where
    `ratio` is relative to the mean; negative where the years scatter less than their errors.

    Parameters
    ----------
    ratio, error : Float64 (n, Y)
        Flux of each year over the mean and its error; years that are not finite are left out.

    Returns
    -------
    Float64 (n,)
        NaN with fewer than two years.
    """
    known, values, _ = _known(ratio, error)
    count = known.sum(axis=1)
    mean = values.sum(axis=1) / np.maximum(count, 1)
    scatter = np.where(known, values - mean[:, None], 0.0) ** 2
    noise = np.where(known, error, 0.0) ** 2
    excess = scatter.sum(axis=1) / np.maximum(count - 1, 1) - noise.sum(axis=1) / np.maximum(
        count, 1
    )
    return np.where(count > 1, excess, np.nan)


def _known(ratio: Float64, error: Float64) -> tuple[Bool, Float64, Float64]:
    """Return which years are known, their values (else 0) and their weights (else 0)."""
    known = np.isfinite(ratio) & np.isfinite(error) & (error > 0)
    weight = np.where(known, 1.0, 0.0) / np.where(known, error, 1.0) ** 2
    return known, np.where(known, ratio, 0.0), weight


def amplitudes(
    counts: UInt32, own: Float64, rest: Float64, share: Float64
) -> tuple[Float64, Float64]:
    """Return the most likely amplitude of every year and its error, each (n, Y).

    The model of a year's pixel is its share of ``a own + rest``, and a maximises the Poisson
    likelihood of all channels and pixels. The error is that of the expected information at an
    amplitude between 1 and a, so much nearer 1 as the year is less well measured: an error that
    followed every fluctuation of a would make low years seem the better measured ones.

    Parameters
    ----------
    counts : UInt32 (n, C, Y, q)
        Counts of every channel, year and pixel.
    own, rest : Float64 (n, C, q)
        Expected counts of the candidate and of all else over all years; a pixel where both are 0
        is left out.
    share : Float64 (n, Y)
        Each year's part of the exposure.
    """
    ratio, error = np.full(share.shape, np.nan), np.full(share.shape, np.nan)
    _amplitudes(counts, own, rest, share, ratio, error)
    return ratio, error


def summed_amplitudes(
    counts: UInt32, own: Float64, rest: Float64, share: Float64, aperture: Bool
) -> tuple[Float64, Float64]:
    """Return what `amplitudes` does from counts summed over channels and an aperture (thesis).

    Parameters
    ----------
    counts, own, rest, share
        See `amplitudes`.
    aperture : Bool (C, q)
        Pixels that are added up.
    """
    inside = aperture.astype(np.float64)
    source = _summed(own, inside)
    other = _summed(rest, inside)
    seen = (own + rest > 0) * inside
    total = np.zeros(share.shape)
    for c in range(counts.shape[1]):
        for y in range(share.shape[1]):
            total[:, y] += (counts[:, c, y] * seen[:, c]).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (total / share - other[:, None]) / source[:, None]
        first = np.sqrt(((source + other) / source**2)[:, None] / share)
        near = 1.0 + (ratio - 1.0) * _USUAL_VARIATION**2 / (_USUAL_VARIATION**2 + first**2)
        model = np.maximum(near, 0.0) * source[:, None] + other[:, None]
        error = np.sqrt(model / share) / source[:, None]
    known = np.isfinite(ratio) & np.isfinite(error) & (error > 0)
    return np.where(known, ratio, np.nan), np.where(known, error, np.nan)


def _summed(images: Float64, inside: Float64) -> Float64:
    """Return images (n, C, q) summed over the pixels (C, q), (n,)."""
    result = np.zeros(len(images))
    for c in range(images.shape[1]):
        result += (images[:, c] * inside[c]).sum(axis=1)
    return result


@compiled
def _amplitudes(
    counts: UInt32, own: Float64, rest: Float64, share: Float64, ratio: Float64, error: Float64
) -> None:
    channels, pixels = own.shape[1], own.shape[2]
    for m in range(len(own)):
        total, lowest = 0.0, np.inf
        for c in range(channels):
            for q in range(pixels):
                if own[m, c, q] > 0.0:
                    total += own[m, c, q]
                    lowest = min(lowest, rest[m, c, q] / own[m, c, q])
        if not total > 0.0:
            continue
        lowest = _LEAST_AMPLITUDE - (1.0 - _LEAST_REST) * lowest
        for y in range(share.shape[1]):
            if not share[m, y] > 0.0:
                continue
            a = 1.0
            for _ in range(_ITERATIONS):
                slope, bend = -share[m, y] * total, 0.0
                for c in range(channels):
                    for q in range(pixels):
                        n = counts[m, c, y, q]
                        if n > 0 and own[m, c, q] > 0.0:
                            part = own[m, c, q] / (a * own[m, c, q] + rest[m, c, q])
                            slope += n * part
                            bend += n * part * part
                step = lowest - a
                if bend > 0.0:
                    step = max(slope / bend, step)
                a += step
                if abs(step) < _STEP:
                    break
            ratio[m, y] = a
            first = 1.0 / (share[m, y] * _information(own[m], rest[m], 1.0))
            shrunk = 1.0 + (a - 1.0) * _USUAL_VARIATION**2 / (_USUAL_VARIATION**2 + first)
            there = share[m, y] * _information(own[m], rest[m], max(shrunk, 0.5 * lowest))
            error[m, y] = 1.0 / np.sqrt(there)


@compiled
def _information(own: Float64, rest: Float64, amplitude: float) -> float:
    total = 0.0
    for c in range(own.shape[0]):
        for q in range(own.shape[1]):
            if own[c, q] > 0.0:
                total += own[c, q] ** 2 / (amplitude * own[c, q] + rest[c, q])
    return total
