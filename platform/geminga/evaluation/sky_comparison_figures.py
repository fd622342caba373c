"""Figures of counted against expected photons."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import healpy
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, ScalarFormatter
from PIL import Image

from geminga.arrays import Float64
from geminga.evaluation.sky_comparison import Profile
from geminga.evaluation.style import COLOURS, DPI, GREY, new_figure, tidy
from geminga.files import atomic
from geminga.geometry import unit_vectors

_GRID = (720, 360)
_HATCHES = ("", "//", "..", "xx")


def sky_pair(
    maps: Mapping[str, Float64], rotation: Float64 | None, label: str, sigma: float | None = None
) -> Figure:
    """Draw maps of the whole sky side by side, in Galactic coordinates and one colour scale.

    Parameters
    ----------
    maps : mapping of str to Float64 (npix,)
        RING maps by heading.
    rotation : Float64 (3, 3), optional
        Turns Galactic unit vectors into the maps' frame; None for Galactic maps.
    label : str
        Of the colour scale.
    sigma : float, optional
        Draw signed values to this limit; counts on a logarithmic scale if not given.
    """
    figure = Figure(figsize=(5.6 * len(maps), 3.6), dpi=DPI)
    figure.subplots_adjust(left=0.03, right=0.99, bottom=0.2, top=0.93, wspace=0.08)
    lon = np.linspace(-180.0, 180.0, _GRID[0] + 1)
    lat = np.linspace(-90.0, 90.0, _GRID[1] + 1)
    centre_lon, centre_lat = np.meshgrid(0.5 * (lon[1:] + lon[:-1]), 0.5 * (lat[1:] + lat[:-1]))
    vectors = unit_vectors(-centre_lon.ravel(), centre_lat.ravel())
    if rotation is not None:
        vectors = vectors @ rotation.T
    norm, colours = _scale(list(maps.values()), sigma)
    lowest = float(norm.vmin or 0.0)
    for number, (title, values) in enumerate(maps.items(), start=1):
        part: Any = figure.add_subplot(1, len(maps), number, projection="mollweide")
        pixel = healpy.vec2pix(healpy.npix2nside(len(values)), *vectors.T)
        shown = values[pixel].reshape(centre_lon.shape)
        if sigma is None:
            shown = np.maximum(shown, lowest)
        part.pcolormesh(
            np.radians(lon), np.radians(lat), shown, norm=norm, cmap=colours, rasterized=True
        )
        part.set_title(title, fontsize=10, pad=8)
        part.grid(alpha=0.25, linewidth=0.5, color="white" if sigma is None else GREY)
        part.set_xticks(np.radians([-120, -60, 0, 60, 120]), [""] * 5)
        part.set_yticks(np.radians([-60, -30, 0, 30, 60]), ["−60°", "−30°", "0°", "30°", "60°"])
        part.tick_params(labelsize=7)
        for tick in (-120, -60, 0, 60, 120):
            part.text(
                np.radians(tick), np.radians(-45.0), f"{-tick % 360}°",
                fontsize=6.5, ha="center", va="center",
                bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.8},
            )  # fmt: skip
    bar = figure.colorbar(
        ScalarMappable(norm, colours),
        cax=figure.add_axes((0.3, 0.13, 0.4, 0.035)),
        orientation="horizontal",
        extend="both" if sigma else "neither",
    )
    bar.set_label(f"{label} (Galactic coordinates, longitude rising to the left)", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return figure


def _scale(maps: Sequence[Float64], sigma: float | None) -> tuple[Normalize, str]:
    if sigma is not None:
        return Normalize(-sigma, sigma), "RdBu_r"
    high = max(float(np.quantile(values, 0.9995)) for values in maps)
    low = min(float(np.quantile(values, 0.02)) for values in maps)
    return LogNorm(max(low, high * 1e-4, 0.5), max(high, 5.0)), "cividis"


def profiles(parts: Mapping[str, Profile], labels: Sequence[str]) -> Figure:
    """Draw profiles: expected components stacked, counts as points, their ratio below.

    Parameters
    ----------
    parts : mapping of str to Profile
        By heading.
    labels : sequence of str
        Of the horizontal axes.
    """
    figure = new_figure(4.6 * len(parts), 4.6)
    grid = figure.add_gridspec(2, len(parts), height_ratios=(3, 1.2))
    for column, (title, part) in enumerate(parts.items()):
        top = figure.add_subplot(grid[0, column])
        low = figure.add_subplot(grid[1, column], sharex=top)
        edges = part.edges_deg
        centre = 0.5 * (edges[1:] + edges[:-1])
        base = np.zeros(len(part.counts))
        for number, (name, values) in enumerate(part.expected.items()):
            top.stairs(
                base + values, edges, baseline=base, fill=True, color=COLOURS[number % 6],
                alpha=0.55, hatch=_HATCHES[number % 4], edgecolor="white", linewidth=0.3,
                label=name,
            )  # fmt: skip
            base = base + values
        error = np.sqrt(np.maximum(part.counts, 1.0))
        style: dict[str, Any] = {"fmt": "o", "color": "black", "markersize": 2.5, "linewidth": 0.8}
        top.errorbar(centre, part.counts, error, label="counted", **style)
        top.set_ylim(0, None)
        top.set_title(title, fontsize=10)
        top.tick_params(labelbottom=False)
        _ratio(low, centre, part.counts, base)
        low.set_xlabel(labels[column])
        if "longitude" in labels[column]:
            # As on the maps: longitude rises to the left.
            top.set_xlim(edges[-1], edges[0])
            low.set_xticks(ticks := np.arange(-180, 181, 60), [f"{t % 360}°" for t in ticks])
        else:
            top.set_xlim(edges[0], edges[-1])
            low.set_xticks(ticks := np.arange(-90, 91, 30), [f"{t}°" for t in ticks])
        step = edges[1] - edges[0]
        if column == 0:
            low.set_ylabel("counted / expected")
            top.legend(fontsize=8, frameon=False)
        top.set_ylabel(f"photons per {step:g}°")
        tidy(top)
        tidy(low)
    return figure


def band_totals(edges_gev: Float64, counts: Float64, expected: Mapping[str, Float64]) -> Figure:
    """Draw the photons of every band, counted and expected, and their ratio.

    Parameters
    ----------
    edges_gev : Float64 (B, 2)
    counts : Float64 (B,)
    expected : mapping of str to Float64 (B,)
        Of every component.
    """
    figure = new_figure(7.2, 5.4)
    grid = figure.add_gridspec(2, 1, height_ratios=(3, 1.3))
    top, low = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    centre = np.sqrt(edges_gev[:, 0] * edges_gev[:, 1])
    steps = np.append(edges_gev[:, 0], edges_gev[-1, 1])
    total = np.sum(list(expected.values()), axis=0)
    for number, (name, values) in enumerate(expected.items()):
        top.stairs(
            values, steps, baseline=None, color=COLOURS[number % 6], linewidth=1.6, label=name,
            linestyle=("-", "--", "-.", ":")[number % 4],
        )  # fmt: skip
    top.stairs(total, steps, baseline=None, color=GREY, linewidth=2.2, label="expected, all")
    error = np.sqrt(np.maximum(counts, 1.0))
    top.errorbar(
        centre, counts, error, fmt="o", color="black", markersize=3.5, label="counted", linewidth=1
    )
    top.set_xscale("log")
    top.set_yscale("log")
    top.set_ylabel("photons in the band")
    top.tick_params(labelbottom=False)
    top.legend(fontsize=8, frameon=False, ncols=2)
    _ratio(low, centre, counts, total)
    low.set_xscale("log")
    for axes in (top, low):
        axes.set_xlim(steps[0], steps[-1])
    low.set_xlabel("energy (GeV)")
    low.set_ylabel("counted / expected")
    low.xaxis.set_major_formatter(ScalarFormatter())
    low.xaxis.set_minor_formatter(NullFormatter())
    tidy(top)
    tidy(low)
    return figure


def save_small(figure: Figure, path: Path) -> None:
    """Write a figure as PNG of 256 colours, atomically: a third of the size, no loss to the eye.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    with Image.open(buffer) as image, atomic(path) as temporary:
        small = image.convert("RGB").quantize(
            256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE
        )
        small.save(temporary, format="png", optimize=True)


def _ratio(axes: Any, x: Float64, counts: Float64, model: Float64) -> None:
    """Draw counts over model with Poisson errors of the model, and a band of 10 %."""
    safe = np.where(model > 0, model, np.inf)
    axes.axhspan(0.9, 1.1, color=GREY, alpha=0.18, linewidth=0)
    axes.axhline(1.0, color=GREY, linewidth=0.8)
    axes.errorbar(
        x, counts / safe, np.sqrt(np.maximum(counts, 1.0)) / safe, fmt="o", color="black",
        markersize=2.5, linewidth=0.8,
    )  # fmt: skip
    ratio = (counts / safe)[model > 0]
    axes.set_ylim(min([0.6, *(ratio - 0.05)]), max([1.4, *(ratio + 0.05)]))
