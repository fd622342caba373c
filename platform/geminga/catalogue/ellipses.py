"""Error ellipses: covariances towards Galactic east and north, and LAT's axes and angles.

A LAT catalogue gives semi-axes and the position angle of the major axis, from celestial north to
the east; a fit gives a covariance in the Galactic tangent plane at the source.
"""

from __future__ import annotations

import numpy as np

from geminga.arrays import Float64
from geminga.geometry import tangent_frames
from geminga.sky.formats.fits_input import galactic_from_equatorial

CONF_68 = 1.515
"""Radius that holds 68.27 % of a round two-dimensional Gaussian of unit one-axis sigma."""

CONF_95 = 2.4477
"""The same of 95 %."""


def celestial_north_deg(lon_deg: Float64, lat_deg: Float64) -> Float64:
    """Return the angle of celestial north from Galactic north to the east, degrees (n,)."""
    frames = tangent_frames(lon_deg, lat_deg)
    pole = galactic_from_equatorial(np.array([0.0, 0.0, 1.0]))
    return np.asarray(np.degrees(np.arctan2(frames[:, 1] @ pole, frames[:, 2] @ pole)))


def ellipse_of(
    lon_deg: Float64, lat_deg: Float64, covariance: Float64
) -> tuple[Float64, Float64, Float64]:
    """Return the ellipse of one standard deviation of covariances.

    Parameters
    ----------
    lon_deg, lat_deg : Float64 (n,)
        Galactic.
    covariance : Float64 (n, 3)
        East, cross and north, Galactic, degrees squared.

    Returns
    -------
    tuple of Float64 (n,)
        Semi-major and semi-minor axis in degrees, and the angle of the major one from celestial
        north to the east, -90 (not included) to 90. NaN where the covariance is not finite or not
        positive definite.
    """
    finite = np.isfinite(covariance).all(axis=1)
    xx, xy, yy = np.where(finite, np.asarray(covariance, dtype=np.float64).T, 0.0)
    middle, half = 0.5 * (xx + yy), 0.5 * np.hypot(xx - yy, 2.0 * xy)
    good = middle > half
    major, minor = (
        np.sqrt(np.where(good, value, np.nan)) for value in (middle + half, middle - half)
    )
    # cov = middle + half (cos 2a sin 2a; ...) with a from north to the east.
    galactic = 0.5 * np.degrees(np.arctan2(2.0 * xy, yy - xx))
    angle = turned(galactic - celestial_north_deg(lon_deg, lat_deg))
    return major, minor, np.where(good, angle, np.nan)


def covariance_of(
    lon_deg: Float64, lat_deg: Float64, major: Float64, minor: Float64, angle_deg: Float64
) -> Float64:
    """Return the covariances (n, 3) of ellipses of one standard deviation; undoes `ellipse_of`.

    NaN where an axis is not positive or anything is not finite.
    """
    angle = np.radians(angle_deg + celestial_north_deg(lon_deg, lat_deg))
    good = np.isfinite(major) & np.isfinite(minor) & (major > 0) & (minor > 0)
    a2, b2 = (np.where(good, axis, np.nan) ** 2 for axis in (major, minor))
    s, c = np.sin(angle), np.cos(angle)
    return np.stack([a2 * s * s + b2 * c * c, (a2 - b2) * s * c, a2 * c * c + b2 * s * s], axis=-1)


def turned(angle_deg: Float64) -> Float64:
    """Return the same directions of an axis as angles above -90 up to 90 degrees."""
    return np.asarray(90.0 - (90.0 - angle_deg) % 180.0)
