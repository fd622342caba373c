"""Figures of the sky: sources on the sphere, example patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from geminga.arrays import Bool, Float32, Float64, UInt8
from geminga.evaluation.style import COLOURS, GREY, new_figure, sky_axes, sky_xy


def sky_map(
    candidates: pd.DataFrame, truth: pd.DataFrame, matches: pd.DataFrame, title: str = ""
) -> Figure:
    """Draw found and missed sources and false detections on the whole sky.

    Parameters
    ----------
    candidates, truth : DataFrame
        With ``lon_deg`` and ``lat_deg``.
    matches : DataFrame
        Table MATCHES of the two.
    title : str
        Heading.
    """
    source, candidate = matches["source"].to_numpy(), matches["candidate"].to_numpy()
    found = source[(source >= 0) & (candidate >= 0)]
    missed = source[(source >= 0) & (candidate < 0)]
    false = candidate[source < 0]
    figure = new_figure(9.5, 5.6)
    axes = sky_axes(figure)
    for frame, rows, label, style in (
        (truth, missed, "missed", {"marker": "o", "facecolors": "none", "edgecolors": GREY}),
        (truth, found, "found", {"marker": "o", "color": COLOURS[0]}),
        (candidates, false, "false", {"marker": "x", "color": COLOURS[1]}),
    ):
        x, y = _positions(frame.iloc[rows])
        axes.scatter(x, y, s=14, linewidths=0.8, label=f"{label} ({len(rows)})", **style)
    _finish(figure, axes, title)
    return figure


def reference_map(
    candidates: pd.DataFrame,
    confirmed: Bool,
    catalogs: Mapping[str, pd.DataFrame],
    title: str = "",
) -> Figure:
    """Draw detections on a real sky over the sources of published catalogues.

    Parameters
    ----------
    candidates : DataFrame
        With ``lon_deg`` and ``lat_deg``, n rows.
    confirmed : Bool (n,)
        Detections that a catalogue confirms.
    catalogs : mapping
        Name to catalogue with ``lon_deg`` and ``lat_deg``; each has its own open marker. Give
        those the map is to show: thousands of sources hide the rest.
    title : str
        Heading.
    """
    figure = new_figure(9.5, 5.6)
    axes = sky_axes(figure)
    shapes = ("o", "s", "D", "^")
    for k, (name, catalog) in enumerate(catalogs.items()):
        x, y = _positions(catalog)
        label = f"{name} ({len(catalog)})"
        size = 34 if len(catalog) < 1000 else 10
        axes.scatter(
            x, y, s=size, marker=shapes[k % 4], facecolors="none", edgecolors=GREY,
            linewidths=0.6, label=label,
        )  # fmt: skip
    sure = np.asarray(confirmed, dtype=bool)
    for mask, label, marker, colour in (
        (sure, "detection in a catalogue", "o", COLOURS[0]),
        (~sure, "detection in none", "x", COLOURS[1]),
    ):
        x, y = _positions(candidates[mask])
        axes.scatter(
            x, y, s=12, marker=marker, color=colour, linewidths=0.9,
            label=f"{label} ({int(mask.sum())})",
        )  # fmt: skip
    _finish(figure, axes, title)
    return figure


@dataclass(frozen=True, eq=False)
class PatchExample:
    """One patch to show.

    Attributes
    ----------
    title : str
        For example where it lies.
    size_deg : float
        Width of the patch.
    images : sequence of arrays (n_b, n_b)
        Counts of each band, rows to the north, columns to the east.
    target : UInt8 (n, n) or None
        True mask; None on a real sky.
    output : Float32 (n, n)
        Network output, 0 to 1.
    true_xy_deg, found_xy_deg : Float64 (m, 2)
        Tangent-plane positions of true sources and detections.
    """

    title: str
    size_deg: float
    images: Sequence[Float32]
    target: UInt8 | None
    output: Float32
    true_xy_deg: Float64
    found_xy_deg: Float64


def patch_examples(examples: Sequence[PatchExample], band_labels: Sequence[str]) -> Figure:
    """Draw patches, one per row: input of each band, target, output with positions.

    Counts are coloured from 0 to their 99.5th percentile, on a scale of their own.
    """
    columns = len(band_labels) + 2
    figure = new_figure(1.75 * columns + 0.4, 1.78 * max(len(examples), 1) + 0.7)
    grid = figure.subplots(max(len(examples), 1), columns, squeeze=False)
    names = [*band_labels, "target", "network output"]
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(name, fontsize=9)
    for row, example in zip(grid, examples, strict=False):
        half = example.size_deg / 2.0
        for axes, image in zip(row, example.images, strict=False):
            top = max(float(np.percentile(image, 99.5)), 1.0)
            _image(axes, image, half, Normalize(0.0, top), "inferno")
        if example.target is None:
            row[-2].text(0.5, 0.5, "no truth", transform=row[-2].transAxes, ha="center", color=GREY)
        else:
            _image(row[-2], example.target, half, Normalize(0, 1), "Greys")
        _image(row[-1], example.output, half, Normalize(0, 1), "Greys")
        _mark(row[-1], example)
        for axes in row:
            axes.set_xlim(half, -half)  # east to the left, as the sky is seen
            axes.set_ylim(-half, half)
            axes.set_aspect("equal")
            axes.tick_params(labelsize=7)
            axes.label_outer()
        row[0].set_ylabel(f"{example.title}\nnorth (deg)", fontsize=8)
    for axes in grid[-1]:
        axes.set_xlabel("east (deg)", fontsize=8)
    if examples:
        handles, labels = grid[0][-1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower right", ncols=2, fontsize=9)
    return figure


def counts_map(grid: Float64, label: str, title: str = "", logarithmic: bool = True) -> Figure:
    """Draw an all-sky map given on a regular grid of Galactic longitude and latitude.

    Parameters
    ----------
    grid : Float64 (rows, columns)
        Values at latitudes -90 to 90 (rows) and longitudes -180 to 180 (columns), pixel centres.
    label : str
        What is shown, with its unit.
    title : str
        Heading.
    logarithmic : bool
        Colour by the logarithm; values of 0 or less stay blank.
    """
    rows, columns = grid.shape
    x = np.radians(np.linspace(180.0, -180.0, columns + 1))
    y = np.radians(np.linspace(-90.0, 90.0, rows + 1))
    figure = new_figure(9.5, 5.6)
    axes = sky_axes(figure)
    positive = grid[grid > 0]
    norm, decades = Normalize(), 0.0
    if logarithmic and len(positive):
        low, high = float(np.percentile(positive, 1)), float(positive.max())
        norm, decades = LogNorm(low, high), np.log10(high / low)
    values = np.ma.masked_less_equal(grid, 0.0) if logarithmic else grid
    mesh = axes.pcolormesh(x, y, values, norm=norm, cmap="inferno", rasterized=True)
    bar = figure.colorbar(mesh, ax=axes, orientation="horizontal", shrink=0.6, label=label)
    if decades > 1.0:
        bar.ax.xaxis.set_minor_formatter(NullFormatter())  # labels between the decades collide
    if title:
        axes.set_title(title)
    return figure


def _positions(frame: pd.DataFrame) -> tuple[Float64, Float64]:
    return sky_xy(frame["lon_deg"].to_numpy(np.float64), frame["lat_deg"].to_numpy(np.float64))


def _finish(figure: Figure, axes: Any, title: str) -> None:
    if title:
        axes.set_title(title)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4)


def _image(axes: Any, image: Any, half: float, norm: Normalize, cmap: str) -> None:
    axes.imshow(
        image, origin="lower", extent=(-half, half, -half, half), norm=norm, cmap=cmap,
        interpolation="nearest",
    )  # fmt: skip


def _mark(axes: Any, example: PatchExample) -> None:
    true, found = (
        np.reshape(example.true_xy_deg, (-1, 2)),
        np.reshape(example.found_xy_deg, (-1, 2)),
    )
    axes.scatter(
        true[:, 0], true[:, 1], s=50, marker="o", facecolors="none", edgecolors=COLOURS[0],
        linewidths=1.3, label="true source",
    )  # fmt: skip
    axes.scatter(
        found[:, 0], found[:, 1], s=28, marker="x", color=COLOURS[1], linewidths=1.3,
        label="detection",
    )  # fmt: skip
