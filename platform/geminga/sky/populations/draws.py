"""Drawing the spectra of a class from its laws."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from scipy.stats import norm as normal

from geminga.arrays import Bool, Float64
from geminga.errors import InputError
from geminga.sky.populations.copula import correlation_root, quantile
from geminga.sky.populations.independent import draw_independent
from geminga.sky.populations.law import ClassLaw, FaintExtension, Population
from geminga.sky.spectra import PLEC, energy_flux, photon_flux

Draws = Literal["joint", "independent"]

_MAX_REDRAWS = 200


def draw_spectra(
    rng: np.random.Generator, population: Population, name: str, n: int, draws: Draws = "joint"
) -> pd.DataFrame:
    """Draw the spectra of n catalogue sources of a class.

    Parameters
    ----------
    rng : numpy.random.Generator
    population : Population
    name : str
        Class.
    n : int
    draws : str
        ``joint``: flux and shape with their correlations. ``independent``: F0 and every other
        parameter by itself. Spectra brighter than the brightest catalogue source of the class, or
        without a finite flux, are drawn again.

    Returns
    -------
    DataFrame
        The spectral columns of the TRUTH table and ``flux``, the photon flux in the population's
        reference range, cm-2 s-1.
    """
    law = population.classes[name]
    brightest = 10.0 ** law.variables["log_flux"][-1]

    def draw(count: int) -> pd.DataFrame:
        if draws == "independent":
            alone = draw_independent(rng, law.form, law.independent, count)
            return _with_own_flux(population, alone)
        spectra, log_flux = _joint(population, law, _scores(rng, law, count))
        return _with_flux(population, spectra, 10.0**log_flux)

    spectra = draw(n)
    for _ in range(_MAX_REDRAWS):
        # Rounded numbers of the file: the brightest source itself must pass.
        wrong = ~_between(spectra["flux"], brightest * 1.001) | _outshines(law, spectra)
        if not wrong.any():
            return spectra
        spectra = replaced(spectra, wrong, draw(int(wrong.sum())))
    raise InputError(
        f"population {population.name}",
        f"{draws} laws of class {name} give no spectrum fainter than its brightest source "
        f"({brightest:.3g} ph/cm2/s)",
        "fit the population anew or use other sky.draws",
    )


def draw_faint(
    rng: np.random.Generator,
    population: Population,
    name: str,
    flux: Float64,
    draws: Draws = "joint",
) -> pd.DataFrame:
    """Draw spectra of sources fainter than the catalogue is complete to.

    Their shapes are distributed as those of the class at the threshold flux (the copula given the
    flux score there), or by the independent laws. Further down the catalogue's correlation
    of shape with flux shows which faint sources can be detected, not which there are.

    Parameters
    ----------
    flux : array (n,)
        Photon fluxes in the reference range, cm-2 s-1.

    Returns
    -------
    DataFrame
        As `draw_spectra`.
    """
    law = population.classes[name]
    if law.faint_extension is None:
        raise ValueError(f"class {name} has no faint extension")
    if draws == "independent":
        spectra = draw_independent(rng, law.form, law.independent, len(flux))
        for _ in range(_MAX_REDRAWS):
            wrong = ~_between(_unit_flux(population, spectra), np.inf)
            if not wrong.any():
                break
            fresh = draw_independent(rng, law.form, law.independent, int(wrong.sum()))
            spectra = replaced(spectra, wrong, fresh)
        return _with_flux(population, spectra, flux)
    scores = _scores(rng, law, len(flux))
    place = law.variable_names.index("log_flux")
    table = np.array(law.variables["log_flux"])
    share = np.interp(
        np.log10(law.faint_extension.threshold), table, np.array(population.probabilities)
    )
    wanted = float(normal.ppf(np.clip(share, 1e-4, 1.0 - 1e-4)))
    # Matheron's rule: normal variables given one of them are free ones moved along its column.
    column = np.array(law.correlation)[:, place]
    scores = scores + column * (wanted - scores[:, place])[:, None]
    spectra, _ = _joint(population, law, scores)
    return _with_flux(population, spectra, flux)


def draw_faint_fluxes(
    rng: np.random.Generator, law: FaintExtension, depth: float, n: int
) -> Float64:
    """Return n fluxes (cm-2 s-1) distributed as S^-slope from `depth` to the threshold."""
    v, power = rng.uniform(size=n), 1.0 - law.slope
    low = np.log(depth / law.threshold)
    if abs(power) < 1e-9:
        return np.asarray(law.threshold * np.exp(v * low))
    return np.asarray(law.threshold * np.exp(np.log1p(v * np.expm1(power * low)) / power))


def replaced(spectra: pd.DataFrame, where: Bool, fresh: pd.DataFrame) -> pd.DataFrame:
    """Return the spectra with the rows (n,) chosen replaced by fresh ones."""
    columns = {c: spectra[c].to_numpy(copy=True) for c in spectra.columns}
    for column, values in columns.items():
        values[where] = fresh[column].to_numpy()
    return pd.DataFrame(columns)


def _scores(rng: np.random.Generator, law: ClassLaw, n: int) -> Float64:
    """Return normal scores (n, k) with the class' correlations."""
    root = correlation_root(np.array(law.correlation))
    z = rng.standard_normal((n, len(root)))
    # einsum, not BLAS: the same bits on every machine thread count.
    return np.asarray(np.einsum("nj,kj->nk", z, root))


def _joint(population: Population, law: ClassLaw, scores: Float64) -> tuple[pd.DataFrame, Float64]:
    """Return spectra of norm 1 and log10 of the catalogue's flux at normal scores (n, k)."""
    probabilities = np.array(population.probabilities)
    uniforms = normal.cdf(scores)
    drawn = {
        variable: quantile(uniforms[:, column], probabilities, np.array(law.variables[variable]))
        for column, variable in enumerate(law.variable_names)
    }
    n = len(scores)
    plec = law.form == PLEC
    exp_index = drawn["exp_index"] if plec else np.zeros(n)
    spectra = pd.DataFrame(
        {
            "form": np.full(n, law.form, dtype=object),
            "norm": np.ones(n),
            "pivot_mev": 10.0 ** drawn["log_pivot"],
            "index": drawn["index"],
            "curvature": 10.0 ** (-exp_index * drawn["log_cutoff"]) if plec else drawn["curvature"],
            "exp_index": exp_index,
        }
    )
    return spectra, drawn["log_flux"]


def _reference_flux(population: Population, spectra: pd.DataFrame) -> Float64:
    return photon_flux(
        spectra, population.reference_flux_min_mev, population.reference_flux_max_mev
    )


def _outshines(law: ClassLaw, spectra: pd.DataFrame) -> Bool:
    """Return which spectra have more energy in 0.1-100 GeV than any catalogue source."""
    if law.max_energy_flux is None:
        return np.zeros(len(spectra), dtype=np.bool_)
    with np.errstate(over="ignore", invalid="ignore"):
        total = energy_flux(spectra, 1e2, 1e5)
    return np.asarray(~(total <= law.max_energy_flux * 1.001))


def _unit_flux(population: Population, spectra: pd.DataFrame) -> Float64:
    """Return the reference flux for a norm of 1; too large or too small where unphysical."""
    with np.errstate(over="ignore", invalid="ignore"):
        return _reference_flux(population, spectra.assign(norm=1.0))


def _with_flux(population: Population, spectra: pd.DataFrame, flux: Float64) -> pd.DataFrame:
    return spectra.assign(norm=flux / _unit_flux(population, spectra), flux=flux)


def _with_own_flux(population: Population, spectra: pd.DataFrame) -> pd.DataFrame:
    with np.errstate(over="ignore", invalid="ignore"):
        return spectra.assign(flux=_reference_flux(population, spectra))


def _between(flux: pd.Series[float] | Float64, brightest: float) -> Bool:
    values = np.asarray(flux, dtype=np.float64)
    return np.asarray(np.isfinite(values) & (values > 0) & (values <= brightest))
