"""Where the sources of a class are on the sky (Galactic coordinates)."""

from __future__ import annotations

import numpy as np
from scipy.stats import kstest, norm

from geminga.arrays import Float64
from geminga.sky.law import LatitudeGaussian, Position

ISOTROPIC = Position(law="isotropic")

THESIS_LATITUDE = Position(
    law="latitude",
    gaussians=(
        LatitudeGaussian(amplitude=0.11, sigma_deg=1.39),
        LatitudeGaussian(amplitude=0.012, sigma_deg=19.2),
    ),
)
"""Pulsars and nebulae of the reference work: amplitudes per degree, so 40 % and 60 % of sources."""

# An isotropic class has 17 % of its sources within 10 deg of the plane.
_GALACTIC_FRACTION = 1.0 / 3.0
# The reference law stands unless a class' latitudes contradict it at this probability.
_REJECT_BELOW = 0.01


def weights(position: Position) -> tuple[Float64, Float64]:
    """Return the share of sources and the sigma in degrees of each Gaussian in latitude."""
    sigma = np.array([g.sigma_deg for g in position.gaussians])
    area = np.array([g.amplitude for g in position.gaussians]) * sigma
    return area / area.sum(), sigma


def draw_positions(rng: np.random.Generator, position: Position, n: int) -> tuple[Float64, Float64]:
    """Return Galactic longitudes (0 to 360) and latitudes of n sources in degrees."""
    lon = rng.uniform(0.0, 360.0, n)
    if position.law == "isotropic":
        return lon, np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, n)))
    share, sigma = weights(position)
    which = np.searchsorted(np.cumsum(share)[:-1], rng.uniform(size=n), side="right")
    # Quantiles of each Gaussian cut at the poles, so that no draw has to be repeated.
    edge = norm.cdf(-90.0 / sigma[which])
    lat = sigma[which] * norm.ppf(edge + (1.0 - 2.0 * edge) * rng.uniform(size=n))
    return lon, np.clip(lat, -90.0, 90.0)


def fit_position(lat_deg: Float64) -> Position:
    """Return the position law of a class from its sources' latitudes.

    Isotropic unless more than a third of the sources lie within 10 deg of the plane. Else the
    reference law (`THESIS_LATITUDE`) where a Kolmogorov-Smirnov test allows it at 1 %, else two
    Gaussians of most likelihood.
    """
    if np.mean(np.abs(lat_deg) < 10.0) <= _GALACTIC_FRACTION:
        return ISOTROPIC
    if kstest(lat_deg, lambda b: latitude_cdf(THESIS_LATITUDE, b)).pvalue > _REJECT_BELOW:
        return THESIS_LATITUDE
    return fit_gaussians(lat_deg)


def latitude_cdf(position: Position, lat_deg: Float64) -> Float64:
    """Return the share of sources south of each latitude (n,)."""
    lat = np.asarray(lat_deg, np.float64)
    if position.law == "isotropic":
        return np.asarray(0.5 * (1.0 + np.sin(np.radians(lat))))
    share, sigma = weights(position)
    return np.asarray((share * norm.cdf(lat[..., None] / sigma)).sum(axis=-1))


def fit_gaussians(lat_deg: Float64, steps: int = 500) -> Position:
    """Fit two Gaussians around the plane to latitudes in degrees by expectation-maximisation."""
    squares = np.asarray(lat_deg, np.float64)[:, None] ** 2
    share, variance = np.array([0.5, 0.5]), np.array([1.0, 10.0]) ** 2
    for _ in range(steps):
        density = share * np.exp(-0.5 * squares / variance) / np.sqrt(variance)
        member = density / density.sum(axis=1, keepdims=True)
        share = member.mean(axis=0)
        # A floor keeps a Gaussian from collapsing on a few sources at b = 0.
        variance = np.maximum((member * squares).sum(axis=0) / member.sum(axis=0), 0.05**2)
    sigma = np.sqrt(variance)
    amplitude = share / (np.sqrt(2.0 * np.pi) * sigma)
    return Position(
        law="latitude",
        gaussians=tuple(
            LatitudeGaussian(amplitude=float(f"{a:.4g}"), sigma_deg=float(f"{s:.4g}"))
            for a, s in zip(amplitude, sigma, strict=True)
        ),
    )
