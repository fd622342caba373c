"""The record of a finished run, gathered from its folder: what comparisons of runs are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from geminga.config import digest
from geminga.distributed.search import photon_file
from geminga.distributed.simulate import sky_folder
from geminga.errors import InputError
from geminga.evaluation.class_results import ClassResult
from geminga.evaluation.compare_draws import Draws
from geminga.evaluation.compare_record import RunRecord, TestSky
from geminga.evaluation.confusion import ConfusionCounts
from geminga.evaluation.summary import RunSummary
from geminga.evaluation.yardstick_results import Yardstick
from geminga.files import read_json, read_parquet
from geminga.pipeline.runner import STAGE_FILE
from geminga.seeds import Split, sky_id
from geminga.sky.sky_files import SOURCES_FILE
from geminga.storage import exists, here, names

RECORD = "comparison.json"
"""The record's file in the report's folder, and with the MLflow run."""

SEARCH_DRAWS = "draws_search.json"
CLASS_DRAWS = "draws_classes.json"
"""Resamples of the leading figures, left by the evaluation."""

NETWORKS = ("miun", "ranker", "class_model", "classifier")
"""Stages that train a network."""

_TRUTH = ("lon_deg", "lat_deg", "s1")
_NOT_TIMED = ("report",)


def gather_record(root: Path, config: Mapping[str, Any]) -> RunRecord:
    """Return the record of a run whose evaluation is finished.

    Parameters
    ----------
    root : Path
        The run's folder.
    config : mapping
        Its resolved settings, as plain values; of any version of the program.

    Raises
    ------
    InputError
        If a file is missing or damaged.
    """
    evaluated = root / "evaluate"
    notes = _stage_notes(root)
    last = notes.get("evaluate", {})

    def part(kind: Any, name: str) -> Any:
        path = evaluated / name
        return kind.from_json(read_json(path), str(path)) if exists(path) else None

    photons = notes.get("observe", {}).get("summary", {}).get("photons", 0)
    return RunRecord(
        str(config.get("name", root.name)),
        str(root),
        dict(config),
        # As `Config.hash`, which an older version's settings may not pass through.
        digest({key: value for key, value in config.items() if key not in ("run", "name")}),
        RunSummary.from_json(read_json(evaluated / "summary.json"), str(evaluated)),
        tuple(_test_skies(root, config)),
        int(photons),
        {name: float(note.get("seconds", 0.0)) for name, note in _slowest_first(notes)},
        {name: history for name in NETWORKS if (history := _history(root / name))},
        {key: str(last[key]) for key in ("version", "python", "machine") if key in last},
        part(Yardstick, "yardstick.json"),
        part(ClassResult, "classes.json"),
        part(ConfusionCounts, "confusion.json"),
        part(Draws, SEARCH_DRAWS),
        part(Draws, CLASS_DRAWS),
    )


def truth_digest(truth: pd.DataFrame) -> str:
    """Return the digest of the positions and fluxes of a sky's true sources, in their order."""
    columns = [np.ascontiguousarray(truth[name].to_numpy(np.float64)) for name in _TRUTH]
    # Not of the classes: runs that name them otherwise are on the same sky.
    return hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()[:16]


def _stage_notes(root: Path) -> dict[str, Mapping[str, Any]]:
    notes = {}
    for name in names(root):
        path = root / name / STAGE_FILE
        if not name.startswith(".") and exists(path):
            notes[name] = read_json(path)
    return notes


def _slowest_first(
    notes: Mapping[str, Mapping[str, Any]],
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    timed = [(name, note) for name, note in notes.items() if name not in _NOT_TIMED]
    return sorted(timed, key=lambda item: -float(item[1].get("seconds", 0.0)))


def _history(folder: Path) -> list[dict[str, float]]:
    path = folder / "history.json"
    return list(read_json(path)) if exists(path) else []


def _test_skies(root: Path, config: Mapping[str, Any]) -> Iterable[TestSky]:
    if config.get("observed"):
        given = config["observed"]
        files = given.get("events") or given.get("counts") or []
        shown = ", ".join(map(str, files.keys() if isinstance(files, Mapping) else files))
        photons = photon_file(root / "observe", sky_id(Split.TEST, 0))
        yield TestSky(shown, 0, "", _digest(photons))
        return
    for number in range(int(config.get("sets", {}).get("test", 0))):
        sky = sky_id(Split.TEST, number)
        path = sky_folder(root / "skies", sky) / SOURCES_FILE
        photons = photon_file(root / "observe", sky)
        if not exists(path):
            yield TestSky(str(sky), 0, "", _digest(photons))
            continue
        truth = read_parquet(path)
        try:
            yield TestSky(str(sky), len(truth), truth_digest(truth), _digest(photons))
        except KeyError as error:
            raise InputError(str(path), f"has no column {error}", "simulate it anew") from error


def photon_digest(path: Path) -> str:
    """Return the digest of the photons in a file: of its columns, whatever their encoding.

    Raises
    ------
    InputError
        If it is no Parquet file.
    """
    sums: dict[str, Any] = {}
    try:
        with pq.ParquetFile(here(path)) as stored:
            for batch in stored.iter_batches():
                for name in sorted(batch.schema.names):
                    values = np.ascontiguousarray(batch[name].to_numpy(zero_copy_only=False))
                    sums.setdefault(name, hashlib.sha256()).update(values.tobytes())
    except (OSError, ValueError) as error:
        line = str(error).splitlines()[0]
        raise InputError(
            str(path), f"is not a readable Parquet file ({line})", "observe the sky anew"
        ) from error
    names = ",".join(f"{name}:{one.hexdigest()}" for name, one in sorted(sums.items()))
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def _digest(path: Path) -> str:
    return photon_digest(path) if exists(path) else ""
