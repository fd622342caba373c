"""Joint against independent draws of spectra: which teaches a classifier of catalogued sources more.

Run ``OMP_NUM_THREADS=1 python tests/benchmarks/bench_class_draws.py --catalog gll_psc_v27.fit.gz
--out FOLDER [--sources 4000] [--epochs 12] [--trials 2]``.

Sources of every class are drawn (`sky.draws`) and measured with the errors of the catalogue, as
``geminga classify --catalog`` does it. A classifier is trained, stopped and calibrated on catalogues
of one kind, and judged on a further catalogue of joint draws: what real sources are like. It is also
judged on a catalogue of its own kind, which is what a simulation by itself would have shown. The
classes of the file are not looked at.

Figures of an equal mix of classes, answered with the flat prior; errors from regions of the sky drawn
with replacement. MLflow's store is ``mlflow.db`` in the folder, one run per row.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from class_levers import judge, mean_of, metrics, units_of
from class_material import say

from geminga.classification.catalogue_file import read_catalogue
from geminga.classification.catalogue_measurement import learn_measurement
from geminga.classification.catalogue_simulation import SimulatedCatalogue, simulate_catalogue
from geminga.classification.class_model import ClassModel
from geminga.config import digest
from geminga.errors import InputError
from geminga.evaluation.bootstrap import Bootstrapped
from geminga.evaluation.class_metrics import Classified
from geminga.evaluation.summary import slug
from geminga.files import atomic, file_digest, read_json, write_json
from geminga.pipeline.classify_catalogue import PARTS, CatalogueRequest, catalogue_config, train
from geminga.sky.populations.draws import Draws
from geminga.sky.populations.population import load_population
from geminga.tracking import Tracker

SHARES = (1.0, 0.25, 0.25, 0.5)
KINDS: tuple[Draws, ...] = ("joint", "independent")
COLUMNS = {
    "balanced_accuracy/BLL against FSRQ": "BLL / FSRQ",
    "balanced_accuracy/PSR against PWN+SNR": "PSR / PWN+SNR",
    "balanced_accuracy/AGN against galactic": "AGN / galactic",
    "macro_f1_true": "macro F1",
    "ece": "calibration error",
}
PREDICTIONS = {
    ("joint", "joint"): ".80 / .83 / .93",
    ("independent", "joint"): ".05 to .1 less, calibration error .1",
    ("independent", "independent"): "unlike the row above: shows nothing of it",
}
"""What rows (trained on, judged on) were expected to say."""


@dataclass(frozen=True)
class Settings:
    """What the figures depend on beside the catalogue."""

    population: str
    sources: int
    epochs: int
    trials: int
    seed: int
    resamples: int


def simulated(settings: Settings, catalog: Path) -> dict[str, dict[str, SimulatedCatalogue]]:
    """Return the parts of each kind of draws."""
    population = load_population(settings.population)
    measurement = learn_measurement(read_catalogue(catalog))
    result: dict[str, dict[str, SimulatedCatalogue]] = {}
    for kind in KINDS:
        result[kind] = {
            name: simulate_catalogue(
                population, tuple(population.classes), measurement,
                max(10, int(settings.sources * share)), settings.seed, number, kind,
            )
            for number, (name, share) in enumerate(zip(PARTS, SHARES, strict=True))
        }  # fmt: skip
        expected = result[kind][PARTS[0]].expected.round().astype(int).tolist()
        say(f"{kind} draws: {dict(zip(population.classes, expected, strict=True))} on the sky")
    return result


def judged(
    models: list[ClassModel], held: SimulatedCatalogue, settings: Settings, names: tuple[str, ...]
) -> Bootstrapped:
    """Return the mean figures of classifiers on a catalogue."""
    n, evidence = len(held.labels), held.evidence
    units = units_of(1, settings.resamples, settings.seed)
    trials = []
    for model in models:
        flat = model.probabilities(evidence, "flat")
        told = Classified(
            names, np.zeros(n, np.int64), held.labels, flat, flat, np.full(n, np.nan),
            evidence.lat_deg, evidence.lon_deg,
        )  # fmt: skip
        trials.append(judge(told, units))
    return mean_of(trials)


def run(catalog: Path, out: Path, settings: Settings) -> None:
    """Measure the rows that are not finished, and print the table."""
    key = digest([asdict(settings), file_digest(catalog)])
    names = tuple(load_population(settings.population).classes)
    request = CatalogueRequest(
        catalog, out, seed=settings.seed, population=settings.population,
        sources=settings.sources, members=1, epochs=settings.epochs,
    )  # fmt: skip
    base = catalogue_config(request, read_catalogue(catalog), names)
    place = {"output": str(out), "tracking_uri": None, "experiment": "geminga-class-draws"}
    config = base.model_copy(update={"run": base.run.model_copy(update=place)})
    heads = ["trained on", "judged on", "expected", *COLUMNS.values(), "s"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    (out / "results").mkdir(parents=True, exist_ok=True)
    paths = {pair: out / "results" / f"{slug('-'.join(pair))}.json" for pair in PREDICTIONS}
    done = all(p.is_file() and read_json(p)["key"] == key for p in paths.values())
    with Tracker.open(config, out) as tracker:
        if not done:
            parts = simulated(settings, catalog)
            for kind in KINDS:
                start = time.process_time()
                models = [
                    train(parts[kind], base.model_copy(update={"seed": settings.seed + t}), names)
                    for t in range(settings.trials)
                ]
                seconds = time.process_time() - start
                for pair in (p for p in PREDICTIONS if p[0] == kind):
                    figures = judged(models, parts[pair[1]][PARTS[3]], settings, names)
                    errors = {n: float(figures.error(n)) for n in COLUMNS}
                    found = {"key": key, "errors": errors, **metrics(figures, seconds)}
                    with tracker.stage(" on ".join(pair)):
                        tracker.metrics(metrics(figures, seconds))
                        tracker.tree(found, "row.json")
                    write_json(paths[pair], found)
    for pair, expected in PREDICTIONS.items():
        found = read_json(paths[pair])
        cells = [f"{found[n]:.3f} ± {found['errors'][n]:.3f}".replace("0.", ".") for n in COLUMNS]
        lines.append("| " + " | ".join([*pair, expected, *cells, f"{found['s']:.0f}"]) + " |")
    with atomic(out / "draws.md") as temporary:
        temporary.write_text("\n".join([*lines, ""]), encoding="utf-8")
    say("\n".join(lines))


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--catalog", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="results and mlflow.db")
    parser.add_argument("--population", default="4fgl_dr2")
    parser.add_argument("--sources", type=int, default=4000, help="of each class to train on")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--trials", type=int, default=2, help="trainings per row")
    parser.add_argument("--seed", type=int, default=2018)
    parser.add_argument("--resamples", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    settings = Settings(
        options.population, options.sources, options.epochs, options.trials, options.seed,
        options.resamples,
    )  # fmt: skip
    try:
        run(options.catalog, options.out, settings)
    except InputError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
