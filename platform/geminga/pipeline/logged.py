"""What the stages tell MLflow of data, models and figures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from geminga.config import digest
from geminga.distributed.simulate import sky_folder
from geminga.evaluation.summary import slug
from geminga.evaluation.yardstick_results import PART_SLUGS, Bins, Yardstick
from geminga.files import read_parquet
from geminga.pipeline import simulate
from geminga.pipeline.run_record import truth_digest
from geminga.pipeline.runner import Context
from geminga.seeds import Split
from geminga.sky.sky_files import SOURCES_FILE
from geminga.storage import here
from geminga.tracking import models
from geminga.tracking.datasets import dataset

CONTEXTS = {Split.TRAIN: "training", Split.VALID: "validation", Split.TEST: "test"}
_SKY_SECTIONS = ("bands", "classes", "response", "sky")
_FAINT_S1 = 1e-12
_BIN_PURITY = "0.9"


def run_skies(context: Context, folder: Path) -> Mapping[str, Any]:
    """Simulate every sky, and say in MLflow what they are."""
    summary = simulate.run_skies(context, folder)
    log_skies(context, folder)
    return summary


def log_skies(context: Context, folder: Path) -> None:
    """Say which skies the run is made of: the set, its seed, the digest of every truth table.

    `folder` is that of the skies.
    """
    config = context.config
    tree = config.model_dump(mode="json")
    settings = digest({name: tree[name] for name in _SKY_SECTIONS})
    rows = []
    for split, use in CONTEXTS.items():
        skies = simulate.sky_ids(config, split)
        if not skies:
            continue
        tables = {sky: read_parquet(sky_folder(folder, sky) / SOURCES_FILE) for sky in skies}
        digests = {str(sky): truth_digest(table) for sky, table in tables.items()}
        made_by: dict[str, str | int] = {
            "mlflow.source.name": "geminga simulate",
            "seed": config.seed,
            "skies": f"{skies[0]}-{skies[-1]}",
            "settings": settings,
        }
        counted = {"skies": len(skies), "sources": sum(len(table) for table in tables.values())}
        rows.append(
            dataset(
                f"{config.name} {use} skies",
                digest(digests),
                use,
                made_by,
                {**counted, "truth": digests},
            )
        )
    context.tracker.datasets(rows)


def log_network(context: Context, name: str, folder: Path) -> dict[str, str]:
    """Keep a network of the run in MLflow as a model with signature and example; return its tags.

    Parameters
    ----------
    context : Context
    name : str
        Of the model.
    folder : Path
        Checkpoint of the network.
    """
    with models.network_model(here(folder), context.config) as (target, whole):
        return _log_model(context, name, target, whole)


def log_folder(context: Context, name: str, folder: Path) -> dict[str, str]:
    """Keep a packaged model in MLflow; return its tags."""
    metadata = {"config_hash": context.config.hash(), "name": context.config.name}
    with models.folder_model(folder, metadata) as (target, whole):
        return _log_model(context, name, target, whole)


def _log_model(context: Context, name: str, target: Path, whole: str) -> dict[str, str]:
    tags = {models.DIGEST: whole, "config_hash": context.config.hash()}
    if not context.tracker.has_model(name, tags):
        context.tracker.model(name, target, tags)
    return tags


def binned_metrics(result: Yardstick) -> dict[str, dict[int, float]]:
    """Return completeness and purity by flux and latitude, with errors, of the run's own list.

    The step of a metric is the middle of its bin: hundredths of a decade above 1e-12 ph/cm2/s. So
    MLflow draws them as curves, and those of several runs over each other.
    """
    flat: dict[str, dict[int, float]] = {}
    name, search = next(iter(result.searches.items()))
    for part, figures in search.parts.items():
        point = figures.at_purity.get(_BIN_PURITY)
        if point is None:
            continue
        start = f"{slug(name)}/{PART_SLUGS.get(part, slug(part))}"
        kinds = {"completeness": point.by, "purity": point.purity_by}
        for kind, bins in kinds.items():
            if "s1" in bins:
                values, errors = _steps(bins["s1"])
                flat[f"{start}/{kind}_by_s1_at_{_BIN_PURITY}"] = values
                flat[f"{start}/{kind}_by_s1_at_{_BIN_PURITY}_error"] = errors
    return flat


def _steps(bins: Bins) -> tuple[dict[int, float], dict[int, float]]:
    middle = [
        round(100 * np.log10(np.sqrt(low * high) / _FAINT_S1))
        for low, high in zip(bins.low, bins.high, strict=True)
    ]
    values = {step: one.value for step, one in zip(middle, bins.figures, strict=True)}
    return values, {step: one.error for step, one in zip(middle, bins.figures, strict=True)}
