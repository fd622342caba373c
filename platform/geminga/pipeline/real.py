"""Evaluation of the real sky against published catalogues."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from geminga.arrays import Bool
from geminga.config import data_path
from geminga.errors import InputError
from geminga.evaluation import figures
from geminga.evaluation.counts import MatchCounts, count_matches
from geminga.evaluation.metrics import position_offsets
from geminga.evaluation.real import (
    RealSky,
    confirmed,
    evaluate_real,
    off_extended,
    point_sources,
)
from geminga.evaluation.reference import read_reference_catalog
from geminga.evaluation.summary import RunSummary, run_summary, search_summary
from geminga.files import read_parquet, write_json
from geminga.matching import match
from geminga.pipeline.examples import example_patches
from geminga.pipeline.runner import Context
from geminga.pipeline.search import (
    SEARCH_NAMES,
    candidate_file,
    primary_search,
    searches_of,
    selected,
)
from geminga.pipeline.simulate import test_sky_ids
from geminga.sky.emission.extended import extended_areas


def evaluate_real_sky(context: Context, folder: Path) -> RunSummary:
    """Compare the detections of the real sky with the reference catalogues; draw the figures.

    Extended sources of the catalogues are no points to be found, and detections on them that match
    no point source are neither true nor false.

    Raises
    ------
    InputError
        If no catalogue is configured, or one cannot be read.
    """
    config = context.config
    observed = config.observed
    if observed is None or observed.truth_catalog is None:
        raise InputError(
            "observed.truth_catalog", "is not set", "name one of observed.reference_catalogs"
        )
    catalogs = {
        name: read_reference_catalog(data_path(config, path), name)
        for name, path in observed.reference_catalogs.items()
    }
    radius = config.evaluation.match_radius_deg
    # Completeness is a matter of the flux in the truth catalogue's own band.
    points = point_sources(catalogs)
    flux = points[observed.truth_catalog]["flux"]
    truth = points[observed.truth_catalog].assign(s1=flux, s10=flux)
    extended = pd.concat(
        [extended_areas(data_path(config, p)) for p in observed.reference_catalogs.values()],
        ignore_index=True,
    )
    (sky,) = test_sky_ids(config)
    summaries, extra = [], {}
    curves: dict[str, MatchCounts] = {}
    at_cut: dict[str, MatchCounts] = {}
    purities: dict[str, MatchCounts] = {}
    for search in searches_of(config):
        name = SEARCH_NAMES[search]
        found = read_parquet(candidate_file(context.folder("search"), search, sky))
        detections = selected(context, search, found)
        everything, chosen = (
            off_extended(frame, catalogs, extended, radius) for frame in (found, detections)
        )
        counts = at_cut[name] = _against_truth(chosen, truth, context)
        sure = confirmed(chosen, points, radius)
        offsets = position_offsets(chosen, truth, match(chosen, truth, radius))
        curves[name] = _against_truth(everything, truth, context)
        purities[name] = _against_any(everything, confirmed(everything, points, radius), context)
        wide = _against_any(chosen, sure, context)
        curve = (curves[name], purities[name])
        summaries.append(search_summary(name, counts, offsets, wide, curve=curve))
        result = evaluate_real(detections, catalogs, observed.truth_catalog, radius, extended)
        write_json(folder / f"real_{search}.json", result.tree())
        extra.update(_named(name, result, observed.truth_catalog))
        extra[f"{name}: detections left out on extended sources"] = len(detections) - len(chosen)
        if search == primary_search(config):
            _draw(context, folder, chosen, sure, catalogs, truth)
    draw = figures.save_figure
    label = f"photon flux in {observed.truth_catalog} (cm$^{{-2}}$ s$^{{-1}}$)"
    place = folder / "figures"
    draw(figures.completeness_curves(at_cut, "s1", label), place / "completeness.png")
    draw(
        figures.purity_completeness(curves, purity_counts=purities),
        place / "purity_completeness.png",
    )
    return run_summary(f"{config.name}: real photons", summaries, extra=extra)


def _against_truth(frame: pd.DataFrame, truth: pd.DataFrame, context: Context) -> MatchCounts:
    evaluation = context.config.evaluation
    return count_matches(frame, truth, match(frame, truth, evaluation.match_radius_deg), evaluation)


def _against_any(frame: pd.DataFrame, sure: Bool, context: Context) -> MatchCounts:
    """Count detections as true where some catalogue confirms them, each as its own source."""
    own = frame[sure].reset_index(drop=True).assign(s1=1.0, s10=1.0)
    return count_matches(frame, own, match(frame, own, 1e-6), context.config.evaluation)


def _named(name: str, result: RealSky, truth_name: str) -> dict[str, float]:
    texts = {
        "all": "all",
        "point": "point sources",
        "high_latitude": "point sources at |b| > 10 deg",
    }
    figures_of = {
        f"{name}: completeness, {truth_name}, {texts[key]}": rate.value
        for key, rate in result.completeness.items()
    }
    figures_of[f"{name}: purity"] = result.purity["all"].value
    figures_of[f"{name}: purity at |b| > 10 deg"] = result.purity["high_latitude"].value
    figures_of[f"{name}: purity by chance"] = result.chance["all"].value
    figures_of[f"{name}: purity by chance at |b| > 10 deg"] = result.chance["high_latitude"].value
    return figures_of


def _draw(
    context: Context,
    folder: Path,
    chosen: pd.DataFrame,
    sure: Bool,
    catalogs: dict[str, pd.DataFrame],
    truth: pd.DataFrame,
) -> None:
    config = context.config
    (sky,) = test_sky_ids(config)
    place = folder / "figures"
    matches = match(chosen, truth, config.evaluation.match_radius_deg)
    figures.save_figure(
        figures.sky_map(chosen, truth, matches, f"{config.name}: real sky"), place / "sky.png"
    )
    figures.save_figure(
        figures.reference_map(chosen, sure, catalogs, f"{config.name}: catalogues"),
        place / "references.png",
    )
    examples = example_patches(context, sky, truth, chosen)
    figures.save_figure(
        figures.patch_examples(examples, [band.label for band in config.channels]),
        place / "examples.png",
    )
