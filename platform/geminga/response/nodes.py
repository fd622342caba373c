"""Integrals over the energies of the photons that a channel counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from geminga.arrays import Float64
from geminga.bands import Band

NODES_PER_PANEL = 8
# With energy dispersion: true energies searched for, as a factor beyond the band's edges, ...
WIDEST_SPILL = 10.0
# ... of which those stay that make up all but this part of the counts of any of these power laws.
NEGLIGIBLE = 1e-4
SPECTRAL_INDICES = (1.5, 2.5, 4.0)
# The quadrature is exact for polynomials in ln E times E^-2.5.
TYPICAL_INDEX = 2.5
SAMPLES_PER_DECADE = 500


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


def dispersed_nodes(
    band: Band,
    inside: Callable[[float, float, Float64], Float64],
    area: Callable[[Float64], Float64],
    span_mev: tuple[float, float],
) -> EnergyNodes:
    """Return the nodes over all true energies that are measured inside a band.

    Parameters
    ----------
    band : Band
        Band of measured energies.
    inside : callable (emin_mev, emax_mev, energy_mev (n,)) -> (n,)
        Probability to be measured between two energies.
    area : callable (energy_mev (n,)) -> (n,)
        Area or exposure, for judging which energies matter; any unit.
    span_mev : (float, float)
        True energies that the response tables hold; photons from beyond are left out.

    Notes
    -----
    The probability is part of the measure that the Gauss quadrature is made for (Golub and Welsch
    1969, by the Lanczos process on a fine grid), so its steep edges need no nodes of their own:
    eight per decade do as well as without dispersion.
    """
    emin, emax = band.emin_gev * 1e3, band.emax_gev * 1e3
    low = np.log(max(emin / WIDEST_SPILL, span_mev[0]))
    high = np.log(min(emax * WIDEST_SPILL, span_mev[1]))
    count = int((high - low) / np.log(10.0) * SAMPLES_PER_DECADE)
    step = (high - low) / count
    x = low + step * (np.arange(count) + 0.5)
    energy = np.exp(x)
    probability = inside(emin, emax, energy)
    relative = energy / emin
    keep = np.zeros(count, dtype=bool)
    for index in SPECTRAL_INDICES:
        part = np.cumsum(relative ** (1.0 - index) * area(energy) * probability)
        part /= part[-1]
        keep |= (part > NEGLIGIBLE) & (part < 1.0 - NEGLIGIBLE)
    measure = np.where(keep, probability * energy * relative**-TYPICAL_INDEX * step, 0.0)
    kept = np.flatnonzero(keep)
    decades = (kept[-1] - kept[0] + 1) * step / np.log(10.0)
    number = NODES_PER_PANEL * max(1, int(np.ceil(decades)))
    nodes, weight = _gauss(x[kept], measure[kept], number)
    found = np.exp(nodes)
    return EnergyNodes(found, weight * (found / emin) ** TYPICAL_INDEX)


def _gauss(x: Float64, measure: Float64, number: int) -> tuple[Float64, Float64]:
    """Return nodes and weights exact for polynomials of degree 2 `number` - 1 over a measure."""
    centre, half = 0.5 * (x[0] + x[-1]), 0.5 * (x[-1] - x[0])
    scaled = (x - centre) / half
    total = float(measure.sum())
    basis = [np.sqrt(measure / total)]
    diagonal, beside = np.zeros(number), np.zeros(number - 1)
    for k in range(number):
        following = scaled * basis[k]
        diagonal[k] = basis[k] @ following
        if k + 1 < number:
            # Orthogonal to all before, twice: the three-term recurrence alone loses it.
            for _ in range(2):
                for vector in basis:
                    following = following - (vector @ following) * vector
            beside[k] = np.sqrt(following @ following)
            basis.append(following / beside[k])
    values, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(beside, 1) + np.diag(beside, -1))
    return centre + half * values, total * vectors[0] ** 2
