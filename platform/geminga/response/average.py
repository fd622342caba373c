"""Response of one event type, averaged over incidence angles as the survey sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from geminga.arrays import Float64
from geminga.response.caldb import AreaTable, read_area, read_king
from geminga.response.king import KingTable, bracket
from geminga.response.radial import radius_nodes
from geminga.response.survey import ObservingProfile, ranges_of

MAX_RADIUS_DEG = 30.0
# Steps of 2.4e-4 deg at the centre, 2.4 % of the angle beyond 0.02 deg.
RADIUS_DEG = radius_nodes(360, MAX_RADIUS_DEG, 0.01)
# Below this the response tables hold next to nothing, and nothing is wanted.
LOWEST_ENERGY_MEV = 30.0


@dataclass(frozen=True)
class TypeResponse:
    """Averaged response of one event type.

    Attributes
    ----------
    event_type : str
        FRONT, BACK or PSF0 to PSF3.
    area_energy_mev : Float64 (A,)
        Energies of `area_cm2`.
    area_cm2 : Float64 (A,)
        Effective area times the share of time spent at each angle, summed over angles: exposure
        per unit observing time, averaged over the sky.
    psf_energy_mev : Float64 (E,)
        Energies of `density_per_sr`.
    density_per_sr : Float64 (E, R)
        Exposure-weighted PSF at `RADIUS_DEG`.
    range_area_cm2 : Float64 (G, A)
        Effective area averaged over each range of incidence angle (`survey.angle_range`).
    """

    event_type: str
    area_energy_mev: Float64
    area_cm2: Float64
    psf_energy_mev: Float64
    density_per_sr: Float64
    range_area_cm2: Float64

    def area_at(self, energy_mev: Float64) -> Float64:
        """Return the averaged area in cm2 at any energies, log-log interpolated."""
        return np.asarray(
            np.exp(
                np.interp(np.log(energy_mev), np.log(self.area_energy_mev), np.log(self.area_cm2))
            )
        )

    def density_at(self, energy_mev: float) -> Float64:
        """Return the PSF per steradian at one energy, linear in ln E, shape (R,)."""
        low, high, weight = bracket(np.log(self.psf_energy_mev), float(np.log(energy_mev)))
        return np.asarray(
            (1.0 - weight) * self.density_per_sr[low] + weight * self.density_per_sr[high]
        )


def mean_area(area: AreaTable, profile: ObservingProfile) -> tuple[Float64, Float64]:
    """Return energies and the area in cm2 summed over incidence angles with their share of time."""
    energy = area.energy_mev[area.energy_mev >= LOWEST_ENERGY_MEV]
    mean = [profile.share @ area.at(float(e), profile.centres) for e in energy]
    # A share of nothing would have no logarithm; 1e-6 cm2 is nothing too.
    return energy, np.maximum(np.array(mean), 1e-6)


def psf_energies(king: KingTable) -> Float64:
    """Return the energies the PSF is averaged at: nodes of the table and the middles between."""
    first = max(int(np.searchsorted(king.energy_mev, LOWEST_ENERGY_MEV)) - 1, 0)
    nodes = np.log(king.energy_mev[first:])
    return np.exp(np.interp(np.arange(2 * len(nodes) - 1) / 2.0, np.arange(len(nodes)), nodes))


def mean_density(
    king: KingTable,
    area: AreaTable,
    profile: ObservingProfile,
    energy_mev: float,
    radius_deg: Float64,
) -> Float64:
    """Return the exposure-weighted PSF per steradian at an energy.

    PSF(E, r) = sum_c share_c Aeff(E, c) PSF(E, c, r) / sum_c share_c Aeff(E, c), the sum that gtpsf
    does for one direction.
    """
    weights = ring_weights(king.costheta, area, profile, energy_mev)
    rings = [king.ring_density(c, energy_mev, radius_deg) for c in range(len(weights))]
    return np.asarray(weights @ np.array(rings))


def ring_weights(
    costheta: Float64, area: AreaTable, profile: ObservingProfile, energy_mev: float
) -> Float64:
    """Return the part of the photons that counts for each node in cos theta, shape (C,)."""
    time_area = profile.share * area.at(energy_mev, profile.centres)
    weights = np.zeros(len(costheta))
    for value, part in zip(profile.centres, time_area / time_area.sum(), strict=True):
        low, high, upper = bracket(costheta, float(value))
        weights[low] += (1.0 - upper) * part
        weights[high] += upper * part
    return weights


def average_type(king: KingTable, area: AreaTable, profile: ObservingProfile) -> TypeResponse:
    """Average PSF and effective area of one event type over incidence angles.

    Parameters
    ----------
    king, area : KingTable, AreaTable
        Tables of the same event type.
    profile : ObservingProfile
        Time at each incidence angle.
    """
    area_energy, area_cm2 = mean_area(area, profile)
    energies = psf_energies(king)
    densities = [mean_density(king, area, profile, float(e), RADIUS_DEG) for e in energies]
    ranges = [mean_area(area, part)[1] for part in ranges_of(profile)]
    return TypeResponse(
        king.event_type, area_energy, area_cm2, energies, np.array(densities), np.array(ranges)
    )


def caldb_types(
    folder: Path, irf: str, event_types: Sequence[str], profile: ObservingProfile
) -> list[TypeResponse]:
    """Read and average each event type of a response class from a CALDB folder."""
    return [
        average_type(read_king(folder, irf, name), read_area(folder, irf, name), profile)
        for name in event_types
    ]
