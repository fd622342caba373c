"""Spectral parameters drawn one by one, as the reference work did (``sky.draws: independent``).

The laws are those it prints: F0 normal in the logarithm, E0 log-normal, beta Gumbel, alpha and
Gamma normal, a log-normal, b Cauchy, each of most likelihood for the catalogue's own values: with
their measurement scatter, and with every row of uncertain class (BCU) in each class that it may
belong to. That mixes the classes and forgets every correlation; it is here to compare with.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import minimize

from geminga.arrays import Float64
from geminga.sky.populations.law import PublishedLaw
from geminga.sky.spectra import LOG_PARABOLA, PLEC

# In most rows of DR2 the exponent b of the cutoff is not fitted but fixed to this value.
_FIXED_EXP_INDEX = 2.0 / 3.0
_MIN_FREE = 5


def fit_independent(form: str, values: dict[str, Float64]) -> dict[str, PublishedLaw]:
    """Fit the published law of each parameter.

    Parameters
    ----------
    form : str
        Spectral form.
    values : dict of str to array (n,)
        Catalogue values by parameter name (`geminga.sky.populations.law.INDEPENDENT_LOG_PARABOLA`, ...).

    Notes
    -----
    beta is kept from 0 up: a spectrum that curves upwards has no finite flux at high energies.
    b is fitted on the rows where the catalogue left it free, constant with fewer than five.
    """
    laws = {}
    for name, sample in values.items():
        x = sample[np.isfinite(sample)]
        if np.ptp(x) == 0:
            laws[name] = constant(float(x[0]))
        elif name == "curvature" and form == LOG_PARABOLA:
            location, scale = stats.gumbel_r.fit(x)
            laws[name] = _law("gumbel", x, location, scale, low=0.0)
        elif name == "exp_index" and form == PLEC:
            free = x[np.abs(x - _FIXED_EXP_INDEX) > 1e-3]
            laws[name] = (
                _law("cauchy", free, *_fit_cauchy(free))
                if len(free) >= _MIN_FREE
                else constant(float(np.median(x)))
            )
        else:
            laws[name] = _law("normal", x, float(x.mean()), float(x.std()))
    return laws


def constant(value: float) -> PublishedLaw:
    """Return the law of a parameter that is the same for all sources."""
    return PublishedLaw(law="constant", location=value, scale=0.0, low=value, high=value)


def _law(
    name: str, x: Float64, location: float, scale: float, low: float = -np.inf
) -> PublishedLaw:
    return PublishedLaw.model_validate(
        {
            "law": name,
            "location": float(f"{location:.6g}"),
            "scale": float(f"{scale:.6g}"),
            "low": float(f"{max(float(x.min()), low):.6g}"),
            "high": float(f"{max(float(x.max()), low):.6g}"),
        }
    )


def _fit_cauchy(x: Float64) -> tuple[float, float]:
    """Return location and scale of most likelihood."""
    low, middle, high = np.quantile(x, [0.25, 0.5, 0.75])

    def cost(parameters: Float64) -> float:
        return float(-stats.cauchy.logpdf(x, parameters[0], np.exp(parameters[1])).sum())

    start = [middle, np.log(max(0.5 * (high - low), 1e-3))]
    best = minimize(cost, start, method="Nelder-Mead").x
    return float(best[0]), float(np.exp(best[1]))


_DISTRIBUTIONS = {"normal": stats.norm, "gumbel": stats.gumbel_r, "cauchy": stats.cauchy}


def quantile_of(law: PublishedLaw, u: Float64) -> Float64:
    """Return the values (n,) of a law cut to its range at probabilities u (n,)."""
    if law.law == "constant":
        return np.full(len(u), law.location)
    distribution = _DISTRIBUTIONS[law.law](law.location, law.scale)
    first, last = distribution.cdf([law.low, law.high])
    return np.asarray(np.clip(distribution.ppf(first + u * (last - first)), law.low, law.high))


def draw_independent(
    rng: np.random.Generator, form: str, laws: dict[str, PublishedLaw], n: int
) -> pd.DataFrame:
    """Draw the spectral columns of the TRUTH table of n sources, each parameter by itself."""
    names = sorted(laws)
    drawn = {name: quantile_of(laws[name], rng.uniform(size=n)) for name in names}
    plec = form == PLEC
    return pd.DataFrame(
        {
            "form": np.full(n, form, dtype=object),
            "norm": 10.0 ** drawn["log_norm"],
            "pivot_mev": 10.0 ** drawn["log_pivot"],
            "index": drawn["index"],
            "curvature": 10.0 ** drawn["log_expfactor"] if plec else drawn["curvature"],
            "exp_index": drawn["exp_index"] if plec else np.zeros(n),
        }
    )
