"""The worst cases: most confident false detections and brightest missed sources, with images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.spatial import cKDTree

from geminga.arrays import Float64
from geminga.errors import InputError
from geminga.evaluation.ranked import RankedList
from geminga.evaluation.style import COLOURS, empty_note, new_figure
from geminga.geometry import unit_vectors


def confident_false(ranked: RankedList, number: int = 10) -> pd.DataFrame:
    """Return the false detections of highest score, surest first.

    Returns
    -------
    DataFrame
        Their rows of ``ranked.detections`` with ``nearest_deg``, ``nearest_s1``, ``nearest_ts``:
        distance, flux and expected TS of the true source nearest to each (NaN where there is
        none, or its TS is not known), and ``caption``.
    """
    d = ranked.detections
    false = d[~d["is_true"].to_numpy(np.bool_)]
    false = false.sort_values("score", ascending=False, kind="stable").head(number)
    distance, row = _nearest(false, ranked.sources)
    near = {
        f"nearest_{name}": np.append(ranked.sources[name].to_numpy(np.float64), np.nan)[row]
        for name in ("s1", "ts")
    }
    out = false.assign(nearest_deg=distance, **near).reset_index(drop=True)
    kind = np.where(out["is_duplicate"].to_numpy(np.bool_), "second detection", "false")
    captions = [
        f"{_place(r)}\n{what}: {_claims(r)}\n{_neighbour('source', r, _brightness(r, 'nearest_'))}"
        for (_, r), what in zip(out.iterrows(), kind, strict=True)
    ]
    return out.assign(caption=np.array(captions, dtype=object))


def brightest_missed(ranked: RankedList, cut: float, number: int = 10) -> pd.DataFrame:
    """Return the brightest sources that the list at or above a cut does not find.

    By expected TS where that is known, for then the photons had shown them; else by S1.

    Returns
    -------
    DataFrame
        Their rows of ``ranked.sources`` with ``nearest_deg`` and ``nearest_score``: distance and
        score of the nearest detection at any score (NaN without one), and ``caption``.
    """
    s = ranked.sources
    missed = s[s["found_score"].to_numpy(np.float64) < cut]
    # Not known: behind all that are.
    missed = missed.sort_values(["ts", "s1"], ascending=False, kind="stable").head(number)
    distance, row = _nearest(missed, ranked.detections)
    score = np.append(ranked.detections["score"].to_numpy(np.float64), np.nan)[row]
    out = missed.assign(nearest_deg=distance, nearest_score=score).reset_index(drop=True)
    captions = [
        f"{_place(r)}\nmissed: {_claims(r)}\n"
        f"{_neighbour('detection', r, 'score {:.3g}'.format(r['nearest_score']))}"
        for _, r in out.iterrows()
    ]
    return out.assign(caption=np.array(captions, dtype=object))


def _place(row: pd.Series) -> str:
    return f"sky {int(row['sky'])}: l {row['lon_deg']:.2f}, b {row['lat_deg']:+.2f}"


_CLAIMS = (("ts", "TS {:.0f}"), ("s1", "S1 {:.2g}"), ("index", "index {:.2f}"))


def _claims(row: pd.Series) -> str:
    """Return what is known of a detection or a source, as far as its table says so."""
    name = "p" if "probability" in row.index else "score"
    parts = [f"{name} {row['score']:.3g}"] if "score" in row.index else []
    known = [(n, form) for n, form in _CLAIMS if n in row.index and np.isfinite(row[n])]
    return ", ".join([*parts, *(form.format(row[n]) for n, form in known)])


def _brightness(row: pd.Series, start: str) -> str:
    ts, s1 = row[f"{start}ts"], row[f"{start}s1"]
    return f"TS {ts:.0f}" if np.isfinite(ts) else f"S1 {s1:.2g}"


def _neighbour(what: str, row: pd.Series, brightness: str) -> str:
    if not np.isfinite(row["nearest_deg"]):
        return f"no {what} on this sky"
    return f"nearest {what} at {row['nearest_deg']:.2f}°: {brightness}"


def _nearest(frame: pd.DataFrame, others: pd.DataFrame) -> tuple[Float64, list[int]]:
    """Return distance and row of the nearest of `others` on the same sky; NaN and -1 without."""
    distance, row = np.full(len(frame), np.nan), np.full(len(frame), -1, dtype=np.int64)
    sky, other_sky = frame["sky"].to_numpy(), others["sky"].to_numpy()
    mine, theirs = _directions(frame), _directions(others)
    for one in np.unique(sky):
        here, there = np.flatnonzero(sky == one), np.flatnonzero(other_sky == one)
        if not len(there):
            continue
        chord, index = cKDTree(theirs[there]).query(mine[here])
        distance[here] = np.degrees(2.0 * np.arcsin(np.minimum(chord / 2.0, 1.0)))
        row[here] = there[index]
    return distance, [int(r) for r in row]


def _directions(frame: pd.DataFrame) -> Float64:
    return unit_vectors(
        frame["lon_deg"].to_numpy(np.float64), frame["lat_deg"].to_numpy(np.float64)
    )


@dataclass(frozen=True, eq=False)
class CutOut:
    """One image of a gallery.

    Attributes
    ----------
    image : array (n, n)
        Counts, or anything else; row to the north, column to the east.
    size_deg : float
        Width; the place itself is at the centre.
    caption : str
        Up to four lines above it, from its left edge; long ones run on over images that follow
        with an empty caption.
    sources_xy_deg, detections_xy_deg : Float64 (m, 2)
        True sources and detections near it, degrees to the east and north of the centre.
    label : str
        What is shown, inside the image.
    """

    image: Float64
    size_deg: float
    caption: str
    sources_xy_deg: Float64
    detections_xy_deg: Float64
    label: str = ""


def gallery(cutouts: Sequence[CutOut], title: str = "", columns: int = 5) -> Figure:
    """Draw images with captions, longitude rising to the left.

    Each is coloured on its own from its smallest value to its 99.5th percentile; circles are true
    sources, crosses detections.

    Raises
    ------
    InputError
        If an image is not square, or a size or the number of columns is not positive.
    """
    if columns < 1:
        raise InputError("gallery", f"{columns} columns", "use at least one")
    for cutout in cutouts:
        shape = np.shape(cutout.image)
        if len(shape) != 2 or shape[0] != shape[1] or not shape[0]:
            raise InputError("gallery", f"an image of shape {shape}", "give square images")
        if not cutout.size_deg > 0:
            raise InputError("gallery", f"an image {cutout.size_deg} deg wide", "give its width")
    rows = max(-(-len(cutouts) // columns), 1)
    across = min(max(len(cutouts), 1), columns)
    figure = new_figure(max(2.1 * across, 4.2), 2.6 * rows + (0.35 if title else 0.0))
    grid = figure.subplots(rows, across, squeeze=False).ravel()
    for axes in grid:
        axes.set_axis_off()
    if not cutouts:
        empty_note(grid[0], "none")
    for axes, cutout in zip(grid, cutouts, strict=False):
        half = cutout.size_deg / 2.0
        image = np.asarray(cutout.image, dtype=np.float64)
        low, high = np.nanquantile(image, [0.0, 0.995]) if np.isfinite(image).any() else (0, 1)
        axes.imshow(
            image, origin="lower", extent=(-half, half, -half, half), cmap="viridis",
            vmin=low, vmax=high if high > low else low + 1.0, interpolation="nearest",
        )  # fmt: skip
        for xy, style in (
            (cutout.sources_xy_deg, {"marker": "o", "facecolors": "none", "edgecolors": "white"}),
            (cutout.detections_xy_deg, {"marker": "x", "color": COLOURS[1]}),
        ):
            points = np.asarray(xy, dtype=np.float64).reshape(-1, 2)
            axes.scatter(points[:, 0], points[:, 1], s=30, linewidths=1.0, **style)
        axes.set_xlim(half, -half)
        axes.set_ylim(-half, half)
        axes.set_title(cutout.caption, fontsize=7, loc="left")
        if cutout.label:
            axes.text(
                0.03, 0.03, cutout.label, transform=axes.transAxes, fontsize=7, color="white",
                bbox={"facecolor": "black", "alpha": 0.5, "linewidth": 0, "pad": 1.0},
            )  # fmt: skip
    if title:
        figure.suptitle(title, fontsize=11)
    return figure
