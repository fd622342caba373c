"""Detections on extended sources: neither true nor false."""

from __future__ import annotations

import numpy as np
import pandas as pd

from geminga.arrays import Bool
from geminga.geometry import unit_vectors
from geminga.matching import match


def on_extended(frame: pd.DataFrame, extended: pd.DataFrame, margin_deg: float) -> Bool:
    """Return which rows lie on an extended source, shape (n,).

    Parameters
    ----------
    frame : DataFrame
        With ``lon_deg`` and ``lat_deg``.
    extended : DataFrame
        Table EXTENDED.
    margin_deg : float
        Added to the radius of every extended source: the match radius for detections, 0 for
        sources.
    """
    places = unit_vectors(frame["lon_deg"].to_numpy(), frame["lat_deg"].to_numpy())
    centres = unit_vectors(extended["lon_deg"].to_numpy(), extended["lat_deg"].to_numpy())
    result = np.zeros(len(frame), dtype=np.bool_)
    for centre, radius in zip(centres, extended["radius_deg"].to_numpy(), strict=True):
        # The chord keeps small angles exact.
        chord = 2.0 * np.sin(np.radians(min(radius + margin_deg, 180.0)) / 2.0)
        result |= np.linalg.norm(places - centre, axis=1) <= chord
    return result


def matched(candidates: pd.DataFrame, sources: pd.DataFrame, radius_deg: float) -> Bool:
    """Return which detections are paired with a source (column ``s1`` ranks them), shape (n,)."""
    matches = match(candidates, sources, radius_deg)
    pairs = matches[(matches["candidate"] >= 0) & (matches["source"] >= 0)]
    result = np.zeros(len(candidates), dtype=np.bool_)
    result[pairs["candidate"].to_numpy()] = True
    return result


def masked(
    candidates: pd.DataFrame, is_true: Bool, extended: pd.DataFrame, radius_deg: float
) -> Bool:
    """Return which detections lie on an extended source and match no point source, shape (n,).

    They found something, though no point: they are left out of true and false detections alike.

    Parameters
    ----------
    candidates : DataFrame
        Table CANDIDATES.
    is_true : Bool (n,)
        Whether each matches a point source.
    extended : DataFrame
        Table EXTENDED.
    radius_deg : float
        Match radius, added to the radii.
    """
    return on_extended(candidates, extended, radius_deg) & ~is_true
