"""Yearly variability: how much sources of a class vary, and the factors of drawn sources."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.stats import chi2

from geminga.arrays import Float64
from geminga.sky.populations.law import Variability

STEADY = Variability(sigma=0.0, spread=0.0)

# A class whose median source varies by less than this between years is taken as steady.
_STEADY_BELOW = 0.1
# Relative systematic error of a yearly flux, as in the variability index of 4FGL
# (Abdollahi et al. 2020, ApJS 247, 33, equation 4).
_SYSTEMATIC = 0.02
_MIN_SOURCES = 5
# Very variable sources would put all of ten years' flux into one.
_MAX_OVER_MEDIAN = 3.0
_NODES = 24
_SPREADS = (0.05, 1.5)


def fit_variability(flux: Float64, error: Float64) -> Variability:
    """Fit the scatter of ln(yearly flux / mean flux) over the sources of a class.

    A source of scatter sigma measured with relative errors e has a variance of its ln(flux) that
    is (sigma^2 + <e^2>) chi^2 / (years - 1). The sources' own sigma are log-normal; median and
    spread have the most likelihood over all sources. So neither the errors nor the few years of
    each source widen the law.

    Parameters
    ----------
    flux : array (n, years)
        Yearly fluxes of bright sources; sources with a flux of zero are left out.
    error : array (n, years)
        Their standard errors, without systematic ones.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        usable = (flux > 0).all(axis=1) & np.isfinite(error).all(axis=1)
    if usable.sum() < _MIN_SOURCES or flux.shape[1] < 2:
        return STEADY
    f, e = flux[usable], error[usable]
    measured = np.log(f).var(axis=1, ddof=1)
    noise = ((e / f) ** 2).mean(axis=1) + _SYSTEMATIC**2
    free = f.shape[1] - 1
    z, weight = np.polynomial.hermite_e.hermegauss(_NODES)
    weight = weight / weight.sum()

    def cost(parameters: Float64) -> float:
        log_sigma, log_spread = parameters
        spread = np.clip(np.exp(log_spread), *_SPREADS)
        sigma = np.exp(log_sigma) * np.minimum(np.exp(spread * z), _MAX_OVER_MEDIAN)
        expected = sigma**2 + noise[:, None]
        density = chi2.pdf(free * measured[:, None] / expected, free) / expected
        return -float(np.log(np.maximum(density @ weight, 1e-300)).sum())

    excess = np.sqrt(max(float(np.median(measured - noise)), 1e-4))
    best = minimize(cost, [np.log(excess), np.log(0.5)], method="Nelder-Mead").x
    sigma = float(np.exp(best[0]))
    if sigma < _STEADY_BELOW:
        return STEADY
    return Variability(sigma=sigma, spread=float(np.clip(np.exp(best[1]), *_SPREADS)))


def draw_yearly(rng: np.random.Generator, law: Variability, n: int, years: int) -> Float64:
    """Return the flux of each year over the mean flux, shape (n, years); the mean of a row is 1.

    Years are independent and log-normal; the scatter of each source is drawn too.
    """
    if law.sigma == 0.0 or years == 1:
        return np.ones((n, years))
    widening = np.minimum(np.exp(law.spread * rng.standard_normal(n)), _MAX_OVER_MEDIAN)
    yearly = np.exp(law.sigma * widening[:, None] * rng.standard_normal((n, years)))
    return np.asarray(yearly / yearly.mean(axis=1, keepdims=True))
