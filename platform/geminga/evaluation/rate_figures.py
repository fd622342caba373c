"""Figures of rates: completeness, purity and position error of one or several searches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from geminga.evaluation.counts import LATITUDES, MatchCounts
from geminga.evaluation.metrics import score_curve
from geminga.evaluation.style import COLOURS, MARKERS, empty_note, new_figure, tidy

FLUX_LABELS = {
    "s1": "photon flux 1-1000 GeV (cm$^{-2}$ s$^{-1}$)",
    "s10": "photon flux 10-1000 GeV (cm$^{-2}$ s$^{-1}$)",
}


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
