"""Figures of several runs laid over each other: each run is drawn as the others draw a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from geminga.arrays import Float64
from geminga.evaluation import class_figures, yardstick_figures
from geminga.evaluation.class_results import ClassFigures, ClassResult
from geminga.evaluation.class_text import shown_comparisons
from geminga.evaluation.compare_record import RunRecord
from geminga.evaluation.compare_text import printable
from geminga.evaluation.style import COLOURS, GREY, new_figure, tidy
from geminga.evaluation.yardstick_results import Yardstick

_LINES = ("-", "--", "-.", ":")

CAPTIONS = {
    "completeness_s1": "Completeness at purity 0.90 against true photon flux, each part of the sky "
    "at its own cut.",
    "completeness_ts": "The same against the test statistic expected with the true background.",
    "purity_completeness": "Purity and completeness as the score cut falls.",
    "score": "Purity of the detections at or above a score (lines) and in bins of it (points). "
    "Scores of different kinds share no scale.",
    "reliability": "Share of real detections against the probability claimed for them.",
    "positions": "Distance of detections from their sources against flux (median; the band is that "
    "of the first run), and mean offset.",
    "class_accuracy_flux": "Pairs of classes told apart against flux.",
    "class_reliability": "Share of detections that are of a class against the probability claimed.",
    "fake_recognised": "False detections recognised against true sources kept.",
    "training": "Loss of every network by epoch: validation drawn full, training pale.",
}
"""Figures of the page in order, with their captions."""


def comparison_figures(records: Sequence[RunRecord], labels: Sequence[str]) -> dict[str, Figure]:
    """Return the figures by name; only those that at least one run has something for."""
    figures: dict[str, Figure] = {}
    labels = [drawable(label) for label in labels]
    searches = overlaid_searches(records, labels)
    if searches is not None:
        for column in ("s1", "ts"):
            figures[f"completeness_{column}"] = yardstick_figures.completeness_figure(
                searches, column
            )
        figures["purity_completeness"] = yardstick_figures.purity_completeness_figure(searches)
        figures["score"] = score_figure(searches)
        figures["reliability"] = yardstick_figures.reliability_figure(searches)
        figures["positions"] = yardstick_figures.position_figure(searches)
    classes = overlaid_classes(records, labels)
    if classes is not None:
        if shown_comparisons(classes):
            figures["class_accuracy_flux"] = class_figures.accuracy_figure(classes)
        figures["class_reliability"] = class_figures.reliability_figure(classes)
        if any(one.fake_kept for one in classes.classifiers.values()):
            figures["fake_recognised"] = class_figures.fake_figure(classes)
    if any(record.histories for record in records):
        figures["training"] = training_figure(records, labels)
    return figures


def drawable(label: str) -> str:
    """Return a label as matplotlib shows it as it is: neither as a formula, nor left out."""
    return (" " if label.startswith("_") else "") + printable(label).replace("$", r"\$")


def overlaid_searches(records: Sequence[RunRecord], labels: Sequence[str]) -> Yardstick | None:
    """Return the runs' own lists as the searches of one result; None if no run has one."""
    found = {
        label: record.search
        for label, record in zip(labels, records, strict=True)
        if record.search is not None
    }
    first = next((r.yardstick for r in records if r.yardstick is not None), None)
    if first is None:
        return None
    parts = set.intersection(*({*one.parts} for one in found.values()))
    if not parts:
        return None
    return Yardstick(
        "", first.matching, first.errors, first.match_radius_deg, first.skies, None, found
    )


def overlaid_classes(records: Sequence[RunRecord], labels: Sequence[str]) -> ClassResult | None:
    """Return the classifiers of the runs that have the first one's classes; None without any."""
    found: dict[str, ClassFigures] = {}
    first: ClassResult | None = None
    for label, record in zip(labels, records, strict=True):
        classifier = record.classifier
        if classifier is None or record.classes is None:
            continue
        if first is None:
            first = record.classes
        if classifier.classes == next(iter(first.classifiers.values())).classes:
            found[label] = classifier
    if first is None:
        return None
    return ClassResult("", first.errors, first.skies, first.comparisons, first.goals, found, {})


def confusion_figures(
    records: Sequence[RunRecord], labels: Sequence[str]
) -> list[tuple[str, Figure | None, str]]:
    """Return the label of each run, the confusion of its classifier or None, and why there is none."""
    return [
        (label, None, record.no_classifier)
        if record.classifier is None
        else (label, class_figures.confusion_figure(record.classifier), "")
        for label, record in zip(labels, records, strict=True)
    ]


def score_figure(searches: Yardstick) -> Figure:
    """Draw purity at or above each score, and in bins of it, of every run in one panel."""
    figure = new_figure(7.0, 4.4)
    axes: Any = figure.subplots()
    drawn: list[Float64] = []
    for number, (label, search) in enumerate(searches.searches.items()):
        colour = COLOURS[number % len(COLOURS)]
        part = next(iter(search.parts.values()))
        cut, purity = np.array(part.curve.cut), np.array(part.curve.purity)
        error = np.nan_to_num(part.curve.purity_error)
        axes.plot(cut, purity, color=colour, linewidth=1.5, label=label)
        axes.fill_between(cut, purity - error, purity + error, color=colour, alpha=0.15, lw=0)
        bins = part.purity_by_score
        middle = (np.array(bins.low) + np.array(bins.high)) / 2.0
        axes.errorbar(
            middle, [f.value for f in bins.figures],
            np.nan_to_num([f.error for f in bins.figures]), fmt="o", color=colour, markersize=3.5,
            linewidth=1.0,
        )  # fmt: skip
        drawn += [cut, middle]
    scores = np.concatenate(drawn) if drawn else np.zeros(0)
    # Probabilities have a scale of their own; a test statistic spans decades.
    if len(scores) and scores.min() > 0 and scores.max() > max(1.0, 30.0 * scores.min()):
        axes.set_xscale("log")
    for level in (0.8, 0.9, 0.95):
        axes.axhline(level, color=GREY, linewidth=0.6, linestyle=":")
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("score of the run's own list")
    axes.set_ylabel("purity")
    tidy(axes)
    axes.legend(fontsize=8, frameon=False)
    return figure


def training_figure(records: Sequence[RunRecord], labels: Sequence[str]) -> Figure:
    """Draw the losses of every network by epoch, a panel for each network."""
    networks = list(dict.fromkeys(name for record in records for name in record.histories))
    figure = new_figure(3.4 * len(networks) + 0.4, 3.4)
    panels = figure.subplots(1, len(networks), squeeze=False)[0]
    entries: dict[str, Any] = {}
    for axes, network in zip(panels, networks, strict=True):
        for number, (label, record) in enumerate(zip(labels, records, strict=True)):
            history = record.histories.get(network, [])
            epochs = [row.get("epoch", k + 1.0) for k, row in enumerate(history)]
            colour, line = COLOURS[number % len(COLOURS)], _LINES[number % len(_LINES)]
            for name, alpha in (("train_loss", 0.35), ("valid_loss", 1.0)):
                losses = [row.get(name, np.nan) for row in history]
                (drawn,) = axes.plot(
                    epochs, losses, color=colour, linestyle=line, alpha=alpha, linewidth=1.4
                )
            if history:
                entries.setdefault(label, drawn)
        axes.set_title(network, fontsize=10)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.tick_params(labelsize=8)
        tidy(axes)
    panels[0].set_ylabel("loss")
    figure.legend(
        list(entries.values()), list(entries), loc="outside lower center", fontsize=8,
        ncols=min(len(entries), 4) or 1, frameon=False,
    )  # fmt: skip
    return figure
