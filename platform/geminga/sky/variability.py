"""Yearly variability: how much sources of a class vary, and the factors of drawn sources."""

from __future__ import annotations

import numpy as np

from geminga.arrays import Float64
from geminga.sky.law import Variability

STEADY = Variability(sigma=0.0, spread=0.0)

# A class whose median source varies by less than this between years is taken as steady.
_STEADY_BELOW = 0.05
_MIN_SOURCES = 5


def fit_variability(flux: Float64, error: Float64) -> Variability:
    """Fit the scatter of ln(yearly flux / mean flux) over the sources of a class.

    The scatter of each source is its variance of ln(flux) less the mean square of its relative
    errors; the class has the median and, between sources, the scatter of the logarithm.

    Parameters
    ----------
    flux : array (n, years)
        Yearly fluxes of bright sources; sources with a flux of zero are left out.
    error : array (n, years)
        Their standard errors.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        usable = (flux > 0).all(axis=1) & np.isfinite(error).all(axis=1)
    if usable.sum() < _MIN_SOURCES or flux.shape[1] < 2:
        return STEADY
    f, e = flux[usable], error[usable]
    variance = np.log(f).var(axis=1, ddof=1) - ((e / f) ** 2).mean(axis=1)
    sigma = np.sqrt(np.maximum(variance, 0.0))
    median = float(np.median(sigma))
    if median < _STEADY_BELOW:
        return STEADY
    # From the quartiles: a few sources whose noise exceeds their scatter must not widen it.
    low, high = np.quantile(sigma, [0.25, 0.75])
    spread = float(np.log(high / max(low, 1e-3)) / 1.349)
    return Variability(sigma=median, spread=spread)


def draw_yearly(rng: np.random.Generator, law: Variability, n: int, years: int) -> Float64:
    """Return the flux of each year over the mean flux, shape (n, years); the mean of a row is 1.

    Years are independent and log-normal; the scatter of each source is drawn too.
    """
    if law.sigma == 0.0 or years == 1:
        return np.ones((n, years))
    sigma = law.sigma * np.exp(law.spread * rng.standard_normal(n))
    # Very variable sources would put all of ten years' flux into one.
    sigma = np.minimum(sigma, 3.0 * law.sigma)
    yearly = np.exp(sigma[:, None] * rng.standard_normal((n, years)))
    return np.asarray(yearly / yearly.mean(axis=1, keepdims=True))
