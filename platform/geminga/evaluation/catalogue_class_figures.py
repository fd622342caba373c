"""Figures of a classified catalogue: what tells the classes apart, and what the unknown may be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from geminga.arrays import Bool, Float64
from geminga.evaluation.catalogue_classes import (
    ContrastFigures,
    Groups,
    Reliability,
    group_score,
    roc_curve,
)
from geminga.evaluation.style import (
    COLOURS,
    GREY,
    MARKERS,
    empty_note,
    new_figure,
    sky_axes,
    sky_xy,
    tidy,
)

_CONFIDENT = 0.9


def roc_figure(
    groups: Sequence[Groups],
    classes: Sequence[str],
    flat: Float64,
    truth: Sequence[str],
    measured: Mapping[str, ContrastFigures],
) -> Figure:
    """Draw the share of each first group kept against that of the second, by all cuts.

    Parameters
    ----------
    groups : sequence of Groups
        Contrasts, one panel each.
    flat : Float64 (n, K)
        Probabilities for an equal mix.
    truth : sequence of str
        Classes of the catalogue.
    measured : mapping of str to ContrastFigures
        By title; others are left out.
    """
    shown = [g for g in groups if g[0] in measured]
    figure = new_figure(4.4 * max(len(shown), 1), 4.3)
    panels = np.atleast_1d(figure.subplots(1, max(len(shown), 1)))
    if not shown:
        empty_note(panels[0], "no source of known class")
    names = np.asarray(truth, dtype=object)
    for axes, group in zip(panels, shown, strict=False):
        chosen = np.isin(names, [*group[1], *group[2]])
        score = group_score(flat[chosen], classes, group)
        false, true = roc_curve(score, np.isin(names[chosen], group[1]))
        figures = measured[group[0]]
        axes.plot(false, true, color=COLOURS[0], linewidth=1.6)
        axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        # The cut of equal probability.
        axes.plot(
            np.mean(score[np.isin(names[chosen], group[2])] > 0.5),
            np.mean(score[np.isin(names[chosen], group[1])] > 0.5),
            MARKERS[0], color=COLOURS[1], markersize=6, label="equal probability",
        )  # fmt: skip
        axes.set_title(group[0], fontsize=10)
        axes.text(
            0.97, 0.06,
            f"area {figures.auc.value:.3f} ± {figures.auc.error:.3f}\n"
            f"balanced accuracy {figures.balanced_accuracy.value:.3f} ± "
            f"{figures.balanced_accuracy.error:.3f}\n{figures.positive} and {figures.negative} sources",
            ha="right", va="bottom", fontsize=8.5, transform=axes.transAxes,
        )  # fmt: skip
        axes.set_xlabel(f"share of {' and '.join(group[2])} taken for the other")
        axes.set_ylabel(f"share of {' and '.join(group[1])} kept")
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.01, 1.01)
        axes.legend(loc="center right", fontsize=8, frameon=False)
        tidy(axes)
    return figure


def score_histogram(scores: Mapping[str, Float64], label: str, title: str) -> Figure:
    """Draw how scores from 0 to 1 of several sets of sources are distributed, each to area 1."""
    figure = new_figure(6.4, 4.0)
    axes: Any = figure.subplots()
    edges = np.linspace(0.0, 1.0, 21)
    drawn = 0
    for number, (name, score) in enumerate(scores.items()):
        if not len(score):
            continue
        share = np.histogram(score, edges)[0] / len(score)
        axes.stairs(
            share, edges, color=COLOURS[number % 6], linewidth=1.7, fill=number == 0,
            alpha=0.45 if number == 0 else 1.0, label=f"{name} ({len(score)})",
        )  # fmt: skip
        drawn += 1
    if drawn:
        axes.legend(fontsize=8.5, frameon=False, loc="upper center")
    else:
        empty_note(axes, "no source")
    axes.set_xlim(0, 1)
    axes.set_xlabel(label)
    axes.set_ylabel("share of the sources")
    axes.set_title(title, fontsize=10)
    tidy(axes)
    return figure


def class_sky(
    lon_deg: Float64,
    lat_deg: Float64,
    labels: Sequence[str],
    probability: Float64,
    classes: Sequence[str],
    doubtful: Bool,
    title: str,
) -> Figure:
    """Draw where sources of each predicted class are; sure ones filled, doubtful ones grey.

    Parameters
    ----------
    probability : Float64 (n,)
        Of the predicted class; from 0.9 it counts as sure.
    doubtful : Bool (n,)
        Sources unlike every class.
    """
    figure = new_figure(9.5, 5.6)
    axes = sky_axes(figure)
    x, y = sky_xy(lon_deg, lat_deg)
    names = np.asarray(labels, dtype=object)
    for number, name in enumerate(classes):
        mine = (names == name) & ~doubtful
        sure = mine & (probability >= _CONFIDENT)
        colour = COLOURS[number % 6]
        axes.scatter(
            x[mine & ~sure], y[mine & ~sure], s=9, marker=MARKERS[number % 6], facecolors="none",
            edgecolors=colour, linewidths=0.6, alpha=0.7,
        )  # fmt: skip
        axes.scatter(
            x[sure], y[sure], s=14, marker=MARKERS[number % 6], color=colour,
            label=f"{name}: {mine.sum()}, {sure.sum()} of them with P ≥ {_CONFIDENT:g}",
        )  # fmt: skip
    axes.scatter(
        x[doubtful], y[doubtful], s=16, marker="x", color="black", linewidths=0.8,
        label=f"unlike every class: {doubtful.sum()}",
    )  # fmt: skip
    axes.set_title(title, fontsize=10, pad=14)
    figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure


def reliability_figure(found: Mapping[str, Reliability]) -> Figure:
    """Draw how often the most probable class is right against its probability."""
    figure = new_figure(5.2, 4.8)
    axes: Any = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    for number, (name, result) in enumerate(found.items()):
        share, n = np.array(result.right), np.array(result.n)
        axes.errorbar(
            result.claimed, share, np.sqrt(share * (1 - share) / n), marker=MARKERS[number % 6],
            color=COLOURS[number % 6], linewidth=1.3, capsize=2, markersize=5,
            label=f"{name}: error {result.error.value:.3f} ± {result.error.error:.3f}",
        )  # fmt: skip
    if not found:
        empty_note(axes, "no source of known class")
    else:
        axes.legend(fontsize=8.5, frameon=False, loc="upper left")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("probability of the most probable class")
    axes.set_ylabel("share of sources of that class")
    tidy(axes)
    return figure
