"""Columns that the classifier's evidence adds to the catalogue, named as in the LAT catalogues."""

from __future__ import annotations

from collections.abc import Iterable

from geminga.tables import Column

_ENERGY_FLUX = "erg cm-2 s-1"
CLASSIFIED = (
    Column("LP_Index", "float64", "", "slope of a log parabola fitted to Flux_Band"),
    Column("Unc_LP_Index", "float64", "", "its error"),
    Column("LP_beta", "float64", "", "curvature of that log parabola"),
    Column("Unc_LP_beta", "float64", "", "its error"),
    Column("LP_SigCurv", "float64", "", "significance of the curvature in sigma"),
    Column("Energy_Flux", "float64", _ENERGY_FLUX, "energy flux over all rows of EnergyBounds"),
    Column("Unc_Energy_Flux", "float64", _ENERGY_FLUX, "its error"),
    Column("Variability_Index", "float64", "", "2 ln of the likelihood ratio to a steady flux"),
    Column("Frac_Variability", "float64", "", "scatter of the yearly fluxes beyond their errors"),
    Column("Ext_Signif", "float64", "", "significance of an excess wider than the PSF in sigma"),
    Column("UNLIKE", "float64", "", "0 like, 1 unlike every class that was trained on"),
    Column("AMBIGUOUS", "bool", "", "the second class is nearly as probable"),
)
FLUX_HISTORY = "Flux_History"
UNC_FLUX_HISTORY = "Unc_Flux_History"
HISTORY_COLUMNS = (
    Column(FLUX_HISTORY, "float64", "ph cm-2 s-1", "photon flux 1-1000 GeV of each year"),
    Column(UNC_FLUX_HISTORY, "float64", "ph cm-2 s-1", "its errors down and up"),
)
"""Arrays over years in a file; one column for each year, ending in its number, in a frame."""


def history_names(names: Iterable[str]) -> list[str]:
    """Return the columns of years of a catalogue among `names`, in their order."""
    given = set(names)
    found: list[str] = []
    while (name := f"{FLUX_HISTORY}_{len(found) // 2}") in given:
        found += [name, f"Unc_{name}"]
    return found


def classified_columns(names: Iterable[str]) -> list[Column]:
    """Return those columns of a catalogue, among `names`, that come from the evidence."""
    given = set(names)
    columns = [column for column in CLASSIFIED if column.name in given]
    for number, name in enumerate(history_names(given)):
        whole = HISTORY_COLUMNS[number % 2]
        columns.append(Column(name, whole.dtype, whole.unit, whole.description))
    return columns
