"""Counted photons against expected ones: totals, profiles, residuals and goodness of fit.

Pure functions over HEALPix maps (RING) of counts and expected counts. Nothing is adjusted to the
counts, so every figure has as many degrees of freedom as it has numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import healpy
import numpy as np
from scipy.stats import poisson

from geminga.arrays import Bool, Float64, Int64

REGIONS: tuple[tuple[str, str], ...] = (
    ("whole sky", ""),
    ("plane", "within 10 deg of the plane"),
    ("inner Galaxy", "within 5 deg of the plane, 30 deg of l = 0"),
    ("Fermi bubbles", "15 to 50 deg from the plane, within 20 deg of l = 0"),
    ("Loop I, north", "l 330 to 40, b 20 to 75 deg, without the bubbles"),
    ("high latitudes", "more than 50 deg from the plane"),
)
"""Parts of the sky in which totals are compared, and their borders."""

CELL_COUNTS = 20.0
"""Least expected counts of a cell for Pearson's chi-square."""


@dataclass(frozen=True)
class Goodness:
    """How far counts are from what is expected of them, beyond chance.

    Attributes
    ----------
    deviance : float
        Poisson deviance (Cash statistic against the saturated model) over its expectation; 1 if
        chance alone parts counts and model.
    deviance_sigma : float
        (deviance - expectation) in its standard deviation.
    pearson : float
        Chi-square per cell, cells of `CELL_COUNTS` expected counts or more.
    cells : int
        Number of them.
    """

    deviance: float
    deviance_sigma: float
    pearson: float
    cells: int


@dataclass(frozen=True, eq=False)
class Profile:
    """Counts along one coordinate.

    Attributes
    ----------
    edges_deg : Float64 (n + 1,)
    counts : Float64 (n,)
    expected : dict of str to Float64 (n,)
        Of every component.
    """

    edges_deg: Float64
    counts: Float64
    expected: dict[str, Float64]

    @property
    def total(self) -> Float64:
        """Expected counts of all components, (n,)."""
        return np.asarray(sum(self.expected.values()))


def region_masks(lon_deg: Float64, lat_deg: Float64) -> dict[str, Bool]:
    """Return the pixels of each of `REGIONS`, given their Galactic directions (npix,)."""
    lon = (lon_deg + 180.0) % 360.0 - 180.0
    away, height = np.abs(lon), np.abs(lat_deg)
    bubbles = (away < 20) & (height > 15) & (height < 50)
    masks = (
        np.ones(lon.shape, dtype=bool),
        height < 10,
        (away < 30) & (height < 5),
        bubbles,
        (lon > -30) & (lon < 40) & (lat_deg > 20) & (lat_deg < 75) & ~bubbles,
        height > 50,
    )
    return {name: mask for (name, _), mask in zip(REGIONS, masks, strict=True)}


def profile(
    coordinate_deg: Float64, edges_deg: Float64, counts: Float64, expected: Mapping[str, Float64]
) -> Profile:
    """Sum maps in bins of a coordinate.

    Parameters
    ----------
    coordinate_deg : Float64 (npix,)
        Of the pixel centres; pixels beyond the edges are left out.
    edges_deg : Float64 (n + 1,)
        Rising.
    counts : Float64 (npix,)
    expected : mapping of str to Float64 (npix,)
    """

    def binned(values: Float64) -> Float64:
        return np.asarray(np.histogram(coordinate_deg, edges_deg, weights=values)[0])

    return Profile(edges_deg, binned(counts), {k: binned(v) for k, v in expected.items()})


def residual_sigma(counts: Float64, model: Float64) -> Float64:
    """Return (counts - model) / sqrt(model) of every pixel, 0 where nothing is expected."""
    return np.asarray((counts - model) / np.sqrt(np.where(model > 0, model, np.inf)))


def smoothed_sigma(counts: Float64, model: Float64, sigma_deg: float) -> Float64:
    """Return the residual of counts and model, both smoothed, in its own standard deviation.

    With a Gaussian kernel w over pixels of area A the smoothed residual has variance
    sum_j w_j^2 model_j; w^2 is A / (4 pi sigma^2) times the Gaussian of width sigma / sqrt(2).

    Parameters
    ----------
    counts, model : Float64 (npix,)
    sigma_deg : float
        Width of the kernel; a pixel or more.

    Returns
    -------
    Float64 (npix,)
        Normally distributed with variance 1 where the model is true and counts are many.
    """
    sigma = np.radians(sigma_deg)
    area = healpy.nside2pixarea(healpy.npix2nside(len(counts)))
    excess = _smooth(counts - model, sigma)
    variance = _smooth(model, sigma / np.sqrt(2.0)) * area / (4.0 * np.pi * sigma**2)
    # Ripples of a narrow kernel may cross zero far from all counts.
    least = model.mean() * area / (4.0 * np.pi * sigma**2) * 1e-3
    return np.asarray(excess / np.sqrt(np.maximum(variance, max(least, 1e-300))))


def _smooth(values: Float64, sigma: float) -> Float64:
    lmax = 3 * int(healpy.npix2nside(len(values))) - 1
    alm = healpy.map2alm(values, lmax=lmax, iter=1)
    window = healpy.gauss_beam(sigma * np.sqrt(8.0 * np.log(2.0)), lmax=lmax)
    return np.asarray(
        healpy.alm2map(healpy.almxfl(alm, window), healpy.npix2nside(len(values)), lmax=lmax)
    )


def goodness(counts: Float64, model: Float64) -> Goodness:
    """Compare counts with what is expected, pixel by pixel and in cells of enough counts.

    Parameters
    ----------
    counts, model : Float64 (npix,)
    """
    use = model > 0
    mean, variance = deviance_moments(model[use])
    excess = float(deviance(counts[use], model[use]).sum() - mean.sum())
    cell = cells(model, CELL_COUNTS)
    seen, wanted = (np.bincount(cell, values) for values in (counts, model))
    chi2 = float(np.sum((seen - wanted) ** 2 / np.where(wanted > 0, wanted, np.inf)))
    return Goodness(
        1.0 + excess / float(mean.sum()),
        excess / float(np.sqrt(variance.sum())),
        chi2 / len(wanted),
        len(wanted),
    )


def deviance(counts: Float64, model: Float64) -> Float64:
    """Return 2 (m - n + n ln(n/m)) of every pixel (Cash 1979, ApJ 228, 939), model above 0."""
    ratio = np.where(counts > 0, counts, 1.0) / model
    logs = np.where(counts > 0, counts * np.log(ratio), 0.0)
    return np.asarray(2.0 * (model - counts + logs))


def deviance_moments(model: Float64) -> tuple[Float64, Float64]:
    """Return expectation and variance of the deviance of Poisson counts, each (n,).

    Far below one count the deviance is -2 m ln m on average, not 1: a plain chi-square would take an
    empty sky for a perfect fit (compare Kaastra 2017, A&A 605, A51).
    """
    grid, mean, variance = _moments_table()
    x = np.log(np.clip(model, grid[0], grid[-1]))
    first, second = (np.exp(np.interp(x, np.log(grid), np.log(v))) for v in (mean, variance))
    return np.asarray(first), np.asarray(second)


@lru_cache(maxsize=1)
def _moments_table() -> tuple[Float64, Float64, Float64]:
    grid = np.geomspace(1e-12, 1e3, 601)
    mean, variance = np.empty_like(grid), np.empty_like(grid)
    for row, m in enumerate(grid):
        n = np.arange(int(m + 12.0 * np.sqrt(m) + 20.0), dtype=np.float64)
        chance = poisson.pmf(n, m)
        value = deviance(n, np.full_like(n, m))
        mean[row] = chance @ value
        variance[row] = chance @ (value - mean[row]) ** 2
    return grid, mean, variance


def cells(model: Float64, least: float) -> Int64:
    """Return a cell number for every pixel: the smallest HEALPix cells that expect enough.

    A cell is divided into its four parts where each of them expects `least` counts or more. The
    choice is the model's alone, so the counts of a cell are still Poisson.

    Parameters
    ----------
    model : Float64 (npix,)
        Expected counts, RING.
    least : float

    Returns
    -------
    Int64 (npix,)
        0 to the number of cells - 1; a base pixel is never joined with another.
    """
    nside = int(healpy.npix2nside(len(model)))
    levels = [healpy.reorder(model, r2n=True)]
    while len(levels[-1]) > 12:
        levels.append(levels[-1].reshape(-1, 4).sum(axis=1))
    owner = np.arange(12, dtype=np.int64)
    divided = np.ones(12, dtype=bool)
    for finer in levels[-2::-1]:
        enough = (finer.reshape(-1, 4) >= least).all(axis=1)
        divided = divided & enough
        fresh = owner.max() + 1 + np.arange(len(finer), dtype=np.int64)
        owner = np.where(np.repeat(divided, 4), fresh, np.repeat(owner, 4))
        divided = np.repeat(divided, 4)
    number = np.unique(owner, return_inverse=True)[1]
    return np.asarray(number[healpy.ring2nest(nside, np.arange(len(model)))], dtype=np.int64)
