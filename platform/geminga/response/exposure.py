"""Exposure of every direction of the sky: from a gtexpcube2 cube, or built in."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import healpy
import numpy as np

from geminga.arrays import Float32, Float64
from geminga.errors import InputError
from geminga.geometry import lon_lat, unit_vectors

log = logging.getLogger(__name__)

# Energy dispersion asks for true energies beyond a cube's: at most this factor is extrapolated.
MOST_EXTRAPOLATION = 3.0


@dataclass(frozen=True)
class Exposure:
    """Exposure maps, HEALPix RING in Galactic coordinates.

    Attributes
    ----------
    energy_mev : Float64 (E,)
        Energies, rising.
    maps_cm2_s : Float32 (E, npix)
        Exposure.
    origin : str
        Where the numbers come from.
    """

    energy_mev: Float64
    maps_cm2_s: Float32
    origin: str

    @property
    def nside(self) -> int:
        """HEALPix resolution of the maps."""
        return int(healpy.npix2nside(self.maps_cm2_s.shape[1]))

    def at(self, lon_deg: Float64, lat_deg: Float64) -> Float64:
        """Return the exposure in cm2 s of Galactic directions, bilinear, shape (E, n)."""
        pixels, weights = healpy.get_interp_weights(
            self.nside, np.atleast_1d(lon_deg), np.atleast_1d(lat_deg), lonlat=True
        )
        result = np.zeros((len(self.energy_mev), pixels.shape[1]))
        for corner, weight in zip(pixels, weights, strict=True):
            result += weight * self.maps_cm2_s[:, corner]
        return result

    def reaching(self, low_mev: float, high_mev: float) -> Exposure:
        """Return the exposure extended to a span of energies, itself if it covers them.

        Beyond the first and last energy it goes on along the last two maps, log-log, at most by a
        factor of `MOST_EXTRAPOLATION`.

        Raises
        ------
        InputError
            If the span reaches further than that.
        """
        first, last = float(self.energy_mev[0]), float(self.energy_mev[-1])
        if low_mev >= first and high_mev <= last:
            return self
        if low_mev < first / MOST_EXTRAPOLATION or high_mev > last * MOST_EXTRAPOLATION:
            raise InputError(
                "response.energy_dispersion",
                f"photons of {low_mev / 1e3:.3g} to {high_mev / 1e3:.3g} GeV spill into the bands "
                f"and the exposure has {first / 1e3:g} to {last / 1e3:g} GeV",
                f"at most a factor of {MOST_EXTRAPOLATION:g} is extrapolated: give an exposure of "
                "more energies, or narrower bands",
            )
        logs = np.log(np.maximum(self.maps_cm2_s.astype(np.float64), 1e-30))
        x = np.log(self.energy_mev)
        energies, rows = [self.energy_mev], [logs]
        for end, inner, target in ((0, 1, low_mev), (-1, -2, high_mev)):
            if (end == 0 and target < first) or (end == -1 and target > last):
                slope = (logs[end] - logs[inner]) / (x[end] - x[inner])
                row = (logs[end] + slope * (np.log(target) - x[end]))[None]
                at = 0 if end == 0 else len(rows)
                rows.insert(at, row)
                energies.insert(at, np.array([target]))
        text = f"extrapolated from {first / 1e3:g}-{last / 1e3:g} to {low_mev / 1e3:.3g}-{high_mev / 1e3:.3g} GeV"
        log.info("exposure (%s) is %s for energy dispersion", self.origin, text)
        return Exposure(
            np.concatenate(energies),
            np.exp(np.concatenate(rows)).astype(np.float32),
            f"{self.origin}, {text}",
        )

    def mean(self) -> Float64:
        """Return the sky-averaged exposure in cm2 s, shape (E,)."""
        return np.asarray(self.maps_cm2_s.mean(axis=1, dtype=np.float64))


def interpolate_energy(values: Float64, energy_mev_nodes: Float64, target_mev: Float64) -> Float64:
    """Interpolate log-log in energy.

    Parameters
    ----------
    values : Float64 (E, n)
        Not negative; zero stays zero at its node.
    energy_mev_nodes : Float64 (E,)
        Rising energies of the rows.
    target_mev : Float64 (T,)
        Energies wanted, within the nodes.

    Returns
    -------
    Float64 (T, n)

    Raises
    ------
    InputError
        If a target lies outside the nodes.
    """
    nodes, target = np.log(energy_mev_nodes), np.log(np.atleast_1d(target_mev))
    check_energy_range(energy_mev_nodes, float(np.min(target_mev)), float(np.max(target_mev)))
    upper = np.clip(np.searchsorted(nodes, target), 1, len(nodes) - 1)
    weight = np.clip((target - nodes[upper - 1]) / (nodes[upper] - nodes[upper - 1]), 0.0, 1.0)
    logs = np.log(np.maximum(values, 1e-300))
    mixed = (1.0 - weight)[:, None] * logs[upper - 1] + weight[:, None] * logs[upper]
    return np.asarray(np.exp(mixed))


def check_energy_range(nodes_mev: Float64, emin_mev: float, emax_mev: float) -> None:
    """Raise InputError unless the energies lie within the nodes, to 0.1 %."""
    low, high = float(nodes_mev[0]), float(nodes_mev[-1])
    if emin_mev < low * 0.999 or emax_mev > high * 1.001:
        raise InputError(
            "bands",
            f"{emin_mev / 1e3:g}-{emax_mev / 1e3:g} GeV is not within the exposure's "
            f"{low / 1e3:g}-{high / 1e3:g} GeV",
            "choose bands within it or another response.exposure_cube",
        )


def galactic_to_equatorial(lon_deg: Float64, lat_deg: Float64) -> tuple[Float64, Float64]:
    """Return right ascension and declination (J2000) in degrees."""
    matrix = np.asarray(healpy.Rotator(coord=["G", "C"]).mat)
    return lon_lat(unit_vectors(lon_deg, lat_deg) @ matrix.T)


def map_centres(nside: int) -> tuple[Float64, Float64]:
    """Return Galactic longitude and latitude of every RING pixel."""
    lon, lat = healpy.pix2ang(nside, np.arange(healpy.nside2npix(nside)), lonlat=True)
    return np.asarray(lon), np.asarray(lat)
