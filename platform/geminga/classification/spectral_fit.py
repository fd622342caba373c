"""Log parabolas and power laws through the fluxes of bands, all sources at once.

The spectrum is ``dN/dE = K (E/E0)^-(alpha + beta ln(E/E0))``, as in 4FGL (Abdollahi et al. 2020,
ApJS 247, 33, equation 2), fitted to fluxes rather than their logarithms: a band in which nothing
was found is a measurement too. With few or weak bands the shape is not determined; priors as wide
as the population of sources keep it where sources are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from geminga.arrays import Float64, Int64
from geminga.compiled import compiled
from geminga.errors import InputError
from geminga.sky.spectra import ERG_PER_MEV

ALPHA_PRIOR = (2.3, 0.5)
"""Mean and standard deviation of the index at the pivot, before anything is measured."""
BETA_PRIOR = (0.1, 0.25)
"""Mean and standard deviation of the curvature, before anything is measured."""
ALPHA_LIMITS = (-1.0, 6.0)
BETA_LIMITS = (-1.0, 3.0)
NODES = 8
"""Gauss-Legendre nodes in ln E per band: 1e-6 of the flux for a hundredfold in energy."""
ITERATIONS = 60
STEP = 1e-7
"""A fit has converged when its largest step is below this."""
_START_ALPHA = np.arange(1.0, 4.01, 0.25)
_LEAST_SIGMA = 0.01
"""A flux that is not positive is fitted by one this many standard deviations above 0."""


@dataclass(frozen=True, eq=False)
class SpectralFits:
    """Spectra of n sources; NaN (and no bands) where nothing was measured.

    Errors are the curvature of the posterior: never wider than the priors.

    Attributes
    ----------
    pivot_gev : float
        Energy E0 at which `index` is the local slope.
    index, index_error, curvature, curvature_error : Float64 (n,)
        alpha and beta of the log parabola.
    ts_curve : Float64 (n,)
        chi2 of the power law less that of the log parabola, at least 0.
    energy_flux, energy_flux_error : Float64 (n,)
        erg/cm2/s of the log parabola between the lowest and the highest edge.
    pl_index, pl_index_error : Float64 (n,)
        Index of the power law.
    chi2 : Float64 (n,)
        Of the log parabola, without the priors.
    n_bands : Int64 (n,)
        Channels that were measured.
    model_flux : Float64 (n, C)
        Photon flux of the log parabola in every channel, measured or not, ph/cm2/s.
    """

    pivot_gev: float
    index: Float64
    index_error: Float64
    curvature: Float64
    curvature_error: Float64
    ts_curve: Float64
    energy_flux: Float64
    energy_flux_error: Float64
    pl_index: Float64
    pl_index_error: Float64
    chi2: Float64
    n_bands: Int64
    model_flux: Float64


def _quadrature(low: Float64, high: Float64, pivot: float) -> tuple[Float64, Float64]:
    """Return ln(E/E0) of nodes and their weights times E in GeV, each (bands, NODES)."""
    x, w = np.polynomial.legendre.leggauss(NODES)
    half = 0.5 * np.log(high / low)[:, None]
    nodes = np.log(np.sqrt(low * high) / pivot)[:, None] + half * x
    return nodes, half * w * pivot * np.exp(nodes)


@compiled
def _moments(theta: Float64, nodes: Float64, weights: Float64, moments: Float64) -> None:
    """Fill (bands, 3) with the integral of the spectrum, and of it times -x and -x^2."""
    for c in range(nodes.shape[0]):
        zero, one, two = 0.0, 0.0, 0.0
        for q in range(nodes.shape[1]):
            x = nodes[c, q]
            value = weights[c, q] * math.exp(theta[0] - theta[1] * x - theta[2] * x * x)
            zero += value
            one -= value * x
            two -= value * x * x
        moments[c, 0], moments[c, 1], moments[c, 2] = zero, one, two


@compiled
def _invert(matrix: Float64, size: int, damping: float, out: Float64) -> None:
    """Invert the leading part of a positive definite matrix whose diagonal is raised."""
    work = np.zeros((3, 3))
    out[:, :] = 0.0
    for i in range(size):
        out[i, i] = 1.0
        for j in range(size):
            work[i, j] = matrix[i, j] * (1.0 + damping if i == j else 1.0)
    for i in range(size):
        scale = 1.0 / work[i, i]
        for j in range(size):
            work[i, j] *= scale
            out[i, j] *= scale
        for k in range(size):
            if k != i:
                factor = work[k, i]
                for j in range(size):
                    work[k, j] -= factor * work[i, j]
                    out[k, j] -= factor * out[i, j]


@compiled
def _normal(
    theta: Float64,
    flux: Float64,
    weight: Float64,
    nodes: Float64,
    quad: Float64,
    prior: Float64,
    size: int,
    moments: Float64,
    matrix: Float64,
    gradient: Float64,
) -> tuple[float, float]:
    """Fill the normal equations; return chi2 without and with the priors of what is free."""
    _moments(theta, nodes, quad, moments)
    matrix[:, :] = 0.0
    gradient[:] = 0.0
    chi2 = 0.0
    for c in range(len(flux)):
        if weight[c] > 0.0:
            residual = flux[c] - moments[c, 0]
            chi2 += weight[c] * residual * residual
            for i in range(size):
                gradient[i] += weight[c] * residual * moments[c, i]
                for j in range(size):
                    matrix[i, j] += weight[c] * moments[c, i] * moments[c, j]
    total = chi2
    for i in range(1, size):
        pull = (theta[i] - prior[i, 0]) / prior[i, 1]
        total += pull * pull
        gradient[i] -= pull / prior[i, 1]
        matrix[i, i] += 1.0 / prior[i, 1] ** 2
    return chi2, total


@compiled
def _descend(
    theta: Float64,
    flux: Float64,
    weight: Float64,
    nodes: Float64,
    quad: Float64,
    prior: Float64,
    limits: Float64,
    size: int,
    iterations: int,
    least: float,
    covariance: Float64,
) -> float:
    """Move `theta` to the best fit (Levenberg-Marquardt); fill its covariance, return chi2."""
    moments, matrix, gradient = np.zeros((len(flux), 3)), np.zeros((3, 3)), np.zeros(3)
    inverse, tried = np.zeros((3, 3)), np.zeros(3)
    damping = 1e-3
    chi2, total = _normal(theta, flux, weight, nodes, quad, prior, size, moments, matrix, gradient)
    for _ in range(iterations):
        _invert(matrix, size, damping, inverse)
        largest = 0.0
        tried[:] = theta
        for i in range(size):
            step = 0.0
            for j in range(size):
                step += inverse[i, j] * gradient[j]
            tried[i] = min(max(theta[i] + min(max(step, -2.0), 2.0), limits[i, 0]), limits[i, 1])
            largest = max(largest, abs(tried[i] - theta[i]))
        new_chi2, new_total = _normal(
            tried, flux, weight, nodes, quad, prior, size, moments, matrix, gradient
        )
        if new_total <= total:
            theta[:] = tried
            chi2, total = new_chi2, new_total
            damping = max(damping * 0.2, 1e-9)
        else:
            _normal(theta, flux, weight, nodes, quad, prior, size, moments, matrix, gradient)
            damping = min(damping * 10.0, 1e9)
        if largest < least:
            break
    _invert(matrix, size, 0.0, covariance)
    return chi2


@compiled
def _fit_all(
    flux: Float64,
    weight: Float64,
    nodes: Float64,
    quad: Float64,
    energy_nodes: Float64,
    energy_quad: Float64,
    start_alpha: Float64,
    prior: Float64,
    alpha_beta_limits: Float64,
    least_sigma: float,
    iterations: int,
    least_step: float,
    result: Float64,
    model: Float64,
) -> None:
    """Fit every source with at least one weight; rows of `result` are in `SpectralFits`' order."""
    channels = flux.shape[1]
    moments, shape = np.zeros((channels, 3)), np.zeros(3)
    energy_moments = np.zeros((len(energy_nodes), 3))
    covariance, limits = np.zeros((3, 3)), np.zeros((3, 2))
    limits[1:] = alpha_beta_limits
    for n in range(flux.shape[0]):
        best, log_norm, alpha, measured = np.inf, 0.0, 0.0, False
        for start in start_alpha:
            shape[0], shape[1], shape[2] = 0.0, start, 0.0
            _moments(shape, nodes, quad, moments)
            along, norm2 = 0.0, 0.0
            for c in range(channels):
                along += weight[n, c] * flux[n, c] * moments[c, 0]
                norm2 += weight[n, c] * moments[c, 0] ** 2
            if not norm2 > 0.0:
                continue
            measured = True
            amplitude = max(along / norm2, least_sigma / math.sqrt(norm2))
            badness = amplitude * (amplitude * norm2 - 2.0 * along)
            badness += ((start - prior[1, 0]) / prior[1, 1]) ** 2
            if badness < best:
                best, log_norm, alpha = badness, math.log(amplitude), start
                limits[0, 0] = math.log(least_sigma / math.sqrt(norm2)) - 3.0
                limits[0, 1] = log_norm + 10.0
        if not measured:
            continue
        theta = np.array([log_norm, alpha, 0.0])
        law = _descend(
            theta, flux[n], weight[n], nodes, quad, prior, limits, 2, iterations, least_step,
            covariance,
        )  # fmt: skip
        result[n, 7], result[n, 8] = theta[1], math.sqrt(covariance[1, 1])
        chi2 = _descend(
            theta, flux[n], weight[n], nodes, quad, prior, limits, 3, iterations, least_step,
            covariance,
        )  # fmt: skip
        _moments(theta, nodes, quad, moments)
        model[n] = moments[:, 0]
        _moments(theta, energy_nodes, energy_quad, energy_moments)
        total, slope = 0.0, np.zeros(3)
        for c in range(len(energy_nodes)):
            total += energy_moments[c, 0]
            for i in range(3):
                slope[i] += energy_moments[c, i]
        variance = 0.0
        for i in range(3):
            for j in range(3):
                variance += slope[i] * covariance[i, j] * slope[j]
        result[n, 0], result[n, 1] = theta[1], math.sqrt(covariance[1, 1])
        result[n, 2], result[n, 3] = theta[2], math.sqrt(covariance[2, 2])
        result[n, 4] = max(law - chi2, 0.0)
        result[n, 5], result[n, 6] = total, math.sqrt(variance)
        result[n, 9] = chi2


def fit_spectra(band_flux: Float64, band_flux_error: Float64, edges_gev: Float64) -> SpectralFits:
    """Fit log parabolas and power laws to photon fluxes of bands.

    Weighted least squares in flux with normal priors `ALPHA_PRIOR` and `BETA_PRIOR`; the pivot is
    the geometric mean of the lowest and the highest lower edge.

    Parameters
    ----------
    band_flux, band_flux_error : Float64 (n, C)
        Photon fluxes, ph/cm2/s; any sign. A flux that is not finite, or an error that is not
        finite and positive, is no measurement.
    edges_gev : Float64 (C, 2)
        Energies of each channel. Channels may cover the same energies.

    Raises
    ------
    InputError
        If the edges do not rise or the shapes differ.
    """
    flux = np.ascontiguousarray(band_flux, dtype=np.float64)
    error = np.asarray(band_flux_error, dtype=np.float64)
    edges = np.asarray(edges_gev, dtype=np.float64)
    if flux.ndim != 2 or error.shape != flux.shape or edges.shape != (flux.shape[1], 2):
        raise InputError(
            "band fluxes",
            f"{flux.shape} with errors {error.shape} and edges {edges.shape}",
            "give one flux and one error of every source and pair of edges",
        )
    if not (np.isfinite(edges).all() and (edges[:, 0] > 0).all() and (np.diff(edges) > 0).all()):
        raise InputError(
            "energies of the bands", f"{edges.tolist()} GeV", "give finite edges that rise from 0"
        )
    result, model = np.full((len(flux), 10), np.nan), np.full(flux.shape, np.nan)
    if not edges.size:
        return _fits(math.nan, result, np.zeros(len(flux), np.int64), model)
    measured = np.isfinite(flux) & np.isfinite(error) & (error > 0)
    weight = np.where(measured, 1.0, 0.0) / np.where(measured, error, 1.0) ** 2
    pivot = float(np.sqrt(edges[:, 0].min() * edges[:, 0].max()))
    cuts = np.unique(edges)
    energy_nodes, energy_quad = _quadrature(cuts[:-1], cuts[1:], pivot)
    _fit_all(
        np.where(measured, flux, 0.0),
        np.ascontiguousarray(weight),
        *_quadrature(edges[:, 0], edges[:, 1], pivot),
        energy_nodes,
        energy_quad * pivot * np.exp(energy_nodes) * 1e3 * ERG_PER_MEV,
        _START_ALPHA,
        np.array([(0.0, 1.0), ALPHA_PRIOR, BETA_PRIOR]),
        np.array([ALPHA_LIMITS, BETA_LIMITS]),
        _LEAST_SIGMA,
        ITERATIONS,
        STEP,
        result,
        model,
    )
    return _fits(pivot, result, measured.sum(axis=1), model)


def _fits(pivot: float, result: Float64, n_bands: Int64, model: Float64) -> SpectralFits:
    names = [f.name for f in fields(SpectralFits)][1 : 1 + result.shape[1]]
    columns = dict(zip(names, result.T.copy(), strict=True))
    return SpectralFits(pivot_gev=pivot, n_bands=n_bands, model_flux=model, **columns)
