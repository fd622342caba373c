"""Which sources of a simulated sky a search is meant to find."""

from __future__ import annotations

import pandas as pd

from geminga.config import SkyConfig

FAINTEST_WITH_DEPTH = 1e-10
"""Photon flux 1-1000 GeV from which sources count where ``sky.depth`` adds fainter ones; 94 % of
the sources of 4FGL-DR2 are brighter."""


def labelled(table: pd.DataFrame, settings: SkyConfig) -> pd.DataFrame:
    """Return the sources that are targets of training and truth of evaluation.

    With ``sky.depth`` a sky holds tens of thousands of sources that no search can tell from the
    background; only those from ``sky.labelled_flux`` up count. With ``sky.least_ts`` there are
    none of the others.

    Parameters
    ----------
    table : DataFrame
        TRUTH rows.
    settings : SkyConfig
        Section ``sky`` of the configuration.
    """
    faintest = settings.labelled_flux
    if faintest is None and settings.depth is not None and settings.least_ts is None:
        faintest = FAINTEST_WITH_DEPTH
    return table if faintest is None else table[table["s1"] >= faintest]
