"""Integrals over the energies of the photons that a channel counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geminga.arrays import Float64
from geminga.bands import Band

NODES_PER_PANEL = 8


@dataclass(frozen=True)
class EnergyNodes:
    """A quadrature over true energy: sum_n weight_n f(E_n) = int f(E) P(in the band | E) dE.

    Attributes
    ----------
    energy_mev : Float64 (N,)
        True energies, rising.
    weight : Float64 (N,)
        MeV; the probability to be measured inside the band is part of it.
    """

    energy_mev: Float64
    weight: Float64


def log_nodes(emin_mev: float, emax_mev: float) -> EnergyNodes:
    """Return Gauss-Legendre nodes in ln E, eight per panel of at most one decade.

    Exact to 1e-6 for power laws, and 1e-4 for the power-law pieces of tabulated intensities.
    """
    low, high = np.log(emin_mev), np.log(emax_mev)
    panels = max(1, int(np.ceil((high - low) / np.log(10.0) - 1e-9)))
    x, w = np.polynomial.legendre.leggauss(NODES_PER_PANEL)
    edges = np.linspace(low, high, panels + 1)
    half = 0.5 * (edges[1] - edges[0])
    centres = 0.5 * (edges[1:] + edges[:-1])
    energy = np.exp((centres[:, None] + half * x).ravel())
    return EnergyNodes(energy, energy * np.tile(half * w, panels))


def band_nodes(band: Band) -> EnergyNodes:
    """Return the nodes of a band without energy dispersion."""
    return log_nodes(band.emin_gev * 1e3, band.emax_gev * 1e3)
