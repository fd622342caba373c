"""Drawing the sources of one sky from a population."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from geminga.arrays import Float64
from geminga.bands import edges_mev
from geminga.config import Config
from geminga.errors import InputError
from geminga.seeds import Stage, generator
from geminga.sky.populations.depth import faint_depths
from geminga.sky.populations.draws import (
    Draws,
    draw_faint,
    draw_faint_fluxes,
    draw_spectra,
    replaced,
)
from geminga.sky.populations.law import FaintExtension, Population
from geminga.sky.populations.positions import draw_positions, position_of
from geminga.sky.populations.variability import draw_yearly
from geminga.sky.spectra import energy_flux, photon_flux
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

    The number of each class is Poisson. Where a law for faint sources is in use
    (`geminga.sky.populations.depth.faint_depths`), catalogue sources below its threshold are left out and
    Poisson many of the law are added: those above it are the same with any ``sky.depth``. Sources
    above ``sky.max_photon_flux`` draw their parameters again.

    Parameters
    ----------
    population : Population
        What to draw from.
    config : Config
        Uses classes, seed, bands and sky (density_factor, depth, draws, max_photon_flux,
        positions, years).
    sky_id : int
        Sky; with the seed it fixes every number.

    Raises
    ------
    InputError
        If the population lacks a class, sky.depth cannot be used, or every source is above
        sky.max_photon_flux.
    """
    missing = [name for name in config.classes if name not in population.classes]
    if missing:
        raise InputError(
            "classes",
            f"{', '.join(missing)} not in population {population.name}",
            f"it has {', '.join(population.classes)}",
        )
    depths = faint_depths(population, config)
    rng = generator(config.seed, Stage.SOURCES, sky_id)
    frames, factors = [], []
    for number, name in enumerate(config.classes):
        law = population.classes[name]
        points = 1.0 if config.sky.extended is None else 1.0 - law.extended_share
        n = int(rng.poisson(law.mean_number * points * config.sky.density_factor))
        table, yearly = _draw_part(rng, population, config, name, n, _catalogue(population, name))
        faint = law.faint_extension
        if name in depths and faint is not None:
            bright = table["flux"].to_numpy() >= faint.threshold
            table, yearly = table[bright], yearly[bright]
        frames.append(table)
        factors.append(yearly)
        if name in depths and faint is not None:
            # A stream of its own: the depth changes no bright source of any class.
            own = generator(config.seed, Stage.DEPTH, sky_id, number)
            n = int(own.poisson(faint.number(depths[name]) * config.sky.density_factor))
            draw = _faint(population, name, faint, depths[name])
            table, yearly = _draw_part(own, population, config, name, n, draw)
            frames.append(table)
            factors.append(yearly)
    return _source_set(frames, factors, sky_id)


def _source_set(frames: list[pd.DataFrame], factors: list[Float64], sky_id: int) -> SourceSet:
    """Join the classes, brightest source first, with the derived fluxes."""
    table = pd.concat(frames, ignore_index=True)
    order = np.argsort(-table["s_band"].to_numpy(), kind="stable")
    table = table.iloc[order]
    data = {name: table[name].to_numpy() for name in table.columns if name != "flux"}
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


Draw = Callable[[np.random.Generator, int, Draws], pd.DataFrame]


def _catalogue(population: Population, name: str) -> Draw:
    return lambda rng, n, draws: draw_spectra(rng, population, name, n, draws)


def _faint(population: Population, name: str, law: FaintExtension, depth: float) -> Draw:
    return lambda rng, n, draws: draw_faint(
        rng, population, name, draw_faint_fluxes(rng, law, depth, n), draws
    )


def _draw_part(
    rng: np.random.Generator,
    population: Population,
    config: Config,
    name: str,
    n: int,
    draw: Draw,
) -> tuple[pd.DataFrame, Float64]:
    """Draw positions, spectra and yearly factors of n sources of a class."""
    law = population.classes[name]
    lon, lat = draw_positions(rng, position_of(law, config.sky.positions), n)
    emin_mev = float(edges_mev(config.bands)[:, 0].min())
    spectra = _draw_below(
        rng, draw, n, config.sky.draws, emin_mev, config.sky.max_photon_flux, name
    )
    table = spectra.assign(class_name=name, lon_deg=lon, lat_deg=lat)
    return table, draw_yearly(rng, law.variability, n, config.sky.years)


def _draw_below(
    rng: np.random.Generator,
    draw: Draw,
    n: int,
    draws: Draws,
    emin_mev: float,
    limit: float | None,
    name: str,
) -> pd.DataFrame:
    """Draw n spectra with s_band, none above the limit."""
    spectra = draw(rng, n, draws)
    spectra["s_band"] = photon_flux(spectra, emin_mev, S_BAND_MAX_MEV)
    if limit is None:
        return spectra
    for _ in range(_MAX_REDRAWS):
        above = spectra["s_band"].to_numpy() > limit
        if not above.any():
            return spectra
        fresh = draw(rng, int(above.sum()), draws)
        fresh["s_band"] = photon_flux(fresh, emin_mev, S_BAND_MAX_MEV)
        spectra = replaced(spectra, above, fresh)
    raise InputError(
        "sky.max_photon_flux",
        f"{limit:g} ph/cm2/s leaves no source of class {name}",
        "raise it or leave it out",
    )
