"""Sources that a search of a patch starts from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from geminga.arrays import Float64
from geminga.geometry import unit_vectors

KNOWN = ("lon_deg", "lat_deg", "s1", "index")
"""Columns of sources that a search starts from."""


@dataclass(frozen=True, eq=False)
class KnownSources:
    """Sources that a search starts from, anywhere on the sky.

    Attributes
    ----------
    vectors : Float64 (n, 3)
    flux, index : Float64 (n,)
        ph/cm2/s between 1 and 1000 GeV; photon index.
    """

    vectors: Float64
    flux: Float64
    index: Float64


def known_sources(table: pd.DataFrame | None = None) -> KnownSources:
    """Return the sources of a table with the columns `KNOWN`, or none."""
    if table is None:
        return KnownSources(np.zeros((0, 3)), np.zeros(0), np.zeros(0))
    lon, lat, flux, index = (table[name].to_numpy(np.float64) for name in KNOWN)
    return KnownSources(unit_vectors(lon, lat), flux, index)
