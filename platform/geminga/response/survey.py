"""How long a direction of the sky spends at each incidence angle in survey mode.

Averaged over the whole sky the answer needs no orbit: at any moment directions are spread evenly
over the cosine of the incidence angle, whatever the axis points at, and the cut on the zenith
angle takes away the same part of each ring around the axis, since the angle between axis and
zenith is the rocking angle. An orbit would only share the total out over declinations; that
sharing is taken from an official exposure cube instead.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geminga.arrays import Float64

# Rocking angles and the part of ten years they were used: 35 deg up to September 2009, then 50.
ROCKING = ((35.0, 0.11), (50.0, 0.89))
MAX_ZENITH_DEG = 105.0
LOWEST_COSTHETA = 0.2


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


def visible_share(costheta: Float64, rocking_deg: float, max_zenith_deg: float) -> Float64:
    """Return the part of each ring around the axis that passes the zenith cut.

    With azimuth phi around the axis, cos z = cos theta cos rho + sin theta sin rho cos phi.
    """
    rho, cut = np.radians(rocking_deg), np.cos(np.radians(max_zenith_deg))
    sintheta = np.sqrt(np.maximum(1.0 - costheta**2, 1e-12))
    bound = (cut - costheta * np.cos(rho)) / (sintheta * max(np.sin(rho), 1e-9))
    return np.asarray(np.arccos(np.clip(bound, -1.0, 1.0)) / np.pi)


def survey_profile(
    rocking: tuple[tuple[float, float], ...] = ROCKING,
    max_zenith_deg: float = MAX_ZENITH_DEG,
    bins: int = 40,
) -> ObservingProfile:
    """Return the sky-averaged profile of survey mode.

    Parameters
    ----------
    rocking : tuple of (angle in degrees, weight)
        Rocking angles and the part of the time they were used.
    max_zenith_deg : float
        Photons from beyond this zenith angle are cut.
    bins : int
        Bins between cos theta 0.2, where the response tables end, and 1.
    """
    edges = np.linspace(LOWEST_COSTHETA, 1.0, bins + 1)
    # Ten points per bin follow the kink where a ring starts to be cut.
    fine = edges[:-1, None] + (np.arange(10) + 0.5) / 10.0 * (edges[1] - edges[0])
    visible = sum(weight * visible_share(fine, angle, max_zenith_deg) for angle, weight in rocking)
    share = 0.5 * np.diff(edges) * np.mean(np.asarray(visible), axis=1)
    return ObservingProfile(edges, share / sum(weight for _, weight in rocking))
