"""Figures of rates: completeness, purity and position error of one or several searches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from geminga.arrays import Float64, Int64
from geminga.evaluation.counts import LATITUDES, MatchCounts, score_edges
from geminga.evaluation.metrics import Offsets, localisation_error, score_curve
from geminga.evaluation.rates import rate_array
from geminga.evaluation.style import COLOURS, GREY, MARKERS, empty_note, new_figure, tidy

FLUX_LABELS = {
    "s1": "photon flux 1-1000 GeV (cm$^{-2}$ s$^{-1}$)",
    "s10": "photon flux 10-1000 GeV (cm$^{-2}$ s$^{-1}$)",
}
SCORE_BINS = 12


def completeness_curves(
    searches: Mapping[str, MatchCounts], flux: str = "s1", flux_label: str = ""
) -> Figure:
    """Draw completeness against flux, at low and high latitude, with binomial errors.

    Parameters
    ----------
    searches : mapping
        Name to counts, binned alike.
    flux : str
        ``s1`` or ``s10``.
    flux_label : str
        Axis label, if the column holds another flux.
    """
    figure = new_figure(9.5, 4.2)
    panels = figure.subplots(1, 2, sharey=True, sharex=True)
    split = next(iter(searches.values())).latitude_split_deg if searches else 0.0
    for axes, latitude, sign in zip(panels, ("low", "high"), ("<", "≥"), strict=True):
        k = LATITUDES.index(latitude)
        drawn = False
        for number, (name, counts) in enumerate(searches.items()):
            rates = counts.rates()
            curve = rates.completeness_s1 if flux == "s1" else rates.completeness_s10
            value, error, n = curve.value[k], curve.error[k], curve.n[k]
            held = n > 0
            edges = counts.flux_edges
            centre = np.sqrt(edges[1:] * edges[:-1])
            # A few per cent apart, so that error bars of several searches stay readable.
            shift = 1.0 + 0.05 * (number - (len(searches) - 1) / 2.0)
            axes.errorbar(
                centre[held] * shift, value[held], error[held], marker=MARKERS[number % 6],
                markersize=4.5, linewidth=1.2, capsize=2, color=COLOURS[number % 6], label=name,
            )  # fmt: skip
            drawn = drawn or bool(held.any())
        if not drawn:
            empty_note(axes, "no source")
        axes.set_xscale("log")
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel(flux_label or FLUX_LABELS[flux])
        axes.set_title(f"|b| {sign} {split:g}°", fontsize=10)
        tidy(axes)
    panels[0].set_ylabel("completeness")
    if searches:
        panels[1].legend(loc="lower right")
    return figure


def purity_by_score(searches: Mapping[str, MatchCounts]) -> Figure:
    """Draw the purity of detections in bins of score and of all above; one panel per search.

    Every search has a score of its own, so the panels share no axis.
    """
    figure = new_figure(max(4.2 * len(searches), 4.2), 3.9)
    panels = figure.subplots(1, max(len(searches), 1), squeeze=False)[0]
    for number, (axes, (name, counts)) in enumerate(zip(panels, searches.items(), strict=False)):
        true, false = counts.score_true.sum(axis=0), counts.score_false.sum(axis=0)
        centre, low, high, k, n = _merged_bins(true, true + false)
        purity = rate_array(k, n)
        colour = COLOURS[number % 6]
        curve = score_curve(counts)
        axes.plot(curve.score, curve.purity, color=GREY, linewidth=1.4, label="at or above score")
        axes.errorbar(
            centre, purity.value, purity.error, xerr=[centre - low, high - centre], fmt="o",
            markersize=4, color=colour, linewidth=1.1, label="in bin",
        )  # fmt: skip
        if not len(centre):
            empty_note(axes, "no detection")
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel(f"score of {name}")
        tidy(axes)
        axes.legend(loc="lower right", fontsize=9)
    panels[0].set_ylabel("purity")
    return figure


def purity_completeness(
    searches: Mapping[str, MatchCounts],
    latitude: str = "all",
    purity_counts: Mapping[str, MatchCounts] | None = None,
) -> Figure:
    """Draw purity against completeness as the score cut moves; dots mark the whole list.

    Arguments of `geminga.evaluation.metrics.score_curve`, by search.
    """
    figure = new_figure(5.6, 4.6)
    axes: Any = figure.subplots()
    for number, (name, counts) in enumerate(searches.items()):
        wide = None if purity_counts is None else purity_counts.get(name)
        curve = score_curve(counts, latitude, wide)
        colour = COLOURS[number % 6]
        axes.plot(curve.completeness, curve.purity, color=colour, linewidth=1.6, label=name)
        if len(curve.score):
            axes.errorbar(
                curve.completeness[0], curve.purity[0], curve.purity_error[0],
                curve.completeness_error[0], fmt=MARKERS[number % 6], color=colour, markersize=6,
            )  # fmt: skip
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("completeness")
    axes.set_ylabel("purity")
    tidy(axes)
    if searches:
        axes.legend(loc="lower left")
    return figure


def localisation_histogram(searches: Mapping[str, Offsets], match_radius_deg: float) -> Figure:
    """Draw the distance between matched detections and their sources, and the mean offsets."""
    figure = new_figure(9.5, 4.0)
    left, right = figure.subplots(1, 2, width_ratios=(1.45, 1.0))
    bins = np.linspace(0.0, match_radius_deg, 31)
    for number, (name, offsets) in enumerate(searches.items()):
        colour = COLOURS[number % 6]
        error = localisation_error(offsets)
        if error.n == 0:
            left.plot([], [], color=colour, label=f"{name}: no pair")
            continue
        left.hist(
            offsets.separation_deg, bins=bins, histtype="step", linewidth=1.6, color=colour,
            weights=np.full(error.n, 1.0 / error.n), label=f"{name}: median {error.median_deg:.3f}°",
        )  # fmt: skip
        left.axvline(error.median_deg, color=colour, linewidth=0.9, linestyle=":")
        right.errorbar(
            error.bias_east_deg, error.bias_north_deg, error.bias_error_deg, error.bias_error_deg,
            fmt=MARKERS[number % 6], color=colour, markersize=5, label=name,
        )  # fmt: skip
    left.set_xlabel("distance from the true source (deg)")
    left.set_ylabel("share of matched detections")
    left.legend()
    right.axhline(0.0, color=GREY, linewidth=0.8)
    right.axvline(0.0, color=GREY, linewidth=0.8)
    limit = 1.15 * max(np.abs([*right.get_xlim(), *right.get_ylim()]).max(), 0.005)
    right.set_xlim(limit, -limit)
    right.set_ylim(-limit, limit)
    right.set_aspect("equal")
    right.set_xlabel("mean offset to the east (deg)")
    right.set_ylabel("mean offset to the north (deg)")
    for axes in (left, right):
        tidy(axes)
    return figure


def _merged_bins(true: Int64, total: Int64) -> tuple[Float64, Float64, Float64, Int64, Int64]:
    """Join fine score bins into a dozen with about equal numbers of detections."""
    held = np.flatnonzero(total)
    if not len(held):
        zero = np.zeros(0, dtype=np.int64)
        return np.zeros(0), np.zeros(0), np.zeros(0), zero, zero
    edges = score_edges()
    before = np.cumsum(total[held]) - total[held]
    group = before * SCORE_BINS // total.sum()
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    k, n = np.add.reduceat(true[held], starts), np.add.reduceat(total[held], starts)
    low, high = edges[held[starts]], edges[held[np.append(starts[1:] - 1, len(held) - 1)] + 1]
    return (low + high) / 2.0, low, high, k, n
