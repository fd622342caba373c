"""Figures of the networks: training curves, confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from geminga.arrays import Float64
from geminga.evaluation.confusion import ConfusionCounts
from geminga.evaluation.style import COLOURS, GREY, empty_note, new_figure, tidy

_KNOWN = {"epoch", "train_loss", "valid_loss", "learning_rate", "seconds", "is_best"}


def training_curves(history: Sequence[Mapping[str, float]], title: str = "") -> Figure:
    """Draw losses, other measures and the learning rate against the epoch.

    Parameters
    ----------
    history : sequence of mappings
        One per epoch: ``epoch``, ``train_loss``, ``valid_loss``, ``learning_rate`` and any other
        measure, each with a panel of its own.
    title : str
        Heading.
    """
    others = sorted({name for row in history for name in row} - _KNOWN)
    figure = new_figure(3.6 * (2 + len(others)) + 0.6, 3.6)
    panels = figure.subplots(1, 2 + len(others), squeeze=False)[0]
    epoch = [row["epoch"] for row in history]
    losses = panels[0]
    for name, label, colour in (
        ("train_loss", "training", COLOURS[0]),
        ("valid_loss", "validation", COLOURS[1]),
    ):
        losses.plot(
            epoch, [row[name] for row in history], marker="o", markersize=3, color=colour,
            label=label,
        )  # fmt: skip
    if history:
        best = min(history, key=lambda row: row["valid_loss"])
        losses.axvline(best["epoch"], color=GREY, linestyle=":", linewidth=1.0, label="kept epoch")
        losses.legend()
    losses.set_ylabel("loss")
    panels[1].plot(
        epoch, [row["learning_rate"] for row in history], drawstyle="steps-mid", color=COLOURS[2]
    )
    panels[1].set_yscale("log")
    panels[1].set_ylabel("learning rate")
    for axes, name in zip(panels[2:], others, strict=True):
        axes.plot(
            epoch, [row.get(name, np.nan) for row in history], marker="o", markersize=3,
            color=COLOURS[3],
        )  # fmt: skip
        axes.set_ylabel(name.replace("_", " "))
    for axes in panels:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
        if not history:
            empty_note(axes, "no epoch")
        tidy(axes)
    if title:
        figure.suptitle(title)
    return figure


def confusion_matrices(confusion: ConfusionCounts) -> Figure:
    """Draw the confusion on the natural mix (counts) beside the balanced one (share of a row)."""
    size = 0.62 * len(confusion.classes) + 1.9
    figure = new_figure(2.0 * size + 1.6, size)
    left, right = figure.subplots(1, 2)
    # Colour by share in both: a count says little beside a class a hundred times as common.
    shares = confusion.balanced()
    counts = confusion.natural()
    _matrix(left, shares, [[f"{v:d}" for v in row] for row in counts], confusion.classes)
    text = [["-" if np.isnan(v) else f"{v:.2f}" for v in row] for row in shares]
    _matrix(right, shares, text, confusion.classes)
    left.set_title("natural mix: detections", fontsize=10)
    right.set_title(
        f"balanced mix: share of row (mean of diagonal {confusion.balanced_accuracy():.2f})",
        fontsize=10,
    )
    return figure


def _matrix(
    axes: Any, shares: Float64, text: Sequence[Sequence[str]], classes: Sequence[str]
) -> None:
    axes.imshow(np.nan_to_num(shares), cmap="Blues", vmin=0.0, vmax=1.0)
    for row, cells in enumerate(text):
        for column, cell in enumerate(cells):
            dark = shares[row, column] > 0.55
            axes.text(
                column, row, cell, ha="center", va="center", fontsize=9,
                color="white" if dark else "black",
            )  # fmt: skip
    places = np.arange(len(classes))
    axes.set_xticks(places, classes, rotation=35, ha="right", fontsize=9)
    axes.set_yticks(places, classes, fontsize=9)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
