"""What a network is told of each fitted source, to judge whether it is real."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from geminga.arrays import Float32, Float64
from geminga.geometry import unit_vectors

NEIGHBOUR_DEG = 2.0
"""A stronger source farther away than this says nothing."""
_GENERAL = (
    "sqrt_ts",
    "index",
    "index_error",
    "log_s1",
    "relative_s1_error",
    "log_position_error",
    "goodness",
    "neighbour_deg",
    "log_neighbour_ts",
)
_OF_CHANNEL = ("significance", "sqrt_counts", "log_background")
_LEAST_FLUX = 1e-13
_LEAST_BACKGROUND = 1e-3
"""Counts per square degree."""


def feature_names(channels: int) -> tuple[str, ...]:
    """Return the names of the features for a number of channels, in their order."""
    of_channels = (f"{name}_{c}" for name in _OF_CHANNEL for c in range(channels))
    return (*_GENERAL, *of_channels)


def source_features(sources: pd.DataFrame, channels: int) -> Float32:
    """Return the features of the sources of one sky.

    No position enters, so that a network learns no place of the sky by heart; how bright the
    diffuse emission is there does.

    Parameters
    ----------
    sources : DataFrame
        Columns of `tables.patch_sources`, the whole list of a sky: neighbours matter.
    channels : int
        Number of channels.

    Returns
    -------
    Float32 (n, features)
        In the order of `feature_names`.
    """
    column = {name: sources[name].to_numpy(np.float64) for name in sources if name in _NEEDED}
    variance = 0.5 * (column["cov_east_deg2"] + column["cov_north_deg2"])
    flux = np.maximum(column["s1"], _LEAST_FLUX)
    distance, neighbour_ts = stronger_neighbour(
        column["lon_deg"], column["lat_deg"], column["ts"], NEIGHBOUR_DEG
    )
    values = [
        np.sqrt(np.maximum(column["ts"], 0.0)),
        column["index"],
        column["index_error"],
        np.log10(flux),
        column["s1_error"] / flux,
        0.5 * np.log10(np.maximum(variance, 1e-12)),
        column["goodness"],
        distance,
        np.log10(1.0 + neighbour_ts),
    ]
    counts, error, background = (
        [sources[f"{name}_{c}"].to_numpy(np.float64) for c in range(channels)]
        for name in ("counts", "counts_error", "background")
    )
    values += [n / np.maximum(e, 1e-3) for n, e in zip(counts, error, strict=True)]
    values += [np.sqrt(np.maximum(n, 0.0)) for n in counts]
    values += [np.log10(b + _LEAST_BACKGROUND) for b in background]
    return np.stack(values, axis=1).astype(np.float32)


_NEEDED = frozenset(
    [
        "lon_deg",
        "lat_deg",
        "ts",
        "s1",
        "s1_error",
        "index",
        "index_error",
        "cov_east_deg2",
        "cov_north_deg2",
        "goodness",
    ]
)


def stronger_neighbour(
    lon_deg: Float64, lat_deg: Float64, ts: Float64, radius_deg: float
) -> tuple[Float64, Float64]:
    """Return distance in degrees and TS of the nearest source of higher TS, each (n,).

    Where there is none within the radius: the radius, and 0.
    """
    vectors = unit_vectors(lon_deg, lat_deg)
    distance, value = np.full(len(ts), radius_deg), np.zeros(len(ts))
    if not len(ts):
        return distance, value
    chord = 2.0 * np.sin(np.radians(radius_deg) / 2.0)
    pairs = cKDTree(vectors).query_pairs(chord, output_type="ndarray")
    a, b = pairs[:, 0], pairs[:, 1]
    weaker, stronger = np.where(ts[a] < ts[b], a, b), np.where(ts[a] < ts[b], b, a)
    length = np.linalg.norm(vectors[a] - vectors[b], axis=1)
    apart = np.degrees(2.0 * np.arcsin(np.minimum(length / 2.0, 1.0)))
    order = np.lexsort([stronger, apart, weaker])
    first = np.ones(len(order), np.bool_)
    first[1:] = weaker[order][1:] != weaker[order][:-1]
    chosen = order[first]
    distance[weaker[chosen]] = apart[chosen]
    value[weaker[chosen]] = ts[stronger[chosen]]
    return distance, value
