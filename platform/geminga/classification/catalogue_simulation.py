"""A simulated catalogue, measured as a given real one was, of sources whose classes are known.

Sources of each class are drawn from a population, their spectra integrated in the file's bands and
measured as `catalogue_measurement` learnt it from the file's errors. No class of the file is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from geminga.arrays import Float64, Int64
from geminga.classification.catalogue_measurement import Measurement, measure
from geminga.classification.evidence import Evidence
from geminga.errors import InputError
from geminga.seeds import Stage, generator
from geminga.sky.populations.draws import Draws, draw_faint, draw_faint_fluxes, draw_spectra
from geminga.sky.populations.law import Population
from geminga.sky.populations.positions import draw_positions
from geminga.sky.populations.variability import draw_yearly

# Part of the threshold of a class' law for faint sources down to which sources are drawn: below it
# none is found in a catalogue like 4FGL.
_DEPTH = 0.04
_BATCHES = (1_000, 20_000)
_MOST_BATCHES = 200


@dataclass(frozen=True, eq=False)
class SimulatedCatalogue:
    """Sources of known class, measured.

    Attributes
    ----------
    evidence : Evidence
    labels : Int64 (n,)
        Class of each, in the order of the classes.
    expected : Float64 (classes,)
        Number of sources of each class that such a catalogue of the whole sky would have.
    """

    evidence: Evidence
    labels: Int64
    expected: Float64


def simulate_catalogue(
    population: Population,
    classes: Sequence[str],
    measurement: Measurement,
    per_class: int,
    seed: int,
    part: int = 0,
    draws: Draws = "joint",
) -> SimulatedCatalogue:
    """Draw sources of every class and measure them as the catalogue would.

    Parameters
    ----------
    population : Population
    classes : sequence of str
    measurement : Measurement
    per_class : int
        Detected sources of each class.
    seed, part : int
        Root seed; parts are independent of each other.
    draws : str
        ``joint``: spectra with their correlations; ``independent``: each parameter by itself.

    Raises
    ------
    InputError
        If the population lacks a class, or none of its sources can be detected.
    """
    missing = [name for name in classes if name not in population.classes]
    if missing:
        raise InputError(
            "classes",
            f"{', '.join(missing)} not in population {population.name}",
            f"it has {', '.join(population.classes)}",
        )
    parts: list[Evidence] = []
    expected = np.zeros(len(classes))
    size = int(np.clip(4 * per_class, *_BATCHES))
    for number, name in enumerate(classes):
        found, drawn, batch = 0, 0, 0
        mine: list[Evidence] = []
        while found < per_class:
            if batch == _MOST_BATCHES or (batch >= 5 and not found):
                raise InputError(
                    f"population {population.name}",
                    f"only {found} of {drawn} sources of class {name} would be in the catalogue",
                    "use a population of sources in the catalogue's bands",
                )
            rng = generator(seed, Stage.CATALOGUE, part, number, batch)
            whole, sources, yearly = _draw(
                rng, population, name, size, measurement.year_error.shape[1], draws
            )
            evidence = measure(rng, measurement, sources, yearly)
            mine.append(evidence)
            found, drawn, batch = found + len(evidence), drawn + size, batch + 1
        parts.append(Evidence.join(mine).take(np.arange(per_class)))
        expected[number] = whole * found / drawn
    labels = np.repeat(np.arange(len(classes)), per_class)
    return SimulatedCatalogue(Evidence.join(parts), labels, expected)


def _draw(
    rng: np.random.Generator, population: Population, name: str, n: int, years: int, draws: Draws
) -> tuple[float, pd.DataFrame, Float64]:
    """Return the mean number of sources of a class on the sky, and n of them with their years."""
    law = population.classes[name]
    faint = law.faint_extension
    whole = law.mean_number
    if faint is None:
        spectra = draw_spectra(rng, population, name, n, draws)
    else:
        depth = faint.threshold * _DEPTH if faint.flux_min is None else faint.flux_min
        spectra = draw_spectra(rng, population, name, n, draws)
        bright = spectra["flux"].to_numpy() >= faint.threshold
        share = float(bright.mean())
        few = faint.number(depth)
        number = int(rng.binomial(n, few / (few + whole * share)))
        fluxes = draw_faint_fluxes(rng, faint, depth, number)
        dim = draw_faint(rng, population, name, fluxes, draws)
        chosen = rng.choice(np.flatnonzero(bright), n - number)
        spectra = pd.concat([dim, spectra.iloc[chosen]], ignore_index=True)
        # In any order: a part of the sources must be like the whole.
        spectra = spectra.iloc[rng.permutation(n)].reset_index(drop=True)
        whole = few + whole * share
    lon, lat = draw_positions(rng, law.position, n)
    yearly = draw_yearly(rng, law.variability, n, years) if years else np.ones((n, 0))
    return whole, spectra.assign(lon_deg=lon, lat_deg=lat), yearly
