"""What a catalogue of the real sky above 50 GeV finds, against 2FHL, 3FHL and 4FGL-DR2.

Run ``geminga detect --events EVENTS --exposure CUBE --out DIR``, then ``python
tests/benchmarks/real_above_50gev.py DIR/catalog.fits`` with ``GEMINGA_DATA`` set. Catalogues, match
radius and rules are those of ``make real`` (jobs/configs/real_2fhl.yaml): completeness is against 2FHL,
a detection is pure if any of the three has a source within 0.3 deg, one to one, and detections on
extended sources that match no point source are left out. Nothing is chosen here.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from geminga.config import data_path, load_config
from geminga.errors import InputError
from geminga.evaluation.lists import read_detections
from geminga.evaluation.metrics import position_offsets
from geminga.evaluation.real import evaluate_real, off_extended, point_sources
from geminga.evaluation.reference import read_reference_catalog
from geminga.matching import match
from geminga.sky.emission.extended import extended_areas

CONFIG = Path(__file__).parents[2] / "jobs/configs/real_2fhl.yaml"


def run(catalog: Path) -> None:
    """Print the figures of a catalogue."""
    config = load_config(CONFIG)
    observed = config.observed
    assert observed is not None
    assert observed.truth_catalog is not None
    found = read_detections(catalog)
    files = {name: data_path(config, p) for name, p in observed.reference_catalogs.items()}
    references = {name: read_reference_catalog(path, name) for name, path in files.items()}
    areas = [extended_areas(path) for path in files.values()]
    extended = pd.concat(areas, ignore_index=True)
    radius = config.evaluation.match_radius_deg
    result = evaluate_real(found, references, observed.truth_catalog, radius, extended)
    counted = off_extended(found, references, extended, radius)
    print(
        f"{len(found)} detections, {len(found) - len(counted)} of them on extended sources and left out"
    )
    for part, rates in (
        ("completeness", result.completeness), ("purity", result.purity),
        ("confirmed by", result.by_catalog), ("by chance", result.chance),
    ):  # fmt: skip
        for name, rate in rates.items():
            print(f"{part}, {name}: {rate.value:.3f} ± {rate.error:.3f} of {rate.n}")
    points = point_sources(references)[observed.truth_catalog]
    truth = points.assign(s1=points["flux"], s10=points["flux"])
    offsets = position_offsets(counted, truth, match(counted, truth, radius))
    distance = np.median(np.hypot(offsets.east_deg, offsets.north_deg))
    print(f"median distance from {observed.truth_catalog}: {distance:.4f} deg")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("catalog", type=Path)
    try:
        run(parser.parse_args().catalog)
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
