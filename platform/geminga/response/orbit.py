"""Where on the sky survey mode looks for how long: a model of Fermi's orbit.

A circular orbit inclined by 25.6 deg; the axis is tilted from the zenith towards one orbit pole,
and towards the other on the next orbit; precession of the orbit (53 days) spreads everything evenly
over right ascension, and no data are taken inside the South Atlantic Anomaly, which is why the
north is seen longer. Pointed observations, the year that favoured the Galactic centre (2014) and
the changes after March 2018 are left out: the model serves only for ratios, of one zenith cut to
another and of one year to all.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from geminga.arrays import Float64
from geminga.compiled import compiled
from geminga.response.survey import MAX_ZENITH_DEG, Rocking, costheta_edges

INCLINATION_DEG = 25.6
# The polygon inside which Fermi takes no data (geodetic, degrees): FSSC, as used up to 2024.
SAA_LATITUDE = (
    *(-30.0, -19.867, -9.733, 0.4, 2.0, 2.0),
    *(-1.0, -6.155, -8.88, -14.22, -18.404, -30.0),
)
SAA_LONGITUDE = (
    *(33.9, 12.398, -9.103, -30.605, -38.4, -45.0),
    *(-65.0, -84.0, -89.2, -94.3, -94.3, -86.1),
)
DECLINATION_BINS = 48
PHASES = 120
ASCENSIONS = 180


def sin_declination() -> Float64:
    """Return the sines of declination of the model, evenly spread, shape (D,)."""
    return (np.arange(DECLINATION_BINS) + 0.5) / DECLINATION_BINS * 2.0 - 1.0


def live_share(latitude_deg: Float64) -> Float64:
    """Return the part of a circle of latitude that lies outside the South Atlantic Anomaly."""
    latitude = np.atleast_1d(latitude_deg)
    lat, lon = np.array(SAA_LATITUDE), np.array(SAA_LONGITUDE)
    crossings = np.full((len(lat), latitude.size), np.nan)
    for i in range(len(lat)):
        j = (i + 1) % len(lat)
        within = (latitude >= min(lat[i], lat[j])) & (latitude < max(lat[i], lat[j]))
        part = (latitude[within] - lat[i]) / (lat[j] - lat[i]) if np.any(within) else 0.0
        crossings[i, within] = lon[i] + part * (lon[j] - lon[i])
    inside = np.where(np.isnan(crossings), -np.inf, crossings).max(axis=0) - np.where(
        np.isnan(crossings), np.inf, crossings
    ).min(axis=0)
    return np.asarray(1.0 - np.maximum(inside, 0.0) / 360.0)


@compiled
def _livetime(
    sine: Float64,
    live: Float64,
    inclination: float,
    rocking: float,
    lowest_coszenith: float,
    edges: Float64,
    ascensions: int,
) -> Float64:
    # Time by declination and cos theta; the node lies along x, and the sum over right ascension
    # stands for the precession.
    phases, bins = live.shape[0], edges.shape[0] - 1
    step = edges[1] - edges[0]
    result = np.zeros((sine.shape[0], bins))
    cos_rho, sin_rho = np.cos(rocking), np.sin(rocking)
    pole_y, pole_z = -np.sin(inclination), np.cos(inclination)
    for p in range(phases):
        psi = 2.0 * np.pi * (p + 0.5) / phases
        up_x = np.cos(psi)
        up_y, up_z = np.sin(psi) * np.cos(inclination), np.sin(psi) * np.sin(inclination)
        for d in range(sine.shape[0]):
            cosine = np.sqrt(1.0 - sine[d] * sine[d])
            for a in range(ascensions):
                alpha = 2.0 * np.pi * (a + 0.5) / ascensions
                x, y, z = cosine * np.cos(alpha), cosine * np.sin(alpha), sine[d]
                zenith = x * up_x + y * up_y + z * up_z
                if zenith < lowest_coszenith:
                    continue
                towards = y * pole_y + z * pole_z
                for side in (-1.0, 1.0):
                    costheta = cos_rho * zenith + side * sin_rho * towards
                    number = int(np.floor((costheta - edges[0]) / step))
                    if 0 <= number < bins:
                        result[d, number] += live[p]
    result /= 2.0 * ascensions * live.sum()
    return result


@lru_cache(maxsize=32)
def _one_rocking(rocking_deg: float, max_zenith_deg: float) -> Float64:
    phase = 2.0 * np.pi * (np.arange(PHASES) + 0.5) / PHASES
    latitude = np.degrees(np.arcsin(np.sin(phase) * np.sin(np.radians(INCLINATION_DEG))))
    return np.asarray(
        _livetime(
            sin_declination(),
            live_share(latitude),
            np.radians(INCLINATION_DEG),
            np.radians(rocking_deg),
            np.cos(np.radians(max_zenith_deg)),
            costheta_edges(),
            ASCENSIONS,
        )
    )


def orbit_livetime(rocking: Rocking, max_zenith_deg: float = MAX_ZENITH_DEG) -> Float64:
    """Return the part of the observing time by declination and incidence angle.

    Parameters
    ----------
    rocking : tuple of (angle in degrees, weight)
        Rocking angles and the part of the time they were used.
    max_zenith_deg : float
        Zenith cut.

    Returns
    -------
    Float64 (D, C)
        At `sin_declination` and the bins of `costheta_edges`; its mean over D is the share of
        `survey_profile`.
    """
    total = sum(weight for _, weight in rocking)
    return np.asarray(
        sum(weight / total * _one_rocking(angle, max_zenith_deg) for angle, weight in rocking)
    )


def model_exposure(rocking: Rocking, max_zenith_deg: float, area: Float64) -> Float64:
    """Return time times area by declination, shape (D,), in the unit of `area` (C,)."""
    return np.asarray(orbit_livetime(rocking, max_zenith_deg) @ area)
