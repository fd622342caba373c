"""The stage that compares what was found with the truth, and the stage that reports it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from geminga.arrays import Bool
from geminga.classification.labels import label_candidates
from geminga.config import Config, data_path
from geminga.evaluation import figures
from geminga.evaluation.confusion import ConfusionCounts, count_confusion, empty_confusion
from geminga.evaluation.counts import MatchCounts, count_matches, empty_counts
from geminga.evaluation.extended import masked, matched, on_extended
from geminga.evaluation.metrics import Offsets, PixelCounts, empty_offsets, position_offsets
from geminga.evaluation.summary import RunSummary, run_summary, search_summary
from geminga.evaluation.yardstick_text import leading_table
from geminga.files import read_json, read_parquet, write_json
from geminga.matching import match
from geminga.pipeline.class_assess import (
    CLASS_RESULT,
    CLASS_TABLE,
    run_classifiers,
    write_classes,
)
from geminga.pipeline.class_model import CLASS_MODEL
from geminga.pipeline.classify import probability_file
from geminga.pipeline.evidence import is_measured
from geminga.pipeline.examples import example_patches
from geminga.pipeline.galleries import run_galleries
from geminga.pipeline.logged import binned_metrics
from geminga.pipeline.measured import (
    leading_draws,
    measure_by_interstellar,
    measure_run,
    run_lists,
)
from geminga.pipeline.real import evaluate_real_sky
from geminga.pipeline.run_record import CLASS_DRAWS, SEARCH_DRAWS
from geminga.pipeline.runner import Context
from geminga.pipeline.search import (
    RANKED,
    SEARCH_NAMES,
    candidate_file,
    extended_of,
    primary_search,
    searches_of,
    selected,
    truth_of,
)
from geminga.pipeline.simulate import test_sky_ids
from geminga.pipeline.yardstick import (
    BY_MODEL,
    MODEL_TABLE,
    RESULT,
    TABLE,
    write_by_model,
    write_yardstick,
)

_ON_EXTENDED = (
    "extended sources",
    "detections left out on extended sources",
    "point sources on extended sources",
    "point sources on extended sources found",
)
FIGURES = "figures"
SUMMARY = "summary.json"


def reference_files(config: Config) -> Sequence[Path]:
    """Return the published catalogues that are compared with."""
    if config.observed is None:
        return []
    return [data_path(config, name) for name in config.observed.reference_catalogs.values()]


def run_evaluate(context: Context, folder: Path) -> Mapping[str, Any]:
    """Measure completeness, purity, positions and classes; draw the figures."""
    ranked = primary_search(context.config) == RANKED
    for kind in ("miun", *(("ranker", CLASS_MODEL) if ranked else ()), "classifier"):
        history = read_json(context.folder(kind) / "history.json")
        save(folder, f"training_{kind}", figures.training_curves(history, f"training of {kind}"))
    tables = []
    if context.config.observed is not None:
        summary = evaluate_real_sky(context, folder)
    else:
        tables.append(_measure(context, folder))
        if is_measured(context.config):
            tables.append(_measure_classes(context, folder))
        summary = _evaluate_simulated(context, folder)
    write_json(folder / SUMMARY, summary.to_json())
    context.tracker.metrics(summary.metrics())
    context.tracker.tree(summary.to_json(), SUMMARY)
    context.tracker.artifact(folder / FIGURES)
    return {"table": "\n" + "\n\n".join([*tables, summary.table()])}


def save(folder: Path, name: str, figure: Figure) -> None:
    """Write a figure of the evaluation."""
    figures.save_figure(figure, folder / FIGURES / f"{name}.png")


def _measure(context: Context, folder: Path) -> str:
    """Measure the searches by the yardstick, draw the galleries; return the leading table."""
    lists = run_lists(context, folder)
    result = measure_run(context, lists)
    write_yardstick(result, folder)
    write_json(folder / SEARCH_DRAWS, leading_draws(context, lists).to_json())
    for name, figure in run_galleries(context, lists).items():
        save(folder, name, figure)
    context.tracker.metrics(result.metrics())
    context.tracker.bins(binned_metrics(result))
    for name in (RESULT, TABLE):
        context.tracker.artifact(folder / name)
    by_model = measure_by_interstellar(context, lists)
    if not by_model:
        return leading_table(result)
    table = write_by_model(by_model, folder)
    for name in (BY_MODEL, MODEL_TABLE):
        context.tracker.artifact(folder / name)
    return leading_table(result) + "\n\n" + table


def _measure_classes(context: Context, folder: Path) -> str:
    """Measure the classifiers, draw their figures; return the leading table."""
    classifiers = run_classifiers(context)
    result = classifiers.measure()
    write_json(folder / CLASS_DRAWS, classifiers.draws().to_json())
    table = write_classes(result, folder, folder / FIGURES)
    context.tracker.metrics(result.metrics())
    for name in (CLASS_RESULT, CLASS_TABLE):
        context.tracker.artifact(folder / name)
    return table


def _evaluate_simulated(context: Context, folder: Path) -> RunSummary:
    """Count what lies above the score cuts; draw the figures of the catalogue."""
    config = context.config
    summaries, extra = [], {}
    for search in searches_of(config):
        name = SEARCH_NAMES[search]
        counts, offsets, extended = _count(context, search)
        write_json(folder / f"extended_{search}.json", extended)
        if extended["extended sources"]:
            extra.update({f"{name}: {key}": float(value) for key, value in extended.items()})
        summaries.append(search_summary(name, counts, offsets, purities=()))
        write_json(folder / f"counts_{search}.json", counts.to_json())
    confusion = _confusion(context)
    write_json(folder / "confusion.json", confusion.to_json())
    context.tracker.tree(confusion.to_json(), "confusion.json")

    radius = config.evaluation.match_radius_deg
    save(folder, "confusion", figures.confusion_matrices(confusion))
    sky = test_sky_ids(config)[0]
    truth = truth_of(context, sky)
    everything = _candidates(context, primary_search(config), sky)
    candidates = everything[_counted(context, everything, truth, sky)].reset_index(drop=True)
    matches = match(candidates, truth, radius)
    save(folder, "sky", figures.sky_map(candidates, truth, matches, f"{config.name}: test sky"))
    labels = [band.label for band in config.channels]
    examples = example_patches(context, sky, truth, candidates)
    save(folder, "examples", figures.patch_examples(examples, labels))

    pixels = PixelCounts(**read_json(context.folder("search") / "accuracy.json"))
    count = len(test_sky_ids(config))
    return run_summary(
        f"{config.name}: {count} simulated test {'sky' if count == 1 else 'skies'}, "
        "detections above the score cut of each search",
        summaries,
        pixels.adjusted_accuracy(),
        confusion,
        extra,
    )


def _counted(context: Context, frame: pd.DataFrame, truth: pd.DataFrame, sky: int) -> Bool:
    """Return which detections are true or false: not those on extended sources alone."""
    radius = context.config.evaluation.match_radius_deg
    is_true = matched(frame, truth, radius)
    return ~masked(frame, is_true, extended_of(context, sky), radius)


def _candidates(context: Context, search: str, sky: int) -> pd.DataFrame:
    path = candidate_file(context.folder("search"), search, sky)
    return selected(context, search, read_parquet(path))


def _count(context: Context, search: str) -> tuple[MatchCounts, Offsets, dict[str, int]]:
    """Return counts, offsets and extended sources of the candidates above the cut.

    Detections on extended sources that match no point source are in no other count.
    """
    config = context.config.evaluation
    total, offsets = empty_counts(config), empty_offsets()
    extended = dict.fromkeys(_ON_EXTENDED, 0)
    for sky in test_sky_ids(context.config):
        truth = truth_of(context, sky)
        found = _candidates(context, search, sky)
        counted = _counted(context, found, truth, sky)
        frame = found[counted].reset_index(drop=True)
        matches = match(frame, truth, config.match_radius_deg)
        total += count_matches(frame, truth, matches, config)
        offsets += position_offsets(frame, truth, matches)
        areas = extended_of(context, sky)
        inside = on_extended(truth, areas, 0.0)
        partners = matches["source"][matches["candidate"] >= 0].to_numpy()
        hit = np.isin(np.arange(len(truth)), partners)
        values = len(areas), int((~counted).sum()), int(inside.sum()), int((inside & hit).sum())
        for key, value in zip(_ON_EXTENDED, values, strict=True):
            extended[key] += value
    return total, offsets, extended


def _confusion(context: Context) -> ConfusionCounts:
    config = context.config
    confusion = empty_confusion(config.classes)
    for sky in test_sky_ids(config):
        truth, found = truth_of(context, sky), _candidates(context, primary_search(config), sky)
        radius = config.evaluation.match_radius_deg
        counted = _counted(context, found, truth, sky)
        candidates = found[counted].reset_index(drop=True)
        true = label_candidates(candidates, truth, config.classes, radius)
        stored = read_json(probability_file(context.folder("catalog"), sky))
        probabilities = np.array(stored["rows"], dtype=np.float64)
        rows = probabilities.reshape(len(found), len(stored["classes"]))
        predicted = rows.argmax(axis=1)[counted]
        matches = match(candidates, truth, radius)
        missed = matches[matches["candidate"] < 0]["source"].to_numpy()
        confusion += count_confusion(
            true, predicted, config.classes, list(truth["class_name"].iloc[missed])
        )
    return confusion
