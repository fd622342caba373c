"""Figures of the yardstick of classes; ceilings are dashed and grey."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from geminga.evaluation.class_results import ClassFigures, ClassResult, RangeFigures
from geminga.evaluation.class_text import shown_comparisons
from geminga.evaluation.rate_figures import FLUX_LABELS
from geminga.evaluation.style import COLOURS, GREY, MARKERS, empty_note, new_figure, tidy
from geminga.evaluation.summary import slug

_PANELS_A_ROW = 4
_CEILING_LINES = ((0, (4, 2)), (0, (1, 1.5)), "-.")


def class_figures(result: ClassResult) -> dict[str, Figure]:
    """Return every figure of a result by file name.

    Parameters
    ----------
    result : ClassResult
        What was measured.
    """
    figures = {}
    for name, one in result.classifiers.items():
        figures[f"confusion_{slug(name)}"] = confusion_figure(one, name)
        if one.by_flux:
            figures[f"confusion_flux_{slug(name)}"] = confusion_by_flux(one, name)
    figures["class_reliability"] = reliability_figure(result)
    if shown_comparisons(result):
        figures["class_accuracy_flux"] = accuracy_figure(result)
    if any(one.fake_kept for one in result.classifiers.values()):
        figures["fake_recognised"] = fake_figure(result)
    return figures


def confusion_figure(figures: ClassFigures, title: str = "") -> Figure:
    """Draw the confusion on the natural mix beside that on the balanced mix.

    Numbers of candidates with the natural prior on the left, shares of a row with the flat prior on
    the right; colour is the share of the row in both.
    """
    size = 0.66 * len(figures.classes) + 1.7
    figure = new_figure(2.0 * size + 1.2, size + 0.5)
    left, right = figure.subplots(1, 2)
    numbers = np.array(figures.natural, dtype=np.float64)
    total = numbers.sum(axis=1, keepdims=True)
    shares = np.divide(numbers, total, out=np.full(numbers.shape, np.nan), where=total > 0)
    text = [[f"{n}\n{_share(s)}" for n, s in zip(row, part, strict=True)]
            for row, part in zip(figures.natural, shares.tolist(), strict=True)]  # fmt: skip
    _matrix(left, shares.tolist(), text, figures.classes)
    balanced = figures.confusion
    _matrix(right, balanced, [[_share(v) for v in row] for row in balanced], figures.classes)
    left.set_title(
        f"natural mix and prior\naccuracy {_value(figures, 'accuracy_natural')}", fontsize=10
    )
    key = "macro_f1" if "macro_f1" in figures.figures else "macro_f1_true"
    right.set_title(f"balanced mix, flat prior\nmacro F1 {_value(figures, key)}", fontsize=10)
    for axes in (left, right):
        axes.set_xlabel("given class")
    left.set_ylabel("true class")
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def confusion_by_flux(figures: ClassFigures, title: str = "") -> Figure:
    """Draw the confusion of true sources (balanced mix, flat prior) in each range of true flux."""
    ranges = [r for r in figures.by_flux if sum(n > 0 for n in r.n) > 1] or figures.by_flux
    across = min(len(ranges), _PANELS_A_ROW)
    down = -(-len(ranges) // across)
    true = figures.classes[: _rows(figures)]
    width, height = 0.4 * len(figures.classes) + 0.25, 0.32 * len(true) + 0.6
    figure = new_figure(width * across + 1.0, height * down + 1.3)
    grid = figure.subplots(down, across, squeeze=False)
    for place, axes in enumerate(grid.ravel()):
        if place >= len(ranges):
            axes.set_axis_off()
            continue
        one = ranges[place]
        shares = one.confusion[: len(true)]
        text = [[_short(v) for v in row] for row in shares]
        _matrix(axes, shares, text, figures.classes, true, 7.5)
        axes.set_aspect("auto")
        axes.set_title(f"{_flux_range(one)}\n{sum(one.n)} sources", fontsize=8)
        column = place % across
        if column:
            axes.set_yticklabels([])
        if place + across < len(ranges):
            axes.set_xticklabels([])
    figure.supxlabel("given class", fontsize=9)
    figure.supylabel("true class", fontsize=9)
    heading = "share of true class by flux S1 (cm$^{-2}$ s$^{-1}$), in per cent"
    figure.suptitle(f"{title}: {heading}" if title else heading, fontsize=10)
    return figure


def reliability_figure(result: ClassResult) -> Figure:
    """Draw the share that came true against the claimed probability, one panel per class."""
    classes = next(iter(result.classifiers.values())).classes
    across = min(len(classes), 3)
    down = -(-len(classes) // across)
    figure = new_figure(3.3 * across + 0.3, 3.3 * down + 0.5)
    grid = figure.subplots(down, across, squeeze=False, sharex=True, sharey=True)
    for axes in grid.ravel()[len(classes) :]:
        axes.set_axis_off()
    for place, (axes, name) in enumerate(zip(grid.ravel(), classes, strict=False)):
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
        notes = []
        for number, (label, one) in enumerate(result.classifiers.items()):
            curve = one.reliability[name]
            axes.errorbar(
                curve.claim, curve.share, np.nan_to_num(curve.error), label=label,
                color=COLOURS[number % 6], marker=MARKERS[number % 6], markersize=4, linewidth=1.1,
                capsize=1.5,
            )  # fmt: skip
            notes.append((number, one.rows[name].figures["ece"].value))
        for line, (number, value) in enumerate(notes):
            axes.text(
                0.97, 0.04 + 0.08 * (len(notes) - 1 - line), f"ECE {value:.3f}", ha="right",
                transform=axes.transAxes, fontsize=8, color=COLOURS[number % 6],
            )  # fmt: skip
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_title(name, fontsize=10)
        if place + across >= len(classes):
            axes.set_xlabel("claimed probability")
            axes.tick_params(labelbottom=True)
        tidy(axes)
    for axes in grid[:, 0]:
        axes.set_ylabel("share that is of the class")
    _legend_below(figure, grid[0, 0])
    return figure


def accuracy_figure(result: ClassResult) -> Figure:
    """Draw balanced accuracy against true flux for each comparison, with the ceilings."""
    names = shown_comparisons(result)
    across = min(len(names), _PANELS_A_ROW)
    down = -(-len(names) // across)
    figure = new_figure(max(3.5 * across, 4.6), 3.3 * down + 0.5)
    grid = figure.subplots(down, across, squeeze=False, sharey=True, sharex=True)
    for axes in grid.ravel()[len(names) :]:
        axes.set_axis_off()
    for place, (axes, name) in enumerate(zip(grid.ravel(), names, strict=False)):
        drawn = False
        lines = list(_styles(result))
        for number, (label, one, style) in enumerate(lines):
            key = f"balanced_accuracy/{name}"
            ranges = [r for r in one.by_flux if _finite(r, key)]
            if not ranges:
                continue
            shift = 1.0 + 0.04 * (number - (len(lines) - 1) / 2.0)
            axes.errorbar(
                [math.sqrt(r.low * r.high) * shift for r in ranges],
                [r.figures[key].value for r in ranges],
                np.nan_to_num([r.figures[key].error for r in ranges]),
                label=label, markersize=4, linewidth=1.3, elinewidth=0.8, capsize=1.5, **style,
            )  # fmt: skip
            drawn = True
        axes.axhline(0.5, color=GREY, linewidth=0.8, linestyle=":")
        if drawn:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            empty_note(axes, "too few sources")
        axes.set_ylim(0.4, 1.03)
        axes.set_title(name, fontsize=10)
        if place + across >= len(names):
            axes.set_xlabel(FLUX_LABELS["s1"], fontsize=9)
            axes.tick_params(labelbottom=True)
        tidy(axes)
    for axes in grid[:, 0]:
        axes.set_ylabel("balanced accuracy")
    _legend_below(figure, *grid.ravel()[: len(names)])
    return figure


def fake_figure(result: ClassResult) -> Figure:
    """Draw the share of FAKE recognised against the share of true sources kept."""
    figure = new_figure(5.4, 4.6)
    axes: Any = figure.subplots()
    for number, (name, one) in enumerate(result.classifiers.items()):
        if not one.fake_kept:
            continue
        kept, found = np.array(one.fake_kept), np.array(one.fake_recognised)
        error = np.nan_to_num(one.fake_error)
        colour = COLOURS[number % 6]
        value = one.figures["fake_recall"]
        label = f"{name}: {value.value:.3f} at 0.95"
        axes.plot(kept, found, color=colour, marker=MARKERS[number % 6], markersize=4, label=label)
        axes.fill_between(kept, found - error, found + error, color=colour, alpha=0.15, lw=0)
    axes.axvline(0.95, color=GREY, linewidth=0.8, linestyle=":")
    for goal in result.goals:
        if goal.figure == "fake_recall" and math.isfinite(goal.goal):
            axes.plot([0.95], [goal.goal], marker="*", markersize=12, color="black",
                      linestyle="", label=f"goal: {goal.goal:g}")  # fmt: skip
    axes.set_xlabel("share of true sources kept")
    axes.set_ylabel("share of FAKE recognised")
    axes.set_ylim(-0.02, 1.02)
    tidy(axes)
    axes.legend(loc="lower left", fontsize=8)
    return figure


def _styles(result: ClassResult) -> Iterator[tuple[str, ClassFigures, dict[str, Any]]]:
    for number, (name, one) in enumerate(result.ceilings.items()):
        line = _CEILING_LINES[number % len(_CEILING_LINES)]
        shade = "black" if number % 2 else GREY
        yield f"ceiling: {name}", one, {"color": shade, "linestyle": line, "marker": ""}
    for number, (name, one) in enumerate(result.classifiers.items()):
        yield name, one, {"color": COLOURS[number % 6], "marker": MARKERS[number % 6]}


def _matrix(
    axes: Any,
    shares: Sequence[Sequence[float]],
    text: Sequence[Sequence[str]],
    given: Sequence[str],
    true: Sequence[str] | None = None,
    fontsize: float = 8.5,
) -> None:
    values = np.array(shares, dtype=np.float64)
    axes.imshow(np.nan_to_num(values), cmap="Blues", vmin=0.0, vmax=1.0)
    for row, cells in enumerate(text):
        for column, cell in enumerate(cells):
            axes.text(
                column, row, cell, ha="center", va="center", fontsize=fontsize,
                color="white" if values[row, column] > 0.55 else "black",
            )  # fmt: skip
    names = given if true is None else true
    axes.set_xticks(np.arange(len(given)), given, rotation=40, ha="right", fontsize=fontsize)
    axes.set_yticks(np.arange(len(names)), names, fontsize=fontsize)


def _rows(figures: ClassFigures) -> int:
    """Return how many classes have sources with a flux."""
    return max((k + 1 for r in figures.by_flux for k, n in enumerate(r.n) if n), default=0)


def _flux_range(one: RangeFigures) -> str:
    return f"{one.low:.1e} to {one.high:.1e}".replace("e-0", "e-")


def _share(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "-"


def _short(value: float) -> str:
    return f"{100.0 * value:.0f}" if math.isfinite(value) else "-"


def _value(figures: ClassFigures, key: str) -> str:
    judged = figures.figures[key]
    return f"{judged.value:.3f}" + (f" ± {judged.error:.3f}" if math.isfinite(judged.error) else "")


def _finite(one: RangeFigures, key: str) -> bool:
    return key in one.figures and math.isfinite(one.figures[key].value)


def _legend_below(figure: Figure, *panels: Any) -> None:
    """Name everything drawn in some panel once, below all of them."""
    entries: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    if entries:
        figure.legend(
            list(entries.values()), list(entries), loc="outside lower center", fontsize=8,
            ncols=min(len(entries), 4), frameon=False,
        )  # fmt: skip
