"""Classes of the sources of somebody else's catalogue: ``geminga classify --catalog``.

A classifier is trained on a simulated catalogue that was measured as the given one, with its bands,
years and errors; the classes that the file itself gives are looked at afterwards, as a test.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd

import geminga
from geminga.arrays import Float64
from geminga.catalogue.build import probability_column
from geminga.classification.calibration import Prior
from geminga.classification.catalogue_file import FILE_CLASSES, CatalogueFile, read_catalogue
from geminga.classification.catalogue_measurement import Measurement, learn_measurement
from geminga.classification.catalogue_simulation import SimulatedCatalogue, simulate_catalogue
from geminga.classification.class_model import ClassModel, fit_class_model
from geminga.config import Config, config_from_tree
from geminga.errors import InputError
from geminga.evaluation.style import save_figure
from geminga.files import atomic, file_digest, write_json
from geminga.pipeline.catalogue_report import Assessment, assess, figures_of, report_text
from geminga.pipeline.catalogue_table import UNMEASURED, row_flags, write_classes
from geminga.progress import progress
from geminga.sky.populations.law import Population
from geminga.sky.populations.population import load_population

_LOG = logging.getLogger(__name__)

CLASSES_FILE, REPORT_FILE, FIGURES_FILE = "classes.fits", "report.md", "figures.json"
PROVENANCE_FILE, MODEL_FOLDER = "provenance.json", "model"
PARTS = ("training", "validation", "calibration", "test")
_SHARES = (1.0, 0.25, 0.25, 0.5)
_LEAST_SOURCES = 40


@dataclass(frozen=True)
class CatalogueRequest:
    """What a user asks for.

    Attributes
    ----------
    catalog : Path
        FITS file.
    out : Path
        Folder of the results.
    prior : str
        Mix of classes that the probabilities refer to: ``natural``, that of the simulated
        catalogue; ``latitude``, the same by |b|; ``flat``.
    seed : int
        Root seed.
    population : str
        Shipped population or a file of one; its classes are those told apart.
    sources : int
        Simulated sources of each class to train on.
    members, epochs : int
        Networks that are averaged, and the most passes of their training.
    """

    catalog: Path
    out: Path
    prior: Prior = "natural"
    seed: int = 2018
    population: str = "4fgl_dr2"
    sources: int = 12000
    members: int = 3
    epochs: int = 20


def classify_catalogue(request: CatalogueRequest) -> pd.DataFrame:
    """Classify the sources of a catalogue; write classes, classifier, report and figures.

    Returns
    -------
    DataFrame
        What ``classes.fits`` holds, in the order of the file's rows.

    Raises
    ------
    InputError
        If the catalogue cannot be used, or the results cannot be written; nothing is written then.
    """
    if request.out.exists() and not request.out.is_dir():
        raise InputError("--out", f"{request.out} is a file", "name a folder")
    if request.sources < _LEAST_SOURCES:
        raise InputError(
            "--sources", f"{request.sources} of each class are too few", f"give {_LEAST_SOURCES}"
        )
    catalogue = read_catalogue(request.catalog)
    population = load_population(request.population)
    classes = tuple(population.classes)
    config = catalogue_config(request, catalogue, classes)
    measurement = learn_measurement(catalogue)
    _LOG.info(
        "%s: %d sources, %d of them with measured fluxes, %d bands, %d years",
        catalogue.path.name, len(catalogue), int(catalogue.usable.sum()),
        len(catalogue.edges_gev), measurement.year_error.shape[1],
    )  # fmt: skip
    parts = simulate_parts(request, population, classes, measurement)
    model = train(parts, config, classes)
    table, flat = classified(catalogue, model, request.prior, classes)
    held = parts["test"]
    result = assess(
        catalogue,
        table,
        flat,
        model.probabilities(held.evidence, "flat"),
        held,
        classes,
        request.seed,
    )
    _write(request, config, catalogue, model, table, result, parts)
    _LOG.info("%d sources classified in %s", int(catalogue.usable.sum()), request.out)
    return table


def catalogue_config(
    request: CatalogueRequest, catalogue: CatalogueFile, classes: Sequence[str]
) -> Config:
    """Return settings of the networks; bands and years are the catalogue's."""
    # Maps and patches are not made; bands of several event types are one band of the table.
    edges = np.unique(catalogue.edges_gev, axis=0)
    bands = [
        {
            "emin_gev": float(f"{low:.7g}"),
            "emax_gev": float(f"{high:.7g}"),
            "nside": 64,
            "pixels": 32,
        }
        for low, high in edges
    ]
    tree: dict[str, Any] = {
        "name": "catalogue",
        "seed": request.seed,
        "bands": bands,
        "classes": list(classes),
        "classifier": {"rotated_classes": []},
        "images": {"box_deg": [1.0] * len(bands)},
        "evidence_net": {
            "branches": ["spectrum", "years"],
            # A catalogue's rows have spectrum and light curve nearly all: less is to be learnt of
            # what to do without. Only tried together with more sources, not by itself.
            "branch_dropout": 0.05,
            "members": request.members,
            "prior": request.prior,
        },
        "evidence_net_training": {
            **Config.model_fields["evidence_net_training"].default.model_dump(),
            "epochs": request.epochs,
            "augment": False,
        },
    }
    return config_from_tree(tree, str(request.catalog))


def simulate_parts(
    request: CatalogueRequest,
    population: Population,
    classes: Sequence[str],
    measurement: Measurement,
) -> dict[str, SimulatedCatalogue]:
    """Return simulated catalogues to train on, stop by, calibrate with and test on."""
    work = list(enumerate(PARTS))
    return {
        name: simulate_catalogue(
            population, classes, measurement, max(10, int(request.sources * _SHARES[k])),
            request.seed, k,
        )
        for k, name in progress(work, len(work), "simulated catalogues", "part")
    }  # fmt: skip


def train(
    parts: dict[str, SimulatedCatalogue], config: Config, classes: Sequence[str]
) -> ClassModel:
    """Train and calibrate a classifier on simulated catalogues alone."""
    shown, held, calibrate = (parts[name] for name in PARTS[:3])
    # As many of each class as a catalogue of the whole sky has of it tell the natural mix.
    mix = shown.expected / shown.expected.max()
    rank = np.arange(len(shown.labels)) % (len(shown.labels) // len(classes))
    natural = rank < np.maximum(1, np.round(mix * (rank.max() + 1)))[shown.labels]
    return fit_class_model(
        shown.evidence, shown.labels, held.evidence, held.labels, calibrate.evidence,
        calibrate.labels, natural, config, classes,
    )  # fmt: skip


def classified(
    catalogue: CatalogueFile, model: ClassModel, prior: Prior, classes: Sequence[str]
) -> tuple[pd.DataFrame, Float64]:
    """Return the table of results, and the probabilities (n, K) for an equal mix of classes.

    A row that has no position or no measured band has the flag for it, no class and no
    probabilities.
    """
    evidence, rows = catalogue.evidence(), np.flatnonzero(catalogue.usable)
    n, k = len(catalogue), len(classes)
    chosen, flat = np.full((n, k), np.nan), np.full((n, k), np.nan)
    unlike, ambiguous = np.full(n, np.nan), np.zeros(n, np.bool_)
    chosen[rows] = model.probabilities(evidence, prior)
    flat[rows] = model.probabilities(evidence, "flat")
    unlike[rows] = model.unlike(evidence)
    ambiguous[rows] = model.ambiguous(chosen[rows])
    label = np.full(n, "", dtype=object)
    label[rows] = np.array(classes, dtype=object)[chosen[rows].argmax(axis=1)]
    flags = row_flags(catalogue)
    skipped = int(((flags & UNMEASURED) > 0).sum())
    if skipped:
        _LOG.warning("%d rows without measured fluxes or position are not classified", skipped)
    empty = ("",) * n
    table = pd.DataFrame(
        {
            "Source_Name": catalogue.names,
            **{
                t: catalogue.texts.get(t, empty)
                for t in ("ASSOC1", "CLASS1")
                if t in catalogue.texts
            },
            "GLON": catalogue.lon_deg,
            "GLAT": catalogue.lat_deg,
            "CLASS": label,
            **{probability_column(name): chosen[:, c] for c, name in enumerate(classes)},
            "AMBIGUOUS": ambiguous,
            "UNLIKE": unlike,
            "N_BANDS": catalogue.bands.measured.sum(axis=1),
            "N_YEARS": catalogue.years.measured.sum(axis=1),
            "FLAGS": flags,
        }
    )
    return table, flat


def _write(
    request: CatalogueRequest,
    config: Config,
    catalogue: CatalogueFile,
    model: ClassModel,
    table: pd.DataFrame,
    result: Assessment,
    parts: dict[str, SimulatedCatalogue],
) -> None:
    """Write everything under a temporary name and move it in place when it is complete."""
    out = request.out
    pictures = figures_of(result)
    provenance = {
        "geminga": geminga.__version__,
        "catalogue": {"file": request.catalog.name, "sha256": file_digest(request.catalog)},
        "population": request.population,
        "classes": {"of": list(config.classes), "file's, tested with": dict(FILE_CLASSES)},
        "seed": request.seed,
        "prior": request.prior,
        "config_hash": config.hash(),
        "simulated": {name: len(part.labels) for name, part in parts.items()},
        "natural_mix": dict(zip(config.classes, model.calibration.natural.tolist(), strict=True)),
        "temperature": model.calibration.temperature,
    }
    target = out / f".{uuid4().hex[:8]}" if out.is_dir() else out
    with atomic(target) as folder:
        folder.mkdir()
        header: dict[str, str | int] = {
            "CATALOG": request.catalog.name,
            "PRIOR": request.prior,
            "SEED": request.seed,
        }
        write_classes(folder / CLASSES_FILE, table, header)
        model.save(folder / MODEL_FOLDER, config)
        for name, picture in pictures.items():
            save_figure(picture, folder / f"{name}.png")
        (folder / REPORT_FILE).write_text(report_text(result, list(pictures)), encoding="utf-8")
        write_json(folder / FIGURES_FILE, result.to_json())
        write_json(folder / PROVENANCE_FILE, provenance)
    if target != out:
        shutil.rmtree(out / MODEL_FOLDER, ignore_errors=True)
        for made in target.iterdir():
            made.replace(out / made.name)
        target.rmdir()
