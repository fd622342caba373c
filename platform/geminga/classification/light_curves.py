"""Light curves: the flux of every year over the mean flux, and how much it varies.

The amplitude of a year is the most likely one, given the model of every pixel and channel: photons
count by the chance w = s / (s + b) that they are the source's (Kerr 2011, ApJ 732, 38,
arXiv:1103.2128), so that background does not drown it.
"""

from __future__ import annotations

import numpy as np

from geminga.arrays import Bool, Float64

_ITERATIONS = 30
_STEP = 1e-6
_LEAST_MODEL = 0.02
"""A year's amplitude is not so low that the model of a pixel falls below this part of its rest."""


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
