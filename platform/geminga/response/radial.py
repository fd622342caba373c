"""Integrals over functions of the angle from a direction."""

from __future__ import annotations

import numpy as np
from scipy.integrate import cumulative_simpson
from scipy.interpolate import CubicSpline

from geminga.arrays import Float64
from geminga.compiled import compiled


def radius_nodes(count: int, maximum_deg: float, core_deg: float) -> Float64:
    """Return angles from 0 to `maximum_deg`, even below `core_deg` and geometric above (sinh)."""
    nodes = core_deg * np.sinh(np.linspace(0.0, np.arcsinh(maximum_deg / core_deg), count))
    nodes[-1] = maximum_deg
    return np.asarray(nodes)


def shell_integral(radius_deg: Float64, density_per_sr: Float64) -> float:
    """Return 2 pi int P sin r dr over all nodes."""
    return float(cumulative_shell(radius_deg, density_per_sr)[-1])


def cumulative_shell(radius_deg: Float64, density_per_sr: Float64) -> Float64:
    """Return 2 pi int_0^r P sin r dr at every node, by Simpson's rule; last axis is radius."""
    r = np.radians(radius_deg)
    integrand = 2.0 * np.pi * density_per_sr * np.sin(r)
    return np.asarray(cumulative_simpson(integrand, x=r, initial=0.0, axis=-1))


def invert_cumulative(radius_deg: Float64, cumulative: Float64, fraction: float) -> float:
    """Return the angle at which a rising cumulative function reaches `fraction` of its end."""
    share = cumulative / cumulative[-1]
    return float(np.interp(fraction, share, radius_deg))


@compiled
def _legendre_sums(mu: Float64, weight: Float64, lmax: int) -> Float64:
    # Sums of weight * P_l(mu) by the upward recurrence, stable for |mu| <= 1.
    result = np.zeros(lmax + 1)
    for i in range(mu.shape[0]):
        before, now = 1.0, mu[i]
        result[0] += weight[i]
        if lmax >= 1:
            result[1] += weight[i] * now
        for ell in range(2, lmax + 1):
            after = ((2.0 * ell - 1.0) * mu[i] * now - (ell - 1.0) * before) / ell
            result[ell] += weight[i] * after
            before, now = now, after
    return result


def legendre_transform(radius_deg: Float64, density_per_sr: Float64, lmax: int) -> Float64:
    """Return W_l = 2 pi int P(r) P_l(cos r) sin r dr for l = 0 to lmax, shape (lmax + 1,).

    The density is splined over its nodes and integrated by 16-point Gauss-Legendre panels, each
    at most two wavelengths of P_lmax wide and growing geometrically from the first node.
    """
    widest = min(2.0 * 360.0 / max(lmax, 1), 2.0)
    edges = [0.0, float(radius_deg[1])]
    while edges[-1] < radius_deg[-1]:
        edges.append(edges[-1] + min(0.5 * edges[-1], widest))
    edges[-1] = float(radius_deg[-1])
    x, w = np.polynomial.legendre.leggauss(16)
    low, high = np.array(edges[:-1])[:, None], np.array(edges[1:])[:, None]
    r = (0.5 * (high + low) + 0.5 * (high - low) * x).ravel()
    dr = np.radians(0.5 * (high - low) * w).ravel()
    # ln P is smooth in asinh(r): a cubic spline there follows eight decades of the tail.
    core = float(radius_deg[1]) * 10.0
    positive = np.log(np.maximum(density_per_sr, 1e-300))
    spline = CubicSpline(np.arcsinh(radius_deg / core), positive)
    density = np.exp(spline(np.arcsinh(r / core)))
    weight = 2.0 * np.pi * density * np.sin(np.radians(r)) * dr
    return _legendre_sums(np.cos(np.radians(r)), weight, lmax)
