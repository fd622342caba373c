"""Sources too faint for the catalogue: which laws are in use, and what they add to the sky.

With ``sky.depth`` every isotropic class follows its catalogue down to the flux where that stays
complete, and ``dN/dS = K S^-slope`` from there to the depth; K is the catalogue's own density at
the threshold. Faint sources are part of what the isotropic emission was measured as, so it is
lowered by the counts they add: the total stays.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from geminga.arrays import Float64
from geminga.config import Config
from geminga.errors import InputError
from geminga.response import Response, interpolate_energy
from geminga.seeds import Stage, generator
from geminga.sky.populations.draws import draw_faint, draw_spectra
from geminga.sky.populations.law import ClassLaw, Population
from geminga.sky.populations.positions import position_of
from geminga.sky.spectra import differential

_WHERE = "sky.depth"
_SAMPLE = 20_000


def faint_depths(population: Population, config: Config) -> dict[str, float]:
    """Return the flux that each class' faint law goes down to; a class without one is left out.

    Parameters
    ----------
    population : Population
    config : Config
        Uses classes and sky (depth, positions).

    Returns
    -------
    dict of str to float
        Photon flux in the population's reference range, cm-2 s-1: ``sky.depth`` for isotropic
        classes, else the depth in the population file, if it has one.

    Raises
    ------
    InputError
        If ``sky.depth`` is not positive, not below a threshold, no class can use it, or the law's
        summed flux diverges.
    """
    depth = config.sky.depth
    if depth is not None and not (math.isfinite(depth) and depth > 0):
        raise InputError(_WHERE, f"{depth:g} is not positive", "give a photon flux such as 1e-11")
    depths = {}
    for name in config.classes:
        law = population.classes[name]
        faint = law.faint_extension
        if faint is None:
            continue
        isotropic = _isotropic(law, config)
        own = depth if depth is not None and isotropic else faint.flux_min
        if own is None:
            continue
        if own >= faint.threshold:
            raise InputError(
                _WHERE,
                f"{own:g} ph/cm2/s is not below {faint.threshold:g}, down to which the catalogue "
                f"of class {name} is complete",
                "give a lower flux or leave it out",
            )
        if faint.diverges:
            raise InputError(
                _WHERE,
                f"{own:g} ph/cm2/s: the law of class {name} has slope {faint.slope:g}, whose "
                "summed flux diverges",
                "use a population with a slope below 2, or leave sky.depth out",
            )
        depths[name] = own
    if depth is not None and not any(
        _isotropic(population.classes[name], config) for name in depths
    ):
        raise InputError(
            _WHERE,
            f"{depth:g} ph/cm2/s: no class of {', '.join(config.classes)} in population "
            f"{population.name} is isotropic and has a law for faint sources",
            "leave it out or fit the population anew",
        )
    return depths


def faint_counts(population: Population, config: Config, response: Response) -> Float64:
    """Return the mean counts that faint laws of isotropic classes add to the sky, shape (C,).

    Expected counts over the whole sky and observing time, per channel: the sources between depth
    and threshold less the catalogue sources that they replace. A fixed sample of spectra is
    weighted with the law's summed flux, so the same configuration gives the same numbers.

    Parameters
    ----------
    population : Population
    config : Config
        Uses seed, classes and sky (depth, density_factor, draws, positions).
    response : Response

    Raises
    ------
    InputError
        As `faint_depths`.
    """
    total = np.zeros(len(response.channels))
    for number, (name, depth) in enumerate(faint_depths(population, config).items()):
        law = population.classes[name]
        faint = law.faint_extension
        if faint is None or not _isotropic(law, config):
            continue
        rng = generator(config.seed, Stage.DEPTH, number)
        # The shapes of faint sources do not depend on their flux: one flux stands for all.
        ones = draw_faint(rng, population, name, np.ones(_SAMPLE), config.sky.draws)
        total += faint.flux(depth) * mean_sky_counts(ones, response) / _SAMPLE
        table = draw_spectra(rng, population, name, _SAMPLE, config.sky.draws)
        below = table[table["flux"] < faint.threshold]
        total -= law.mean_number * mean_sky_counts(below, response) / _SAMPLE
    return total * config.sky.density_factor


def isotropic_left(
    population: Population, config: Config, response: Response, isotropic_counts: Float64
) -> Float64:
    """Return the part of the isotropic emission that is left beside the faint sources.

    Parameters
    ----------
    isotropic_counts : Float64 (C,)
        Expected isotropic counts over the whole sky per channel.

    Returns
    -------
    Float64 (C,)
        ``1 - faint_counts / isotropic_counts``; ones where no faint law is in use.

    Raises
    ------
    InputError
        If the faint sources outshine the isotropic emission in a channel.
    """
    added = faint_counts(population, config, response)
    too_much = np.flatnonzero(added > isotropic_counts)
    if len(too_much):
        channel = int(too_much[0])
        band = response.channels[channel]
        given = config.sky.depth
        depth = "the population's own" if given is None else f"{given:g} ph/cm2/s"
        raise InputError(
            _WHERE,
            f"{depth}: the faint sources add {added[channel]:.4g} counts from {band.emin_gev:g} to "
            f"{band.emax_gev:g} GeV, more than the isotropic emission's "
            f"{isotropic_counts[channel]:.4g}",
            "give a brighter flux, a smaller sky.density_factor or another population",
        )
    safe = np.where(isotropic_counts > 0, isotropic_counts, 1.0)
    return np.asarray(1.0 - added / safe)


def mean_sky_counts(spectra: pd.DataFrame, response: Response) -> Float64:
    """Return the summed counts (C,) of spectra seen with the sky's mean exposure."""
    columns = [
        spectra[name].to_numpy()
        for name in ("form", "norm", "pivot_mev", "index", "curvature", "exp_index")
    ]
    counts = np.zeros(len(response.channels))
    for channel, nodes in enumerate(response.nodes):
        exposure = response.exposures[channel]
        seen = interpolate_energy(exposure.mean()[:, None], exposure.energy_mev, nodes.energy_mev)[
            :, 0
        ]
        flux = differential(
            columns[0], columns[1], columns[2], columns[3], columns[4], columns[5], nodes.energy_mev
        ).sum(axis=0)
        counts[channel] = np.einsum("e,e->", flux, seen * nodes.weight)
    return counts


def _isotropic(law: ClassLaw, config: Config) -> bool:
    return position_of(law, config.sky.positions).law == "isotropic"
