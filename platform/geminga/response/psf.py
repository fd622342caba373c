"""Point-spread function of an event selection: by energy, and averaged over each channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from geminga.arrays import Float64
from geminga.response.average import RADIUS_DEG, TypeResponse
from geminga.response.exposure import Exposure, interpolate_energy
from geminga.response.king import bracket
from geminga.response.nodes import EnergyNodes
from geminga.response.radial import cumulative_shell, invert_cumulative, legendre_transform

SPECTRAL_INDEX = np.array([0.0, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 7.0])


@dataclass(frozen=True)
class PsfTable:
    """Exposure-weighted mean PSF of the selected event types by energy.

    Attributes
    ----------
    energy_mev : Float64 (E,)
        Energies, rising.
    radius_deg : Float64 (R,)
        Angles from the true direction, 0 to 30 deg.
    density_per_sr : Float64 (E, R)
        PSF per steradian, with 2 pi int P sin r dr = 1 over the radius grid.
    origin : str
        Where the numbers come from.
    """

    energy_mev: Float64
    radius_deg: Float64
    density_per_sr: Float64
    origin: str

    def at(self, energy_mev: float) -> Float64:
        """Return the PSF per steradian at one energy, linear in ln E, shape (R,)."""
        low, high, weight = bracket(np.log(self.energy_mev), float(np.log(energy_mev)))
        return np.asarray(
            (1.0 - weight) * self.density_per_sr[low] + weight * self.density_per_sr[high]
        )

    def containment_radius_deg(self, energy_mev: float, fraction: float) -> float:
        """Return the angle in degrees within which `fraction` of the photons fall."""
        cumulative = cumulative_shell(self.radius_deg, self.at(energy_mev))
        return invert_cumulative(self.radius_deg, cumulative, fraction)


@dataclass(frozen=True, eq=False)
class BandPsf:
    """PSF averaged over each channel with a power law E^-index times the mean exposure.

    Attributes
    ----------
    radius_deg : Float64 (R,)
        Angles from 0 to 30 deg, fine near zero.
    spectral_index : Float64 (K,)
        Photon indices, rising; values between are interpolated, values outside take the end.
    density_per_sr : Float64 (C, K, R)
        PSF per steradian, normalised over the radius grid.
    containment : Float64 (C, K, R)
        Part of the photons within each angle, 0 to 1.
    """

    radius_deg: Float64
    spectral_index: Float64
    density_per_sr: Float64
    containment: Float64

    def density(self, channel: int, spectral_index: float) -> Float64:
        """Return the PSF per steradian of a channel and photon index, shape (R,)."""
        return self._between(self.density_per_sr[channel], spectral_index)

    def harmonic(self, channel: int, spectral_index: float, lmax: int) -> Float64:
        """Return the Legendre transform W_l = 2 pi int P P_l(cos r) sin r dr, shape (lmax + 1,).

        It multiplies the harmonic coefficients of a map to smooth it (healpy's beam window).
        """
        return legendre_transform(self.radius_deg, self.density(channel, spectral_index), lmax)

    def radius_of_containment(self, channel: int, index: float, fraction: float) -> float:
        """Return the angle in degrees within which `fraction` of a channel's photons fall."""
        return invert_cumulative(
            self.radius_deg, self._between(self.containment[channel], index), fraction
        )

    def _between(self, values: Float64, index: float) -> Float64:
        low, high, weight = bracket(self.spectral_index, index)
        return np.asarray((1.0 - weight) * values[low] + weight * values[high])


def combine_types(types: Sequence[TypeResponse], origin: str) -> PsfTable:
    """Return the PSF of several event types together, weighted by their averaged areas."""
    nodes = types[0].psf_energy_mev
    # Areas bend between the nodes of the PSF: an energy more in every gap follows them.
    fine = np.exp(
        np.interp(np.arange(2 * len(nodes) - 1) / 2.0, np.arange(len(nodes)), np.log(nodes))
    )
    rows = []
    for energy in fine:
        areas = np.array([t.area_at(np.array([energy]))[0] for t in types])
        row = sum(
            a * t.density_at(float(energy)) for a, t in zip(areas / areas.sum(), types, strict=True)
        )
        rows.append(row)
    density = np.array(rows)
    density /= cumulative_shell(RADIUS_DEG, density)[:, -1:]
    return PsfTable(fine, RADIUS_DEG, density, origin)


def average_channels(
    tables: Sequence[PsfTable], exposures: Sequence[Exposure], nodes: Sequence[EnergyNodes]
) -> BandPsf:
    """Average the PSF of every channel over its true energies.

    Parameters
    ----------
    tables, exposures, nodes : sequence
        One of each per channel; every energy is weighted with E^-index times the sky-averaged
        exposure and the probability to be measured in the band.
    """
    radius = tables[0].radius_deg
    densities = np.zeros((len(tables), len(SPECTRAL_INDEX), len(radius)))
    for number, (table, exposure, part) in enumerate(zip(tables, exposures, nodes, strict=True)):
        energy = part.energy_mev
        rows = np.array([table.at(float(e)) for e in energy])
        mean = exposure.mean()[:, None]
        area = interpolate_energy(mean, exposure.energy_mev, energy)[:, 0]
        for k, index in enumerate(SPECTRAL_INDEX):
            photons = part.weight * area * (energy / energy[0]) ** -index
            densities[number, k] = photons @ rows / photons.sum()
    containment = cumulative_shell(radius, densities)
    total = containment[..., -1:].copy()
    return BandPsf(
        radius,
        SPECTRAL_INDEX,
        densities / total,
        np.maximum.accumulate(np.clip(containment / total, 0.0, 1.0), axis=-1),
    )
