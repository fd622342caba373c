"""Sources as peaks of maps made from the counts of some bands, a few patches at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from geminga.arrays import Float64, Int64
from geminga.bands import Band
from geminga.errors import InputError
from geminga.likelihood.peaks import local_maxima
from geminga.localisation.tables import check_patches, patch_detections

PATCHES_AT_ONCE = 32
"""Bounds the memory: about 80 MiB for six bands of 128 pixels."""


def peak_sources(
    images: Sequence[np.ndarray],
    bands: Sequence[Band],
    min_gev: float,
    make_maps: Callable[[Sequence[Float64], Sequence[Band]], Float64],
    threshold: float,
    radius_deg: float,
    sky_id: int,
    patch_ids: Int64,
    frames: Float64,
    size_deg: float,
) -> pd.DataFrame:
    """Find the peaks of significance maps.

    Parameters
    ----------
    images : sequence of arrays, one per band, shape (patches, n_b, n_b)
        Counts.
    bands : sequence of Band
        All bands of the configuration, in order.
    min_gev : float
        Bands that start at or above it are used, all if none does.
    make_maps : callable
        Counts and bands that are used to maps (patches, n, n) on the grid of the finest of them.
    threshold, radius_deg : float
        A peak is at least as high, and the highest within the radius.
    sky_id, patch_ids, frames, size_deg
        As for `geminga.localisation.cluster.find_sources`.

    Returns
    -------
    pandas.DataFrame
        PATCH_DETECTIONS; the position is the vertex of a parabola, the score the height,
        ``group_pixels`` is 1.

    Raises
    ------
    InputError
        If there is not one image array per band, shapes disagree, or counts are not finite and
        non-negative.
    """
    chosen = check_counts(images, bands, min_gev, patch_ids, frames)
    used = [bands[b] for b in chosen]
    pixels = max(images[b].shape[1] for b in chosen)
    radius_px = radius_deg / size_deg * pixels
    found = [np.empty((0, 4))]
    for first in range(0, len(patch_ids), PATCHES_AT_ONCE):
        part = [images[b][first : first + PATCHES_AT_ONCE].astype(np.float64) for b in chosen]
        patch, row, column, height = local_maxima(make_maps(part, used), threshold, radius_px)
        found.append(np.column_stack([patch + first, row, column, height]))
    patch_of, row, column, score = np.concatenate(found).T
    return patch_detections(
        sky_id,
        patch_ids,
        frames,
        size_deg,
        pixels,
        patch_of.astype(np.int64),
        row,
        column,
        score,
        np.ones(len(score), dtype=np.int64),
    )


def search_bands(bands: Sequence[Band], min_gev: float) -> list[int]:
    """Return the numbers of the bands that start at or above `min_gev`; all if there is none."""
    chosen = [b for b, band in enumerate(bands) if band.emin_gev >= min_gev]
    return chosen or list(range(len(bands)))


def check_counts(
    images: Sequence[np.ndarray],
    bands: Sequence[Band],
    min_gev: float,
    patch_ids: Int64,
    frames: Float64,
) -> list[int]:
    """Return the numbers of the bands to be searched, as `search_bands`; their counts are sound.

    Raises
    ------
    InputError
        If there is not one image array per band, shapes disagree, or counts are not finite and
        non-negative.
    """
    if len(images) != len(bands):
        raise InputError(
            "counts images", f"{len(images)} for {len(bands)} bands", "give one array per band"
        )
    chosen = search_bands(bands, min_gev)
    for b in chosen:
        shape = images[b].shape
        if len(shape) != 3 or shape[1] != shape[2]:
            raise InputError(
                f"counts of band {bands[b].label}", f"shape {shape}", "must be (patches, n, n)"
            )
        check_patches(shape[0], patch_ids, frames)
        if not bool(np.all(images[b] >= 0)) or not bool(np.all(np.isfinite(images[b]))):
            raise InputError(
                f"counts of band {bands[b].label}",
                "negative or not finite",
                "give photon counts",
            )
    return chosen
