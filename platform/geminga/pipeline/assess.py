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
from geminga.files import read_json, read_parquet, write_json
from geminga.matching import match
from geminga.pipeline.examples import example_patches
from geminga.pipeline.real import evaluate_real_sky
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
    for kind in ("miun", *(("ranker",) if ranked else ()), "classifier"):
        history = read_json(context.folder(kind) / "history.json")
        save(folder, f"training_{kind}", figures.training_curves(history, f"training of {kind}"))
    if context.config.observed is not None:
        summary = evaluate_real_sky(context, folder)
    else:
        summary = _evaluate_simulated(context, folder)
    write_json(folder / SUMMARY, summary.to_json())
    context.tracker.metrics(summary.metrics())
    context.tracker.parent_metrics(summary.metrics())
    context.tracker.tree(summary.to_json(), SUMMARY)
    context.tracker.artifact(folder / FIGURES)
    return {"table": "\n" + summary.table()}


def save(folder: Path, name: str, figure: Figure) -> None:
    """Write a figure of the evaluation."""
    figures.save_figure(figure, folder / FIGURES / f"{name}.png")


def _evaluate_simulated(context: Context, folder: Path) -> RunSummary:
    config = context.config
    names = {search: SEARCH_NAMES[search] for search in searches_of(config)}
    curves: dict[str, MatchCounts] = {}
    at_cut: dict[str, MatchCounts] = {}
    offsets: dict[str, Offsets] = {}
    summaries, extra = [], {}
    for search, name in names.items():
        curves[name], at_cut[name], offsets[name], extended = _count(context, search)
        write_json(folder / f"extended_{search}.json", extended)
        if extended["extended sources"]:
            extra.update({f"{name}: {key}": float(value) for key, value in extended.items()})
        curve = (curves[name], None)
        summaries.append(search_summary(name, at_cut[name], offsets[name], curve=curve))
        write_json(folder / f"counts_{search}.json", at_cut[name].to_json())
    confusion = _confusion(context)
    write_json(folder / "confusion.json", confusion.to_json())
    context.tracker.tree(confusion.to_json(), "confusion.json")

    radius = config.evaluation.match_radius_deg
    save(folder, "completeness_s1", figures.completeness_curves(at_cut))
    save(folder, "completeness_s10", figures.completeness_curves(at_cut, "s10"))
    save(folder, "purity_completeness", figures.purity_completeness(curves))
    save(folder, "purity_score", figures.purity_by_score(curves))
    save(folder, "positions", figures.localisation_histogram(offsets, radius))
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
        f"{config.name}: {count} simulated test {'sky' if count == 1 else 'skies'}",
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


def _count(
    context: Context, search: str
) -> tuple[MatchCounts, MatchCounts, Offsets, dict[str, int]]:
    """Return counts of all candidates and of those above the cut, offsets and extended sources.

    The offsets are those of the candidates above the cut, and so is what was found on extended
    sources: detections that match no point source there are in no other count.
    """
    config = context.config.evaluation
    everything, at_cut, offsets = empty_counts(config), empty_counts(config), empty_offsets()
    extended = dict.fromkeys(_ON_EXTENDED, 0)
    for sky in test_sky_ids(context.config):
        truth = truth_of(context, sky)
        path = candidate_file(context.folder("search"), search, sky)
        for found, is_cut in (
            (read_parquet(path), False),
            (_candidates(context, search, sky), True),
        ):
            counted = _counted(context, found, truth, sky)
            frame = found[counted].reset_index(drop=True)
            matches = match(frame, truth, config.match_radius_deg)
            counts = count_matches(frame, truth, matches, config)
            if not is_cut:
                everything += counts
                continue
            at_cut += counts
            offsets += position_offsets(frame, truth, matches)
            areas = extended_of(context, sky)
            inside = on_extended(truth, areas, 0.0)
            partners = matches["source"][matches["candidate"] >= 0].to_numpy()
            hit = np.isin(np.arange(len(truth)), partners)
            values = len(areas), int((~counted).sum()), int(inside.sum()), int((inside & hit).sum())
            for key, value in zip(_ON_EXTENDED, values, strict=True):
                extended[key] += value
    return everything, at_cut, offsets, extended


def _confusion(context: Context) -> ConfusionCounts:
    config = context.config
    confusion = empty_confusion(config.classes)
    for sky in test_sky_ids(config):
        truth, found = truth_of(context, sky), _candidates(context, primary_search(config), sky)
        radius = config.evaluation.match_radius_deg
        counted = _counted(context, found, truth, sky)
        candidates = found[counted].reset_index(drop=True)
        true = label_candidates(candidates, truth, config.classes, radius)
        stored = read_json(context.folder("catalog") / f"probabilities_{sky:07d}.json")
        probabilities = np.array(stored["rows"], dtype=np.float64)
        rows = probabilities.reshape(len(found), len(stored["classes"]))
        predicted = rows.argmax(axis=1)[counted]
        matches = match(candidates, truth, radius)
        missed = matches[matches["candidate"] < 0]["source"].to_numpy()
        confusion += count_confusion(
            true, predicted, config.classes, list(truth["class_name"].iloc[missed])
        )
    return confusion
