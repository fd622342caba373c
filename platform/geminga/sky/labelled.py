"""Which sources of a simulated sky a search is meant to find."""

from __future__ import annotations

import pandas as pd

from geminga.config import SkyConfig


def labelled(table: pd.DataFrame, settings: SkyConfig) -> pd.DataFrame:
    """Return the sources that are targets of training and truth of evaluation.

    With ``sky.depth`` a sky holds tens of thousands of sources that no search can tell from the
    background; only those from ``sky.labelled_flux`` up count.

    Parameters
    ----------
    table : DataFrame
        TRUTH rows.
    settings : SkyConfig
        Section ``sky`` of the configuration.
    """
    if settings.labelled_flux is None:
        return table
    return table[table["s1"] >= settings.labelled_flux]
