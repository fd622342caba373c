"""Figures of the yardstick: all searches side by side, the oracle dashed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from geminga.arrays import Float64
from geminga.evaluation.rate_figures import FLUX_LABELS
from geminga.evaluation.style import COLOURS, GREY, MARKERS, empty_note, new_figure, tidy
from geminga.evaluation.yardstick_results import Bins, SearchFigures, Yardstick

CLASSES = ("|b| > 20", "|b| 10-20", "|b| < 10")
LABELS = {**FLUX_LABELS, "ts": "expected TS with the true background"}
_OWN_LABELS = {**{k: f"own {v}" for k, v in FLUX_LABELS.items()}, "ts": "own TS"}
FEWEST = 3
"""Sources or detections that a bin holds at least to be drawn."""

_FEWEST_PAIRS = 10
_PANELS_A_ROW = 4
_TITLES = {"|b| > 20": "|b| > 20°", "|b| 10-20": "|b| 10-20°", "|b| < 10": "|b| < 10°"}


def yardstick_figures(result: Yardstick, purity: str = "0.9") -> dict[str, Figure]:
    """Return every figure of a result by file name, without the gallery.

    Parameters
    ----------
    result : Yardstick
        What was measured.
    purity : str
        Key of the purity at which completeness and purity are drawn against flux and TS.
    """
    figures = {
        f"completeness_{column}": completeness_figure(result, column, purity) for column in LABELS
    }
    for column in LABELS:
        if any(_purity_bins(s, column, purity) for s in result.searches.values()):
            figures[f"purity_{column}"] = purity_figure(result, column, purity)
    figures["purity_completeness"] = purity_completeness_figure(result)
    figures["score"] = score_figure(result)
    figures["reliability"] = reliability_figure(result)
    figures["positions"] = position_figure(result)
    return figures


def completeness_figure(result: Yardstick, column: str = "s1", purity: str = "0.9") -> Figure:
    """Draw completeness against ``s1``, ``s10`` or ``ts``, one panel per latitude class.

    Each search is cut where the detections of the class reach the purity.
    """
    return _by_class(
        result,
        column,
        f"completeness at purity {purity}",
        lambda search, part: search.parts[part].at_purity[purity].by[column],
    )


def purity_figure(result: Yardstick, column: str = "s1", purity: str = "0.9") -> Figure:
    """Draw purity against the detections' own flux or TS, one panel per latitude class."""
    return _by_class(
        result,
        column,
        f"purity of the list of purity {purity}",
        lambda search, part: search.parts[part].at_purity[purity].purity_by.get(column),
        own=True,
    )


def _by_class(
    result: Yardstick, column: str, ylabel: str, bins_of: Any, own: bool = False
) -> Figure:
    parts = [name for name in CLASSES if all(name in s.parts for s in result.searches.values())]
    parts = parts or [next(iter(s.parts)) for s in list(result.searches.values())[:1]] or ["all"]
    figure = new_figure(max(4.0 * len(parts), 4.6), 4.6)
    panels = figure.subplots(1, len(parts), sharey=True, sharex=True, squeeze=False)[0]
    for axes, part in zip(panels, parts, strict=True):
        drawn = False
        for number, name, search, style in _styles(result):
            bins: Bins | None = bins_of(search, part)
            if bins is None or not bins.n:
                continue
            held = np.array(bins.n) >= FEWEST
            value = np.array([f.value for f in bins.figures])[held]
            error = np.nan_to_num([f.error for f in bins.figures])[held]
            shift = 1.0 + 0.04 * (number - (len(result.searches) - 1) / 2.0)
            axes.errorbar(
                _centres(bins)[held] * shift, value, error, label=name, markersize=4.5,
                linewidth=1.3, elinewidth=0.8, capsize=1.5, **style,
            )  # fmt: skip
            drawn = True
        if drawn:
            axes.set_xscale("log")
        else:
            empty_note(axes, "nothing known" if not own else "no detection")
        axes.set_ylim(-0.03, 1.03)
        axes.set_title(_TITLES.get(part, part), fontsize=10)
        axes.set_xlabel((_OWN_LABELS if own else LABELS)[column], fontsize=9)
        tidy(axes)
    panels[0].set_ylabel(ylabel)
    _legend_below(figure, panels)
    return figure


def purity_completeness_figure(result: Yardstick) -> Figure:
    """Draw purity against completeness as the cut moves, per part of the sky."""
    names = list(next(iter(result.searches.values())).parts) if result.searches else []
    parts = [n for n in names if n in ("all", *CLASSES)] or names or ["all"]
    purities = [p for s in result.searches.values() for n in parts for p in s.parts[n].curve.purity]
    lowest = min([0.5, *purities])
    figure = new_figure(3.4 * len(parts) + 0.6, 4.3)
    panels = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
    for axes, part in zip(panels, parts, strict=True):
        for _, name, search, style in _styles(result):
            curve = search.parts[part].curve
            style = {**style, "marker": ""}
            x, y = np.array(curve.completeness), np.array(curve.purity)
            axes.plot(x, y, label=name, linewidth=1.5, **style)
            error = np.nan_to_num(curve.purity_error)
            axes.fill_between(x, y - error, y + error, color=style["color"], alpha=0.15, lw=0)
        for level in (0.8, 0.9, 0.95):
            axes.axhline(level, color=GREY, linewidth=0.6, linestyle=":")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(lowest - 0.02, 1.02)
        axes.set_title(_TITLES.get(part, "whole sky" if part == "all" else part), fontsize=10)
        axes.set_xlabel("completeness")
        tidy(axes)
    panels[0].set_ylabel("purity")
    _legend_below(figure, panels)
    return figure


def score_figure(result: Yardstick) -> Figure:
    """Draw purity and completeness at or above each score; one panel per search."""
    number = max(len(result.searches), 1)
    across = min(number, _PANELS_A_ROW)
    down = -(-number // across)
    figure = new_figure(max(3.6 * across, 4.6), 3.1 * down + 0.4)
    grid = figure.subplots(down, across, sharey=True, squeeze=False)
    panels = grid.ravel()
    for axes in panels[number:]:
        axes.set_axis_off()
    for axes, search in zip(panels, result.searches.values(), strict=False):
        part = next(iter(search.parts.values()))
        curve = part.curve
        x = np.array(curve.cut)
        if not len(x):
            empty_note(axes, "no detection")
        for k, (label, values, errors) in enumerate(
            (
                ("purity at or above", curve.purity, curve.purity_error),
                ("completeness at or above", curve.completeness, curve.completeness_error),
            )
        ):
            y, error = np.array(values), np.nan_to_num(errors)
            axes.plot(x, y, color=COLOURS[k], linewidth=1.5, label=label)
            axes.fill_between(x, y - error, y + error, color=COLOURS[k], alpha=0.15, lw=0)
        bins = part.purity_by_score
        low, high = np.array(bins.low), np.array(bins.high)
        logarithmic = bool(len(x)) and x.min() > 0 and x.max() > 30.0 * x.min()
        if logarithmic:
            axes.set_xscale("log")
        axes.errorbar(
            np.sqrt(low * high) if logarithmic else (low + high) / 2.0,
            [f.value for f in bins.figures], np.nan_to_num([f.error for f in bins.figures]),
            fmt="o", color=GREY, markersize=3.5, linewidth=1.0, label="purity in bin",
        )  # fmt: skip
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel(f"score of {search.name}")
        tidy(axes)
    for axes in grid[:, 0]:
        axes.set_ylabel("purity, completeness")
    _legend_below(figure, panels[:1])
    return figure


def reliability_figure(result: Yardstick) -> Figure:
    """Draw the share of true detections against the claimed probability."""
    figure = new_figure(5.0, 4.6)
    axes: Any = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    drawn = False
    for _, name, search, style in _styles(result):
        score = search.score_calibration
        if score is None:
            continue
        error = score.expected_error
        axes.errorbar(
            score.mean, score.purity, np.nan_to_num(score.purity_error), markersize=5,
            linewidth=1.3, capsize=2, label=f"{name}: calibration error {error.value:.3f}", **style,
        )  # fmt: skip
        drawn = True
    if not drawn:
        empty_note(axes, "no score is a probability")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("claimed probability of being real")
    axes.set_ylabel("share that is real")
    tidy(axes)
    _legend(axes, "upper left")
    return figure


def position_figure(result: Yardstick) -> Figure:
    """Draw position error against flux, and the mean offset.

    Lines are medians; the band goes from 68 to 95 % and is that of the first search alone.
    """
    figure = new_figure(9.5, 4.6)
    left, right = figure.subplots(1, 2, width_ratios=(1.45, 1.0))
    for number, name, search, style in _styles(result):
        bins = [b for b in search.positions[2:] if b.n >= FEWEST]
        x = np.array([_middle(b.low, b.high) for b in bins])
        median = np.array([b.median_deg.value for b in bins])
        error = np.nan_to_num([b.median_deg.error for b in bins])
        left.errorbar(
            x, median, error, label=name, markersize=4.5, linewidth=1.3, capsize=2, **style
        )
        band = [
            np.array([getattr(b, f).value for b in bins]) for f in ("radius68_deg", "radius95_deg")
        ]
        if number == 0:
            left.fill_between(x, band[0], band[1], color=style["color"], alpha=0.15, lw=0)
        whole = search.positions[0]
        if whole.n >= _FEWEST_PAIRS:
            right.errorbar(
                whole.bias_east_deg.value, whole.bias_north_deg.value,
                _error(whole.bias_north_deg.error), _error(whole.bias_east_deg.error),
                label=name, markersize=5, **{**style, "linestyle": ""},
            )  # fmt: skip
    if any(b.n >= FEWEST for s in result.searches.values() for b in s.positions[2:]):
        left.set_xscale("log")
        left.set_yscale("log")
        left.xaxis.set_minor_formatter(NullFormatter())
    else:
        empty_note(left, "no pair")
    left.set_xlabel(FLUX_LABELS["s1"])
    left.set_ylabel("distance from the true source (deg)\nmedian; band: 68 to 95 % of the first")
    right.axhline(0.0, color=GREY, linewidth=0.8)
    right.axvline(0.0, color=GREY, linewidth=0.8)
    limit = 1.15 * max(np.abs([*right.get_xlim(), *right.get_ylim()]).max(), 0.001)
    right.set_xlim(limit, -limit)
    right.set_ylim(-limit, limit)
    right.set_aspect("equal")
    right.locator_params(nbins=5)
    right.tick_params(labelsize=8)
    right.set_xlabel("mean offset to the east (deg)")
    right.set_ylabel("mean offset to the north (deg)")
    for axes in (left, right):
        tidy(axes)
    _legend_below(figure, [left])
    return figure


def _styles(result: Yardstick) -> Iterator[tuple[int, str, SearchFigures, dict[str, Any]]]:
    """Yield each search with its line: the oracle dashed and grey, the others in colour."""
    colour = 0
    for number, (name, search) in enumerate(result.searches.items()):
        if name == result.oracle:
            yield number, name, search, {"color": "black", "linestyle": "--", "marker": "x"}
            continue
        style = {
            "color": COLOURS[colour % len(COLOURS)],
            "marker": MARKERS[colour % len(MARKERS)],
            # Where the colours begin again, the lines are broken.
            "linestyle": ("-", "-.")[colour // len(COLOURS) % 2],
        }
        colour += 1
        yield number, name, search, style


def _purity_bins(search: SearchFigures, column: str, purity: str) -> bool:
    return any(column in part.at_purity[purity].purity_by for part in search.parts.values())


def _centres(bins: Bins) -> Float64:
    return np.array([_middle(low, high) for low, high in zip(bins.low, bins.high, strict=True)])


def _middle(low: float, high: float) -> float:
    """Return the middle of a bin in the logarithm; of an open bin, a factor from its edge."""
    if not math.isfinite(high):
        return low * 1.5
    return math.sqrt(low * high) if low > 0 else high / 1.5


def _error(value: float) -> float:
    return value if math.isfinite(value) else 0.0


def _legend(axes: Any, place: str) -> None:
    handles: Sequence[Any] = axes.get_legend_handles_labels()[0]
    if handles:
        axes.legend(loc=place, fontsize=8)


def _legend_below(figure: Figure, panels: Iterable[Any]) -> None:
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
