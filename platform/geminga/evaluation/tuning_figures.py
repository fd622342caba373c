"""Picture of a tuning: the objective of every trial against each setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from geminga.arrays import Float64
from geminga.evaluation.style import COLOURS, GREY, empty_note, new_figure, tidy
from geminga.sections.tuning import Parameter

_COLUMNS = 3
_EVEN = 4
"""Panels that fill two rows of two."""
_LONG_WORDS = 8
"""Letters of a value above which the labels of an axis are turned."""


def objective_by_setting(
    table: pd.DataFrame,
    keys: Sequence[str],
    space: Mapping[str, Parameter],
    words: str,
    mode: Literal["min", "max"],
) -> Figure:
    """Draw the objective of the trials in their order, then against each setting.

    Parameters
    ----------
    table : DataFrame
        Columns ``trial``, ``objective``, ``status`` and one of each key.
    keys : sequence of str
        Settings.
    space : mapping
        Where each was sought; for the scale of its axis.
    words : str
        What the objective is.
    mode : str
        ``min`` or ``max``: which is best.
    """
    objective = table["objective"].to_numpy(np.float64)
    measured = np.isfinite(objective)
    panels = len(keys) + 1
    columns = 2 if panels == _EVEN else min(_COLUMNS, panels)
    rows = -(-panels // columns)
    figure = new_figure(3.6 * columns, 2.9 * rows + 0.6)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    for empty in axes[panels:]:
        empty.set_visible(False)
    figure.suptitle(f"{words[:1].upper()}{words[1:]}", fontsize=11)
    figure.supxlabel("darker: later; cross: stopped early; ring: best", fontsize=8, color=GREY)
    number = table["trial"].to_numpy(np.float64)
    _in_order(axes[0], number, objective, measured, mode)
    whole = (table["status"] == "finished").to_numpy() & measured
    for panel, key in zip(axes[1:], keys, strict=False):
        place = _places(panel, table[key], space[key])
        tidy(panel)
        panel.set_xlabel(key, fontsize=9)
        short = measured & ~whole
        panel.scatter(place[short], objective[short], s=16, color=GREY, marker="x", linewidth=1.0)
        _rank_coloured(panel, place[whole], objective[whole], number[whole])
        if measured.any():
            best = _best(objective, mode)
            panel.scatter(
                place[best], objective[best], s=110, facecolor="none", edgecolor=COLOURS[1],
                linewidth=1.8, zorder=4,
            )  # fmt: skip
    for panel in axes[:panels:columns]:
        panel.set_ylabel("objective")
    if not measured.any():
        empty_note(axes[0], "no trial came to an end")
    return figure


def _best(objective: Float64, mode: str) -> int:
    return int(np.nanargmin(objective) if mode == "min" else np.nanargmax(objective))


def _in_order(axes: Any, number: Float64, objective: Float64, measured: Any, mode: str) -> None:
    """Draw the trials as they came, the best so far as a line."""
    tidy(axes)
    axes.set_xlabel("trial", fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.scatter(number[measured], objective[measured], s=16, color=COLOURS[0], alpha=0.8)
    if measured.any():
        run = np.minimum if mode == "min" else np.maximum
        axes.step(
            number[measured], run.accumulate(objective[measured]), where="post",
            color=COLOURS[1], linewidth=1.5, label="best so far",
        )  # fmt: skip
        axes.legend(fontsize=8, frameon=False)


def _rank_coloured(axes: Any, place: Float64, objective: Float64, number: Float64) -> None:
    """Draw trials that came to their end, later ones darker."""
    if len(place):
        shade = 0.35 + 0.6 * number / max(float(number.max()), 1.0)
        axes.scatter(place, objective, s=20, color=COLOURS[0], alpha=shade, linewidth=0)


def _places(axes: Any, values: pd.Series, parameter: Parameter) -> Float64:
    """Return where values lie on an axis, and prepare it."""
    if parameter.values is None:
        if parameter.log:
            axes.set_xscale("log")
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
            axes.xaxis.set_minor_formatter(FuncFormatter(_few))
            axes.tick_params(axis="x", which="minor", labelsize=7)
        axes.set_xlim(*_margins(parameter))
        return values.to_numpy(np.float64)
    names = [str(v) for v in parameter.values]
    turned = max(map(len, names)) > _LONG_WORDS
    axes.set_xticks(range(len(names)), names, rotation=20 if turned else 0)
    axes.set_xlim(-0.5, len(names) - 0.5)
    # By value: a column of 3 and 4.5 holds 3.0.
    return np.array([parameter.values.index(v) for v in values], np.float64)


def _margins(parameter: Parameter) -> tuple[float, float]:
    """Return the ends of an axis that shows all of a space, found or not."""
    low, high = (float(end) for end in parameter.ends)
    if parameter.log:
        room = (high / low) ** 0.04
        return low / room, high * room
    room = 0.04 * (high - low)
    return low - room, high + room


def _few(x: float, _: int) -> str:
    """Label the 2 and the 5 of every decade: a space is often less than a decade wide."""
    first = f"{x:e}"[0]
    return f"{x:g}" if first in "25" else ""
