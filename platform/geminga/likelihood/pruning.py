"""Which of the sources fitted to a patch are one, and which are none."""

from __future__ import annotations

import numpy as np

from geminga.arrays import Bool, Float64, Int64
from geminga.likelihood.removal import CLOSE_DEG

TWIN_DEG = 0.05
"""Fits that end this close to each other are of one source. Left as two, each could take the place of
the other, neither would be worth a TS, and both would be given up."""


def without_twins(x_deg: Float64, y_deg: Float64, flux: Float64) -> tuple[Int64, Float64]:
    """Return which sources are no fainter twin of another, and all fluxes, twins' added to theirs.

    Parameters
    ----------
    x_deg, y_deg, flux : Float64 (m,)
        Places on the plane, and fluxes.

    Returns
    -------
    rows : Int64 (n,)
        Sources to keep, in their order: no two are closer than `TWIN_DEG`.
    flux : Float64 (m,)
        What a twin had is the brighter one's.
    """
    total, kept = flux.copy(), np.ones(len(flux), np.bool_)
    order = np.argsort(-flux, kind="stable")
    for position, row in enumerate(order):
        if not kept[row]:
            continue
        fainter = order[position + 1 :]
        apart = np.hypot(x_deg[fainter] - x_deg[row], y_deg[fainter] - y_deg[row])
        twins = fainter[(apart < TWIN_DEG) & kept[fainter]]
        total[row] += total[twins].sum()
        kept[twins] = False
    return np.flatnonzero(kept), total


def given_up(
    x_deg: Float64, y_deg: Float64, flux: Float64, ts: Float64, least_ts: float
) -> tuple[Bool, bool]:
    """Return which sources to give up first, and whether others must be measured without them.

    Two sources that can take each other's place both have a small TS: the fainter one goes, and the
    brighter is measured again.

    Parameters
    ----------
    x_deg, y_deg, flux, ts : Float64 (m,)
        As fitted; `ts` with neighbours refitted.
    least_ts : float
        Sources below are given up.

    Returns
    -------
    gone : Bool (m,)
    again : bool
        Whether a source that stays is within `CLOSE_DEG` of one that goes.
    """
    weak = np.asarray((ts < least_ts) | (flux <= 0.0))
    close = np.hypot(x_deg[:, None] - x_deg, y_deg[:, None] - y_deg) < CLOSE_DEG
    gone = weak & ~np.any(close & weak[None, :] & (flux[None, :] < flux[:, None]), axis=1)
    again = np.any(close & gone[None, :], axis=1) & ~gone
    return gone, bool(again.any())
