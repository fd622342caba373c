"""How long a direction of the sky spends at each incidence angle in survey mode.

Averaged over the whole sky the answer needs no orbit: at any moment directions are spread evenly
over the cosine of the incidence angle, whatever the axis points at, and the cut on the zenith
angle takes away the same part of each ring around the axis, since the angle between axis and
zenith is the rocking angle. How the total is shared out over declinations is the orbit's doing
(`geminga.response.orbit`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from geminga.arrays import Float64

DAYS_PER_YEAR = 365.25
SECONDS_PER_YEAR = DAYS_PER_YEAR * 86400.0
# Start of science operations, as calendar time and in seconds since 2001 (mission elapsed time).
MISSION_START = datetime(2008, 8, 4, 15, 43, 36, tzinfo=UTC)
MISSION_START_MET_S = 239557417.0
# The survey rocked to 35 deg from the zenith, and to 50 deg from this day on (2FGL, ApJS 199, 31).
ROCKING_CHANGE = datetime(2009, 9, 2, tzinfo=UTC)
ROCKING_DEG = (35.0, 50.0)
YEARS_AT_FIRST = (ROCKING_CHANGE - MISSION_START).total_seconds() / SECONDS_PER_YEAR

Rocking = tuple[tuple[float, float], ...]

# Zenith cut of the exposure cubes that the declination pattern and the livetime come from.
MAX_ZENITH_DEG = 105.0
LOWEST_COSTHETA = 0.2
BINS = 40
# Built-in tables, and the pattern of exposure, tell apart this many equal ranges of cos theta.
ANGLE_RANGES = 4


def rocking_between(start_years: float, stop_years: float) -> Rocking:
    """Return rocking angles and the part of a span of time they were used.

    Parameters
    ----------
    start_years, stop_years : float
        Span in years since the start of the mission.
    """
    early = min(max(YEARS_AT_FIRST - start_years, 0.0) / (stop_years - start_years), 1.0)
    return tuple(
        (angle, part) for angle, part in zip(ROCKING_DEG, (early, 1.0 - early), strict=True) if part
    )


@dataclass(frozen=True)
class ObservingProfile:
    """Sky-averaged observing time by incidence angle.

    Attributes
    ----------
    edges : Float64 (C + 1,)
        Edges of the bins of cos theta, rising.
    share : Float64 (C,)
        Part of the observing time a direction spends in each bin, on average over the sky.
    """

    edges: Float64
    share: Float64

    @property
    def centres(self) -> Float64:
        """Bin centres, shape (C,)."""
        return np.asarray(0.5 * (self.edges[1:] + self.edges[:-1]))


def costheta_edges(bins: int = BINS) -> Float64:
    """Return bin edges from cos theta 0.2, where the response tables end, to 1."""
    return np.linspace(LOWEST_COSTHETA, 1.0, bins + 1)


def angle_range(costheta: Float64) -> NDArray[np.int64]:
    """Return which of the `ANGLE_RANGES` equal ranges of cos theta values lie in."""
    part = (costheta - LOWEST_COSTHETA) / (1.0 - LOWEST_COSTHETA) * ANGLE_RANGES
    return np.clip(part.astype(np.int64), 0, ANGLE_RANGES - 1)


def ranges_of(profile: ObservingProfile) -> list[ObservingProfile]:
    """Return the profile cut to each range of incidence angle, the time in each adding up to 1."""
    number = angle_range(profile.centres)
    # A range that is never seen is averaged evenly: its share is nothing anyway.
    shares = [np.where(number == g, profile.share + 1e-12, 0.0) for g in range(ANGLE_RANGES)]
    return [ObservingProfile(profile.edges, s / max(s.sum(), 1e-300)) for s in shares]


def visible_share(costheta: Float64, rocking_deg: float, max_zenith_deg: float) -> Float64:
    """Return the part of each ring around the axis that passes the zenith cut.

    With azimuth phi around the axis, cos z = cos theta cos rho + sin theta sin rho cos phi.
    """
    rho, cut = np.radians(rocking_deg), np.cos(np.radians(max_zenith_deg))
    sintheta = np.sqrt(np.maximum(1.0 - costheta**2, 1e-12))
    bound = (cut - costheta * np.cos(rho)) / (sintheta * max(np.sin(rho), 1e-9))
    return np.asarray(np.arccos(np.clip(bound, -1.0, 1.0)) / np.pi)


def survey_profile(
    rocking: Rocking | None = None, max_zenith_deg: float = MAX_ZENITH_DEG, bins: int = BINS
) -> ObservingProfile:
    """Return the sky-averaged profile of survey mode.

    Parameters
    ----------
    rocking : tuple of (angle in degrees, weight), optional
        Rocking angles and the part of the time they were used; those of the first ten years if
        not given.
    max_zenith_deg : float
        Photons from beyond this zenith angle are cut.
    bins : int
        Bins of cos theta.
    """
    rocking = rocking_between(0.0, 10.0) if rocking is None else rocking
    edges = costheta_edges(bins)
    # Ten points per bin follow the kink where a ring starts to be cut.
    fine = edges[:-1, None] + (np.arange(10) + 0.5) / 10.0 * (edges[1] - edges[0])
    visible = sum(weight * visible_share(fine, angle, max_zenith_deg) for angle, weight in rocking)
    share = 0.5 * np.diff(edges) * np.mean(np.asarray(visible), axis=1)
    return ObservingProfile(edges, share / sum(weight for _, weight in rocking))
