"""Source spectra and their integrals.

Two forms, as in 4FGL-DR2 (Abdollahi et al. 2020, ApJS 247, 33, equations 2 and 4):

- ``log_parabola``: ``F0 (E/E0)^-(alpha + beta ln(E/E0))``; a power law has ``beta = 0``;
- ``plec``: ``F0 (E/E0)^-Gamma exp(a (E0^b - E^b))`` with ``a`` in MeV^-b.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from geminga.arrays import Bool, Float64

LOG_PARABOLA = "log_parabola"
PLEC = "plec"
FORMS: tuple[str, ...] = (LOG_PARABOLA, PLEC)

ERG_PER_MEV = 1.602176634e-6

# Gauss-Legendre panels of half a decade with 12 nodes: better than 1e-8 for every DR2 spectrum.
_PANELS_PER_DECADE = 2
_NODES_PER_PANEL = 12
# Rows integrated at a time, so that memory stays small for any number of sources.
_CHUNK = 16384


def differential(
    form: str | Sequence[str] | ArrayLike,
    norm: ArrayLike,
    pivot_mev: ArrayLike,
    index: ArrayLike,
    curvature: ArrayLike,
    exp_index: ArrayLike,
    energy_mev: ArrayLike,
) -> Float64:
    """Return differential photon fluxes.

    Parameters
    ----------
    form : str or array of str (n,)
        ``log_parabola`` or ``plec``.
    norm : array (n,) or scalar
        Photon flux density F0 at the pivot energy, for example in cm-2 s-1 MeV-1.
    pivot_mev : array (n,) or scalar
        E0 in MeV.
    index : array (n,) or scalar
        alpha (log parabola) or Gamma (PLEC).
    curvature : array (n,) or scalar
        beta (log parabola) or a in MeV^-b (PLEC).
    exp_index : array (n,) or scalar
        b (PLEC); not used by log parabolas.
    energy_mev : array (E,) or scalar
        Energies in MeV.

    Returns
    -------
    array (n, E)
        In the unit of `norm`.

    Raises
    ------
    ValueError
        If a form is unknown: a fault of the program, not of its input.
    """
    columns = np.broadcast_arrays(
        *(np.atleast_1d(np.asarray(v, np.float64)) for v in (norm, pivot_mev, index, curvature)),
        np.atleast_1d(np.asarray(exp_index, np.float64)),
    )
    f0, e0, slope, curve, power = (np.asarray(c, np.float64)[:, None] for c in columns)
    energy = np.atleast_1d(np.asarray(energy_mev, np.float64))[None, :]
    plec = _is_plec(form, len(f0))
    log_ratio = np.log(energy / e0)
    exponent = -slope * log_ratio
    lp = ~plec
    if lp.any():
        exponent[lp] -= curve[lp] * log_ratio[lp] ** 2
    if plec.any():
        b = power[plec]
        exponent[plec] += curve[plec] * (e0[plec] ** b - energy**b)
    return np.asarray(f0 * np.exp(exponent))


def photon_flux(sources: pd.DataFrame, emin_mev: float, emax_mev: float) -> Float64:
    """Return photon fluxes between two energies in MeV, shape (n,), in the norm's unit times MeV.

    Parameters
    ----------
    sources : DataFrame
        The spectral columns of the TRUTH table: form, norm, pivot_mev, index, curvature, exp_index.
    emin_mev, emax_mev : float
        Limits of the integral in MeV.
    """
    return _integral(sources, emin_mev, emax_mev, lambda energy: energy)


def energy_flux(sources: pd.DataFrame, emin_mev: float, emax_mev: float) -> Float64:
    """Return energy fluxes between two energies in MeV, shape (n,), in erg cm-2 s-1."""
    return _integral(sources, emin_mev, emax_mev, lambda energy: ERG_PER_MEV * energy**2)


def local_index(sources: pd.DataFrame, energy_mev: float) -> Float64:
    """Return the power-law index -dlnF/dlnE of each source at an energy in MeV, shape (n,)."""
    slope, curve, power, e0 = (
        sources[name].to_numpy(np.float64)
        for name in ("index", "curvature", "exp_index", "pivot_mev")
    )
    plec = _is_plec(sources["form"].to_numpy(), len(sources))
    bent = slope + 2.0 * curve * np.log(energy_mev / e0)
    cut = slope + curve * power * energy_mev**power
    return np.asarray(np.where(plec, cut, bent))


def _is_plec(form: str | Sequence[str] | ArrayLike, n: int) -> Bool:
    names = np.broadcast_to(np.asarray(form, dtype=object), (n,))
    plec = np.asarray(names == PLEC, dtype=np.bool_)
    unknown = set(names[~plec]) - {LOG_PARABOLA}
    if unknown:
        raise ValueError(f"spectral forms {sorted(map(str, unknown))} are not among {FORMS}")
    return plec


@lru_cache(maxsize=64)
def _nodes(emin_mev: float, emax_mev: float) -> tuple[Float64, Float64]:
    """Return energies and weights in ln E of composite Gauss-Legendre quadrature."""
    if not 0 < emin_mev < emax_mev:
        raise ValueError(f"cannot integrate a spectrum from {emin_mev} to {emax_mev} MeV")
    low, high = np.log(emin_mev), np.log(emax_mev)
    panels = max(1, int(np.ceil((high - low) / np.log(10.0) * _PANELS_PER_DECADE)))
    x, w = np.polynomial.legendre.leggauss(_NODES_PER_PANEL)
    edges = np.linspace(low, high, panels + 1)
    half = 0.5 * (edges[1] - edges[0])
    centres = 0.5 * (edges[:-1] + edges[1:])
    nodes = np.exp((centres[:, None] + half * x[None, :]).ravel())
    weights = np.tile(half * w, panels)
    nodes.flags.writeable = weights.flags.writeable = False
    return nodes, weights


def _integral(
    sources: pd.DataFrame, emin_mev: float, emax_mev: float, factor: Callable[[Float64], Float64]
) -> Float64:
    """Integrate F(E) factor(E) over ln E; the factor E makes a photon flux of F."""
    nodes, weights = _nodes(float(emin_mev), float(emax_mev))
    weights = weights * factor(nodes)
    form = sources["form"].to_numpy()
    columns = [
        sources[name].to_numpy(np.float64)
        for name in ("norm", "pivot_mev", "index", "curvature", "exp_index")
    ]
    result = np.empty(len(sources), dtype=np.float64)
    for start in range(0, len(sources), _CHUNK):
        rows = slice(start, start + _CHUNK)
        norm, pivot, index, curvature, power = (c[rows] for c in columns)
        values = differential(form[rows], norm, pivot, index, curvature, power, nodes)
        # einsum, not a BLAS product: its sum of a row does not depend on the other rows.
        result[rows] = np.einsum("ne,e->n", values, weights)
    return result
