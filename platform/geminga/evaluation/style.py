"""Look of the figures, and writing them: matplotlib's objects alone, no global state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from geminga.arrays import Float64
from geminga.files import atomic

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Colours that colour-blind readers tell apart (Okabe and Ito)."""

MARKERS = ("o", "s", "^", "D", "v", "P")
GREY = "#777777"
DPI = 110


def new_figure(width_in: float, height_in: float) -> Figure:
    """Return an empty figure that lays out its axes without overlaps."""
    return Figure(figsize=(width_in, height_in), dpi=DPI, layout="constrained")


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, atomically.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def tidy(axes: Any) -> None:
    """Draw a light grid and drop the frame's upper and right side."""
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def empty_note(axes: Any, text: str) -> None:
    """Say in an axes without data why it is empty."""
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", color=GREY)


def sky_axes(figure: Figure) -> Any:
    """Add an all-sky Mollweide axes in Galactic coordinates, longitude rising to the left.

    Plot at `sky_xy` of a direction.
    """
    axes: Any = figure.add_subplot(projection="mollweide")
    axes.grid(alpha=0.35, linewidth=0.6)
    axes.set_longitude_grid(60)
    axes.set_latitude_grid(30)
    ticks = np.arange(-120, 121, 60)
    axes.set_xticks(np.radians(ticks), [""] * len(ticks))
    # Below the crowded plane, on white, or the markers would hide them.
    box = {"facecolor": "white", "alpha": 0.85, "linewidth": 0, "pad": 1.0}
    for tick in ticks:
        axes.text(
            np.radians(tick), np.radians(-45.0), f"{-tick % 360}°", fontsize=8, ha="center", va="center",
            zorder=9, bbox=box,
        )  # fmt: skip
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel("Galactic longitude")
    axes.set_ylabel("Galactic latitude")
    return axes


def sky_xy(lon_deg: Float64, lat_deg: Float64) -> tuple[Float64, Float64]:
    """Return plot coordinates of Galactic directions for `sky_axes`."""
    lon = np.asarray(lon_deg, dtype=np.float64)
    return -np.radians((lon + 180.0) % 360.0 - 180.0), np.radians(lat_deg)
