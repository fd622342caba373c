from __future__ import annotations

import numpy as np

from geminga.sky.populations.draws import draw_spectra
from geminga.sky.populations.population import load_population
from geminga.sky.spectra import energy_flux


def test_no_source_outshines_the_catalogues_brightest() -> None:
    population = load_population("4fgl_dr2")
    for name, law in population.classes.items():
        # Without the bound one in a thousand would be brighter, some a thousand times.
        drawn = draw_spectra(np.random.default_rng(3), population, name, 20_000)
        assert law.max_energy_flux is not None
        assert energy_flux(drawn, 1e2, 1e5).max() <= 1.001 * law.max_energy_flux
        assert drawn["flux"].max() <= 1.001 * 10.0 ** law.variables["log_flux"][-1]
