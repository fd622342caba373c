"""Joint laws: a Gaussian copula with empirical marginals, and taking measurement scatter out.

A source's parameters are normal scores z with the class' correlation matrix; u = Phi(z) is uniform
and each parameter is the quantile of its table at u. So every marginal is the catalogue's own and
the dependence between them (hard sources have high pivots, ...) is kept.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize, minimize_scalar
from scipy.stats import norm, rankdata

from geminga.arrays import Float64

# Quantiles at equal steps of the normal score: as dense in the tails as in the middle.
PROBABILITIES: Float64 = np.round(
    np.concatenate([[0.0], norm.cdf(np.arange(-3.2, 3.21, 0.1)), [1.0]]), 6
)


def quantile_table(values: Float64, weights: Float64 | None = None) -> Float64:
    """Return the quantiles of a weighted sample at `PROBABILITIES`, from its least to its largest.

    Parameters
    ----------
    values : array (n,)
        Sample.
    weights : array (n,), optional
        Weight of each value, not negative; equal if not given.
    """
    order = np.argsort(values, kind="stable")
    x = values[order]
    w = np.ones_like(x) if weights is None else weights[order]
    x, w = x[w > 0], w[w > 0]
    if len(x) == 1 or x[0] == x[-1]:
        return np.full(len(PROBABILITIES), x[0])
    middle = np.cumsum(w) - 0.5 * w
    p = (middle - middle[0]) / (middle[-1] - middle[0])
    return np.interp(PROBABILITIES, p, x)


def normal_scores(columns: Float64) -> Float64:
    """Return the normal scores of each column (n, k) from its ranks; ties share their mean rank."""
    ranks = np.apply_along_axis(rankdata, 0, columns)
    return np.asarray(norm.ppf((ranks - 0.5) / len(columns)))


def score_correlation(columns: Float64) -> Float64:
    """Return the correlation matrix (k, k) of the normal scores; a constant column has none."""
    scores = normal_scores(columns)
    scores = scores - scores.mean(axis=0)
    spread = np.sqrt((scores**2).mean(axis=0))
    varies = np.ptp(columns, axis=0) > 0
    scaled = np.where(varies, scores / np.where(spread > 0, spread, 1.0), 0.0)
    matrix = scaled.T @ scaled / len(columns)
    np.fill_diagonal(matrix, 1.0)
    return np.asarray(matrix)


def correlation_root(matrix: Float64) -> Float64:
    """Return a root L with L L^T = matrix, from the eigenvectors: rounding may not matter."""
    values, vectors = np.linalg.eigh(matrix)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    length = np.sqrt((root**2).sum(axis=1, keepdims=True))
    return np.asarray(root / length)


def draw_uniforms(rng: np.random.Generator, n: int, correlation: Float64) -> Float64:
    """Return uniforms (n, k) whose normal scores have the correlation matrix (k, k)."""
    root = correlation_root(correlation)
    z = rng.standard_normal((n, len(correlation)))
    # einsum, not BLAS: the same bits on every machine thread count.
    return np.asarray(norm.cdf(np.einsum("nj,kj->nk", z, root)))


def quantile(u: Float64, probabilities: Float64, values: Float64) -> Float64:
    """Return the quantiles (n,) of a table at probabilities u (n,); one value is a constant."""
    if len(values) == 1:
        return np.full(len(u), values[0])
    return np.interp(u, probabilities, values)


def without_noise(
    values: Float64, errors: Float64, covariate: Float64, spread_varies: bool = False
) -> tuple[Float64, Float64, Float64]:
    """Take measurement scatter out of a sample.

    The true values are taken as normal with mean ``m = c0 + c1 covariate`` and scatter tau, each
    measured with its own error e; c0, c1 and tau maximise the likelihood. Each value is then
    moved towards m by the factor ``sqrt(tau^2 / (tau^2 + e^2))``: well measured ones stay, and the
    sample keeps the true scatter tau (posterior means would scatter too little).

    Parameters
    ----------
    values, errors, covariate : array (n,)
        Measurements, their standard errors, and what their mean may depend on.
    spread_varies : bool
        Whether ln tau is linear in the covariate too; else tau is the same for all.

    Returns
    -------
    denoised, mean, tau : array (n,)
        Values with the scatter taken out, m, and the true scatter around it.
    """
    variance = errors**2
    centred = covariate - covariate.mean()
    design = np.stack([np.ones_like(centred), centred], axis=1)

    def line(tau: Float64) -> Float64:
        w = 1.0 / (tau**2 + variance)
        normal = (design * w[:, None]).T @ design
        coefficients = np.linalg.lstsq(normal, (design * w[:, None]).T @ values, rcond=None)[0]
        return np.asarray(design @ coefficients)

    scale = float(np.std(values)) or 1.0
    lowest, highest = np.log(1e-3 * scale), np.log(2.0 * scale)

    def spread(log_tau: float, slope: float) -> Float64:
        return np.asarray(np.exp(np.clip(log_tau + slope * centred, lowest, highest)))

    def cost(log_tau: float, slope: float = 0.0) -> float:
        tau = spread(log_tau, slope)
        total = tau**2 + variance
        return float(np.sum((values - line(tau)) ** 2 / total + np.log(total)))

    log_tau = float(minimize_scalar(cost, bounds=(lowest, highest), method="bounded").x)
    slope = 0.0
    if spread_varies:
        best = minimize(lambda x: cost(x[0], x[1]), [log_tau, 0.0], method="Nelder-Mead").x
        log_tau, slope = float(best[0]), float(best[1])
    tau = spread(log_tau, slope)
    mean = line(tau)
    shrink = tau / np.sqrt(tau**2 + variance)
    return mean + shrink * (values - mean), mean, tau
