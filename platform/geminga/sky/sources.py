"""Drawing the sources of one sky from a population."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from geminga.arrays import Float64
from geminga.bands import edges_mev
from geminga.config import Config
from geminga.errors import InputError
from geminga.seeds import Stage, generator
from geminga.sky.copula import draw_uniforms, quantile
from geminga.sky.law import ClassLaw, Population
from geminga.sky.positions import draw_positions
from geminga.sky.spectra import energy_flux, photon_flux
from geminga.sky.variability import draw_yearly
from geminga.tables import TRUTH

S_BAND_MAX_MEV = 2e6
"""Upper end of the TRUTH column ``s_band``."""

_MAX_REDRAWS = 200


@dataclass(frozen=True)
class SourceSet:
    """The sources of one sky.

    Attributes
    ----------
    table : DataFrame
        TRUTH table, brightest ``s_band`` first; source_id is the row number.
    yearly : array (n, years)
        Flux of each year over the mean flux; every row has mean 1.
    """

    table: pd.DataFrame
    yearly: Float64

    def __post_init__(self) -> None:
        if self.yearly.ndim != 2 or len(self.yearly) != len(self.table):
            raise ValueError(f"yearly {self.yearly.shape} for {len(self.table)} sources")


def draw_sources(population: Population, config: Config, sky_id: int) -> SourceSet:
    """Draw the sources of a sky.

    The number of each class is Poisson; parameters are drawn jointly (Gaussian copula); sources
    above ``sky.max_photon_flux`` draw their parameters again.

    Parameters
    ----------
    population : Population
        What to draw from.
    config : Config
        Uses classes, seed, bands and sky (density_factor, max_photon_flux, years).
    sky_id : int
        Sky; with the seed it fixes every number.

    Raises
    ------
    InputError
        If the population lacks a class, or every source is above sky.max_photon_flux.
    """
    missing = [name for name in config.classes if name not in population.classes]
    if missing:
        raise InputError(
            "classes",
            f"{', '.join(missing)} not in population {population.name}",
            f"it has {', '.join(population.classes)}",
        )
    rng = generator(config.seed, Stage.SOURCES, sky_id)
    emin_mev = float(edges_mev(config.bands)[0, 0])
    frames, factors = [], []
    for name in config.classes:
        law = population.classes[name]
        n = int(rng.poisson(law.total_mean_number * config.sky.density_factor))
        lon, lat = draw_positions(rng, law.position, n)
        spectra = _draw_below(rng, population, name, n, emin_mev, config.sky.max_photon_flux)
        frames.append(spectra.assign(class_name=name, lon_deg=lon, lat_deg=lat))
        factors.append(draw_yearly(rng, law.variability, n, config.sky.years))
    table = pd.concat(frames, ignore_index=True)
    order = np.argsort(-table["s_band"].to_numpy(), kind="stable")
    table = table.iloc[order]
    data = {name: table[name].to_numpy() for name in table.columns}
    truth = TRUTH.frame(
        {
            **data,
            "sky_id": np.full(len(table), sky_id),
            "source_id": np.arange(len(table)),
            "s1": photon_flux(table, 1e3, 1e6),
            "s10": photon_flux(table, 1e4, 1e6),
            "fe100": energy_flux(table, 1e2, 1e5),
        }
    )
    return SourceSet(truth, np.concatenate(factors)[order])


def draw_spectra(
    rng: np.random.Generator, population: Population, name: str, n: int
) -> pd.DataFrame:
    """Draw the spectra of n sources of a class: the spectral columns of the TRUTH table."""
    law = population.classes[name]
    probabilities = np.array(population.probabilities)
    uniforms = draw_uniforms(rng, n, np.array(law.correlation))
    drawn = {}
    for column, variable in enumerate(law.variable_names):
        u, table = uniforms[:, column], np.array(law.variables[variable])
        if variable == "log_flux":
            drawn[variable] = _log_flux(law, u, probabilities, table)
        else:
            drawn[variable] = quantile(u, probabilities, table)
    pivot = 10.0 ** drawn["log_pivot"]
    if law.form == "plec":
        exp_index = drawn["exp_index"]
        curvature = 10.0 ** (-exp_index * drawn["log_cutoff"])
    else:
        exp_index = np.zeros(n)
        curvature = drawn["curvature"]
    spectra = pd.DataFrame(
        {
            "form": np.full(n, law.form, dtype=object),
            "norm": np.ones(n),
            "pivot_mev": pivot,
            "index": drawn["index"],
            "curvature": curvature,
            "exp_index": exp_index,
        }
    )
    unit = photon_flux(
        spectra, population.reference_flux_min_mev, population.reference_flux_max_mev
    )
    return spectra.assign(norm=10.0 ** drawn["log_flux"] / unit)


def _log_flux(law: ClassLaw, u: Float64, probabilities: Float64, table: Float64) -> Float64:
    """Quantile of log10 flux: the faint power law first, then the class' table."""
    faint = law.faint_extension
    if faint is None or faint.mean_number == 0.0:
        return quantile(u, probabilities, table)
    share = faint.mean_number / law.total_mean_number
    bright = quantile(np.clip((u - share) / (1.0 - share), 0.0, 1.0), probabilities, table)
    v = np.clip(u / share, 0.0, 1.0)
    power = 1.0 - faint.slope
    if abs(power) < 1e-9:
        low = np.log(faint.flux_min) + v * np.log(faint.flux_max / faint.flux_min)
    else:
        a, b = faint.flux_min**power, faint.flux_max**power
        low = np.log(a + v * (b - a)) / power
    return np.where(u < share, low / np.log(10.0), bright)


def _draw_below(
    rng: np.random.Generator,
    population: Population,
    name: str,
    n: int,
    emin_mev: float,
    limit: float | None,
) -> pd.DataFrame:
    """Draw n spectra with s_band, none above the limit."""
    spectra = draw_spectra(rng, population, name, n)
    spectra["s_band"] = photon_flux(spectra, emin_mev, S_BAND_MAX_MEV)
    if limit is None:
        return spectra
    for _ in range(_MAX_REDRAWS):
        above = np.flatnonzero(spectra["s_band"].to_numpy() > limit)
        if len(above) == 0:
            return spectra
        fresh = draw_spectra(rng, population, name, len(above))
        fresh["s_band"] = photon_flux(fresh, emin_mev, S_BAND_MAX_MEV)
        columns = {c: spectra[c].to_numpy(copy=True) for c in spectra.columns}
        for column, values in columns.items():
            values[above] = fresh[column].to_numpy()
        spectra = pd.DataFrame(columns)
    raise InputError(
        "sky.max_photon_flux",
        f"{limit:g} ph/cm2/s leaves no source of class {name}",
        "raise it or leave it out",
    )
