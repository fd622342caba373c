"""Quadrature over an energy band."""

from __future__ import annotations

import numpy as np

from geminga.arrays import Float64
from geminga.bands import Band

NODES_PER_PANEL = 8


def band_nodes(band: Band) -> tuple[Float64, Float64]:
    """Return energies and weights, both MeV, shape (n,), of an integral over a band.

    Gauss-Legendre in ln E, eight nodes per panel of at most one decade: exact to 1e-6 for
    power laws, and 1e-4 for the power-law pieces of tabulated intensities.
    """
    low, high = np.log(band.emin_gev * 1e3), np.log(band.emax_gev * 1e3)
    panels = max(1, int(np.ceil((high - low) / np.log(10.0) - 1e-9)))
    x, w = np.polynomial.legendre.leggauss(NODES_PER_PANEL)
    edges = np.linspace(low, high, panels + 1)
    half = 0.5 * (edges[1] - edges[0])
    centres = 0.5 * (edges[1:] + edges[:-1])
    energy = np.exp((centres[:, None] + half * x).ravel())
    return energy, energy * np.tile(half * w, panels)
