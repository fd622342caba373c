"""Make the shipped populations anew: scripts/make_populations.py FOLDER_OF_CATALOGUES."""

from __future__ import annotations

import sys
from pathlib import Path

from geminga.sky.populations.fit import fit_population
from geminga.sky.populations.population import save_population

SHIPPED = {"4fgl_dr2": "gll_psc_v27.fit.gz", "2fhl": "gll_psch_v09.fit.gz"}


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("usage: scripts/make_populations.py FOLDER_OF_CATALOGUES")
    folder = Path(sys.argv[1])
    target = Path(__file__).parents[1] / "platform" / "geminga" / "sky" / "populations"
    for name, catalogue in SHIPPED.items():
        population = fit_population(folder / catalogue).model_copy(update={"name": name})
        save_population(population, target / f"{name}.json")


if __name__ == "__main__":
    main()
