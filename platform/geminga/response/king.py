"""The point-spread function of the LAT at one energy and incidence angle: a double King function.

Source: Ackermann et al. 2013 (ApJ 765, 54) and the Fermi Science Support Center's description of
the PSF files. With ``x = r / S(E)`` and ``S(E)^2 = (c0 (E/100 MeV)^p)^2 + c1^2`` in radians,

    P(x) = f K(x, SCORE, GCORE) + (1 - f) K(x, STAIL, GTAIL)
    K(x, s, g) = 1 / (2 pi s^2) (1 - 1/g) (1 + x^2 / (2 g s^2))^-g
    f = 1 / (1 + NTAIL STAIL^2 / SCORE^2)
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from geminga.arrays import Float64
from geminga.response.radial import radius_nodes, shell_integral

PARAMETERS = ("NTAIL", "SCORE", "STAIL", "GCORE", "GTAIL")
NORM_RADIUS_DEG = 90.0


def king(x: Float64, sigma: Float64 | float, gamma: Float64 | float) -> Float64:
    """Return the King function, normalised to 1 over the plane of `x`."""
    s2 = np.asarray(sigma) ** 2
    return np.asarray(
        (1.0 - 1.0 / np.asarray(gamma))
        / (2.0 * np.pi * s2)
        * (1.0 + x**2 / (2.0 * gamma * s2)) ** -np.asarray(gamma)
    )


def core_fraction(ntail: Float64, score: Float64, stail: Float64) -> Float64:
    """Return the part of the photons in the core King function."""
    return np.asarray(1.0 / (1.0 + ntail * stail**2 / score**2))


def scale_rad(scaling: tuple[float, float, float], energy_mev: Float64 | float) -> Float64:
    """Return the angle S(E) in radians that the King parameters are given in units of."""
    c0, c1, index = scaling
    return np.hypot(c0 * (np.asarray(energy_mev, np.float64) / 100.0) ** index, c1)


def bracket(nodes: Float64, value: float) -> tuple[int, int, float]:
    """Return the neighbours of `value` among rising nodes and the weight of the upper one.

    Beyond the ends the outermost node is taken: CALDB tables are not extrapolated.
    """
    upper = int(np.clip(np.searchsorted(nodes, value), 1, len(nodes) - 1))
    lower = upper - 1
    weight = (value - nodes[lower]) / (nodes[upper] - nodes[lower])
    return lower, upper, float(np.clip(weight, 0.0, 1.0))


@dataclass(frozen=True)
class KingTable:
    """King parameters of one event type.

    Attributes
    ----------
    event_type : str
        FRONT, BACK or PSF0 to PSF3.
    energy_mev : Float64 (E,)
        Centres of the energy bins.
    costheta : Float64 (C,)
        Centres of the bins of the cosine of the incidence angle.
    parameters : dict of str to Float64 (C, E)
        NTAIL, SCORE, STAIL, GCORE, GTAIL.
    scaling : (float, float, float)
        c0, c1 in radians, and the exponent of the scaling law.
    """

    event_type: str
    energy_mev: Float64
    costheta: Float64
    parameters: dict[str, Float64]
    scaling: tuple[float, float, float]

    def node_density(self, c: int, e: int, radius_deg: Float64) -> Float64:
        """Return the PSF per steradian at one node of the table, shape of `radius_deg`."""
        scale = float(scale_rad(self.scaling, self.energy_mev[e]))
        return np.asarray(_double_king(self._values(c, e), scale, radius_deg) / self._totals[c, e])

    def _values(self, c: int, e: int) -> dict[str, Float64]:
        return {name: self.parameters[name][c, e] for name in PARAMETERS}

    @cached_property
    def _totals(self) -> Float64:
        # Integral over the sphere at every node (C, E).
        return np.array(
            [
                [
                    _total(self._values(c, e), float(scale_rad(self.scaling, energy)))
                    for e, energy in enumerate(self.energy_mev)
                ]
                for c in range(len(self.costheta))
            ]
        )

    def ring_density(self, c: int, energy_mev: float, radius_deg: Float64) -> Float64:
        """Return the PSF per steradian at a node in cos theta and any energy.

        Two ways to go between nodes are in use: gtpsf mixes the densities of both nodes at fixed
        angle, others interpolate the parameters in ln E. They differ by up to 2.6 % in the 68 %
        radius, more than either should be trusted to, and their mean is taken.
        """
        low, high, weight = bracket(np.log(self.energy_mev), float(np.log(energy_mev)))
        if weight in (0.0, 1.0):
            return self.node_density(c, high if weight else low, radius_deg)
        mixed = (1.0 - weight) * self.node_density(c, low, radius_deg)
        mixed += weight * self.node_density(c, high, radius_deg)
        values = {
            name: (1.0 - weight) * table[c, low] + weight * table[c, high]
            for name, table in self.parameters.items()
        }
        scale = float(scale_rad(self.scaling, energy_mev))
        smooth = _double_king(values, scale, radius_deg) / _total(values, scale)
        return 0.5 * (mixed + smooth)

    def density(self, energy_mev: float, costheta: float, radius_deg: Float64) -> Float64:
        """Return the PSF per steradian, linear in cos theta between nodes.

        Parameters
        ----------
        energy_mev, costheta : float
            Energy and cosine of the incidence angle.
        radius_deg : Float64 (R,)
            Angles from the true direction.
        """
        low, high, weight = bracket(self.costheta, costheta)
        result = np.zeros_like(radius_deg)
        for c, part in ((low, 1.0 - weight), (high, weight)):
            if part > 0.0:
                result += part * self.ring_density(c, energy_mev, radius_deg)
        return result


def _total(values: dict[str, Float64], scale: float) -> float:
    # Over the sphere out to 90 deg: flat tails (GTAIL near 1) would otherwise hold photons beyond.
    nodes = radius_nodes(401, NORM_RADIUS_DEG, 0.002)
    return shell_integral(nodes, _double_king(values, scale, nodes))


def _double_king(values: dict[str, Float64], scale: float, radius_deg: Float64) -> Float64:
    x = np.radians(radius_deg) / scale
    ntail, score, stail, gcore, gtail = (values[name] for name in PARAMETERS)
    core = core_fraction(ntail, score, stail)
    both = core * king(x, score, gcore) + (1.0 - core) * king(x, stail, gtail)
    return np.asarray(both / scale**2)
