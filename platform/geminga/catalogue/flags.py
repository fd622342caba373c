"""Flags of a source: what to beware of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from geminga.arrays import Bool, Float64, Int64
from geminga.geometry import lon_lat, tangent_frames, unit_vectors
from geminga.sky.coverage import Coverage

EDGE_DEG = 0.5
NEAR_DEG = 0.3
"""The distance within which a detection counts as found, as the evaluation has it: two sources
this close are easily taken for each other whatever the PSF."""
CENTRE_DEG = 5.0
GOODNESS = 5.0
BACKGROUND_ERROR = 0.03
"""Relative error of an estimated background inside r68, in the plane."""
BACKGROUND_SHIFT = 0.5
"""Flagged where it shifts a source's counts by more than this part of their error."""


class Flag(IntFlag):
    """Bits of the column Flags."""

    EDGE = 1
    CONFUSED = 2
    EXTENDED = 4
    NOT_CONVERGED = 8
    NOT_POINTLIKE = 16
    INDEX_OF_PRIOR = 32
    BACKGROUND_MATTERS = 64
    GALACTIC_CENTRE = 128


FLAG_TEXT: dict[Flag, str] = {
    Flag.EDGE: f"within {EDGE_DEG:g} deg of the edge of its patch or of the data",
    Flag.CONFUSED: f"another source within {NEAR_DEG:g} deg or within the PSF's r68",
    Flag.EXTENDED: f"on a listed extended source or {NEAR_DEG:g} deg around it",
    Flag.NOT_CONVERGED: "the fit did not come to rest",
    Flag.NOT_POINTLIKE: f"no point source with a power law: goodness > {GOODNESS:g}",
    Flag.INDEX_OF_PRIOR: "the prior tells more of PL_Index than photons do",
    Flag.BACKGROUND_MATTERS: f"{BACKGROUND_ERROR:.0%} more background shifts counts by "
    f"{BACKGROUND_SHIFT:g} errors",
    Flag.GALACTIC_CENTRE: f"within {CENTRE_DEG:g} deg of the Galactic centre",
}
"""Meaning of each bit, as it stands in the header: 68 characters at most with the name."""


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What flags are judged by that the fits do not tell; what is not known flags nothing.

    Attributes
    ----------
    psf_r68_deg : tuple of float
        Radius that holds 68 % of a point source's photons, one per channel; may be empty.
    extended : DataFrame, optional
        Table EXTENDED.
    coverage : Coverage, optional
        The part of the sky there are data of.
    index_prior_width : float
        Of the prior of photon indices.
    """

    psf_r68_deg: tuple[float, ...] = ()
    extended: pd.DataFrame | None = None
    coverage: Coverage | None = None
    index_prior_width: float = np.inf


def flags_of(candidates: pd.DataFrame, around: Surroundings) -> Int64:
    """Return the flags (n,) of fitted candidates, all of one sky: neighbours matter.

    The PSF is that of the energies a source is seen at: channels are weighted by the square of
    counts over their error.

    Parameters
    ----------
    candidates : DataFrame
        Columns of PATCH_SOURCES, and those of the channels for what needs a PSF.
    around : Surroundings
    """
    value = {name: candidates[name].to_numpy(np.float64) for name in _NEEDED}
    vectors = unit_vectors(value["lon_deg"], value["lat_deg"])
    n = len(candidates)
    r68, shift = np.zeros(n), np.zeros(n)
    if around.psf_r68_deg:
        r68, shift = _at_its_energies(candidates, around.psf_r68_deg)
    raised: dict[Flag, Bool] = {
        Flag.EDGE: (value["edge_deg"] < EDGE_DEG) | _near_no_data(vectors, around.coverage),
        Flag.CONFUSED: _nearest_deg(vectors) < np.maximum(r68, NEAR_DEG),
        Flag.EXTENDED: _on_extended(vectors, around.extended),
        Flag.NOT_CONVERGED: ~candidates["converged"].to_numpy(np.bool_),
        Flag.NOT_POINTLIKE: value["goodness"] > GOODNESS,
        # Width of the prior and error of the photons alone add as 1 / error^2.
        Flag.INDEX_OF_PRIOR: value["index_error"] > around.index_prior_width / np.sqrt(2.0),
        Flag.BACKGROUND_MATTERS: shift > BACKGROUND_SHIFT,
        Flag.GALACTIC_CENTRE: vectors[:, 0] > np.cos(np.radians(CENTRE_DEG)),
    }
    result = np.zeros(n, dtype=np.int64)
    for flag, where in raised.items():
        result[where] |= int(flag)
    return result


_NEEDED = ("lon_deg", "lat_deg", "edge_deg", "goodness", "index_error")


def _at_its_energies(candidates: pd.DataFrame, r68: Sequence[float]) -> tuple[Float64, Float64]:
    """Return r68, and how far `BACKGROUND_ERROR` shifts counts in errors of theirs, each (n,).

    Raises
    ------
    ValueError
        If the candidates lack a channel's columns.
    """
    radius = np.array(r68)
    names = [f"{kind}_{c}" for kind in _OF_CHANNEL for c in range(len(radius))]
    if missing := [name for name in names if name not in candidates]:
        raise ValueError(f"candidates have no {', '.join(missing)}, but there is a PSF of them")
    counts, error, background = candidates[names].to_numpy(np.float64).T.reshape(3, len(radius), -1)
    weight = (counts / np.maximum(error, np.finfo(float).tiny)) ** 2
    total = weight.sum(axis=0)
    seen = total > 0
    weight = np.where(seen, weight / np.where(seen, total, 1.0), 1.0 / len(radius))
    # What the background inside r68 gains or loses is 0.68 of what it adds to a source.
    gain = BACKGROUND_ERROR * np.pi * radius[:, None] ** 2 * background / 0.68
    errors = np.divide(gain, error, out=np.zeros_like(gain), where=error > 0)
    return radius @ weight, np.sum(weight * errors, axis=0)


_OF_CHANNEL = ("counts", "counts_error", "background")


def _nearest_deg(vectors: Float64) -> Float64:
    """Return the distance of each direction to the nearest other one; inf if it is alone."""
    if len(vectors) < 2:
        return np.full(len(vectors), np.inf)
    chord = cKDTree(vectors).query(vectors, k=2)[0][:, 1]
    return np.asarray(np.degrees(2.0 * np.arcsin(np.minimum(chord / 2.0, 1.0))))


def _on_extended(vectors: Float64, extended: pd.DataFrame | None) -> Bool:
    result = np.zeros(len(vectors), dtype=np.bool_)
    if extended is None:
        return result
    centres = unit_vectors(extended["lon_deg"].to_numpy(), extended["lat_deg"].to_numpy())
    for centre, radius in zip(centres, extended["radius_deg"].to_numpy(), strict=True):
        result |= vectors @ centre > np.cos(np.radians(min(radius + NEAR_DEG, 180.0)))
    return result


def _near_no_data(vectors: Float64, coverage: Coverage | None) -> Bool:
    """Return which directions have a point at `EDGE_DEG` from them, of eight, without data."""
    result = np.zeros(len(vectors), dtype=np.bool_)
    if coverage is None or coverage.whole or not len(vectors):
        return result
    frames = tangent_frames(*lon_lat(vectors))
    for angle in np.arange(8) * np.pi / 4.0:
        aside = np.sin(angle) * frames[:, 1] + np.cos(angle) * frames[:, 2]
        radius = np.radians(EDGE_DEG)
        ring = np.cos(radius) * vectors + np.sin(radius) * aside
        result |= ~coverage.holds(*lon_lat(ring))
    return result
