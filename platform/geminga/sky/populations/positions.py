"""Where the sources of a class are on the sky (Galactic coordinates)."""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.special import i0e, i1e
from scipy.stats import norm, vonmises

from geminga.arrays import Float64
from geminga.sky.populations.law import ClassLaw, DiskComponent, LatitudeGaussian, Position

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
_MAX_COMPONENTS = 4
# Floors that keep a component from collapsing on a few neighbouring sources.
_MIN_SIGMA_DEG = 0.05
_MAX_KAPPA = 20.0
_MIN_MEMBERS = 10
_STEPS = 300


def position_of(law: ClassLaw, choice: Literal["fitted", "published"]) -> Position:
    """Return the position law of a class that ``sky.positions`` chooses."""
    return law.position if choice == "fitted" else law.published_position


def weights(position: Position) -> tuple[Float64, Float64]:
    """Return the share of sources and the sigma in degrees of each Gaussian in latitude."""
    if position.law == "disk":
        share = np.array([c.weight for c in position.components])
        return share / share.sum(), np.array([c.sigma_deg for c in position.components])
    sigma = np.array([g.sigma_deg for g in position.gaussians])
    area = np.array([g.amplitude for g in position.gaussians]) * sigma
    return area / area.sum(), sigma


def _middle(position: Position) -> Float64:
    """Return the mean latitude of each Gaussian."""
    if position.law == "disk":
        return np.array([c.lat_deg for c in position.components])
    return np.zeros(len(position.gaussians))


def draw_positions(rng: np.random.Generator, position: Position, n: int) -> tuple[Float64, Float64]:
    """Return Galactic longitudes (0 to 360) and latitudes of n sources in degrees."""
    lon = rng.uniform(0.0, 360.0, n)
    if position.law == "isotropic":
        return lon, np.degrees(np.arcsin(rng.uniform(-1.0, 1.0, n)))
    share, sigma = weights(position)
    which = np.searchsorted(np.cumsum(share)[:-1], rng.uniform(size=n), side="right")
    middle, sigma = _middle(position)[which], sigma[which]
    # Quantiles of each Gaussian cut at the poles, so that no draw has to be repeated.
    south, north = norm.cdf((-90.0 - middle) / sigma), norm.cdf((90.0 - middle) / sigma)
    lat = middle + sigma * norm.ppf(south + (north - south) * rng.uniform(size=n))
    if position.law == "disk":
        centre = np.radians([c.lon_deg for c in position.components])[which]
        kappa = np.array([c.kappa for c in position.components])[which]
        lon = np.degrees(rng.vonmises(centre, kappa)) % 360.0
    return lon, np.clip(lat, -90.0, 90.0)


def latitude_cdf(position: Position, lat_deg: Float64) -> Float64:
    """Return the share of sources south of each latitude (n,)."""
    lat = np.asarray(lat_deg, np.float64)
    if position.law == "isotropic":
        return np.asarray(0.5 * (1.0 + np.sin(np.radians(lat))))
    share, sigma = weights(position)
    scaled = (lat[..., None] - _middle(position)) / sigma
    return np.asarray((share * norm.cdf(scaled)).sum(axis=-1))


def longitude_cdf(position: Position, lon_deg: Float64) -> Float64:
    """Return the share of sources between longitude 0 and each longitude (n,), 0 to 360."""
    lon = np.radians(np.asarray(lon_deg, np.float64))
    if position.law != "disk":
        return np.asarray(lon / (2.0 * np.pi))
    total = np.zeros_like(lon)
    for part, share in zip(position.components, weights(position)[0], strict=True):
        if part.kappa < 1e-6:
            total += share * lon / (2.0 * np.pi)
            continue
        # scipy continues the distribution over further turns.
        law = vonmises(part.kappa, loc=np.radians(part.lon_deg))
        total += share * (law.cdf(lon) - law.cdf(0.0))
    return total


def fit_position(lon_deg: Float64, lat_deg: Float64) -> Position:
    """Return the position law of a class from its sources' Galactic coordinates.

    Isotropic unless more than a third of the sources lie within 10 deg of the plane. Else a
    mixture of one to four `DiskComponent`, as many as the Bayesian information criterion wants,
    each of ten sources or more.
    """
    if np.mean(np.abs(lat_deg) < 10.0) <= _GALACTIC_FRACTION:
        return ISOTROPIC
    n = len(lat_deg)
    best, least = ISOTROPIC, np.inf
    for number in range(1, _MAX_COMPONENTS + 1):
        position, value = fit_disk(lon_deg, lat_deg, number)
        cost = -2.0 * value + (5 * number - 1) * np.log(n)
        populous = weights(position)[0].min() * n >= _MIN_MEMBERS
        if cost < least and (populous or number == 1):
            best, least = position, cost
    return best


def published_position(position: Position) -> Position:
    """Return the published law of a class: the double Gaussian for classes of the Galaxy."""
    return ISOTROPIC if position.law == "isotropic" else THESIS_LATITUDE


def fit_disk(lon_deg: Float64, lat_deg: Float64, number: int) -> tuple[Position, float]:
    """Fit a mixture of disk components by expectation-maximisation.

    Parameters
    ----------
    lon_deg, lat_deg : array (n,)
        Galactic coordinates.
    number : int
        Components.

    Returns
    -------
    Position
        Broadest component last.
    float
        Log-likelihood per (radian, degree).
    """
    lon = np.radians(np.asarray(lon_deg, np.float64))[:, None]
    lat = np.asarray(lat_deg, np.float64)[:, None]
    share = np.full(number, 1.0 / number)
    # Starting widths: quantiles of |b|, so that thin and thick disk part at once.
    middle = np.zeros(number)
    variance = np.quantile(lat**2, (np.arange(number) + 0.7) / number) + _MIN_SIGMA_DEG**2
    centre, kappa = np.zeros(number), np.full(number, 0.5)
    value = -np.inf
    for _ in range(_STEPS):
        log_density = (
            np.log(share)
            - 0.5 * (lat - middle) ** 2 / variance
            - 0.5 * np.log(2.0 * np.pi * variance)
            + kappa * (np.cos(lon - centre) - 1.0)
            - np.log(2.0 * np.pi * i0e(kappa))
        )
        top = log_density.max(axis=1, keepdims=True)
        density = np.exp(log_density - top)
        value = float((top[:, 0] + np.log(density.sum(axis=1))).sum())
        member = density / density.sum(axis=1, keepdims=True)
        size = np.maximum(member.sum(axis=0), 1e-9)
        share = size / size.sum()
        middle = (member * lat).sum(axis=0) / size
        scatter = (member * (lat - middle) ** 2).sum(axis=0) / size
        variance = np.maximum(scatter, _MIN_SIGMA_DEG**2)
        x, y = (member * np.cos(lon)).sum(axis=0) / size, (member * np.sin(lon)).sum(axis=0) / size
        centre = np.arctan2(y, x)
        kappa = _kappa(np.hypot(x, y))
    order = np.argsort(variance)
    rounded = np.round(share[order], 4)
    rounded[-1] = 1.0 - rounded[:-1].sum()
    return (
        Position(
            law="disk",
            components=tuple(
                DiskComponent(
                    weight=float(f"{w:.4f}"),
                    lat_deg=float(f"{middle[k]:.3f}"),
                    sigma_deg=float(f"{np.sqrt(variance[k]):.4g}"),
                    lon_deg=float(f"{np.degrees(centre[k]) % 360.0:.2f}") % 360.0,
                    kappa=float(f"{kappa[k]:.4g}"),
                )
                for w, k in zip(rounded, order, strict=True)
            ),
        ),
        value,
    )


def _kappa(resultant: Float64) -> Float64:
    """Return kappa with I1(kappa)/I0(kappa) = resultant, by bisection in its logarithm."""
    low, high = np.full_like(resultant, -12.0), np.full_like(resultant, np.log(_MAX_KAPPA))
    for _ in range(60):
        middle = 0.5 * (low + high)
        k = np.exp(middle)
        less = i1e(k) / i0e(k) < resultant
        low, high = np.where(less, middle, low), np.where(less, high, middle)
    return np.asarray(np.exp(0.5 * (low + high)))
