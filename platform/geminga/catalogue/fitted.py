"""Columns that a likelihood fit adds to the catalogue, named as in the LAT catalogues."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from geminga.arrays import Float64
from geminga.catalogue.ellipses import CONF_68, CONF_95, ellipse_of
from geminga.catalogue.flags import Surroundings, flags_of
from geminga.likelihood.position_errors import COVARIANCE, TAIL
from geminga.tables import PATCH_SOURCES, Column

PIVOT_MEV = 1e3
PROBABILITY = Column("PROBABILITY", "float64", "", "calibrated probability of being real")
_FLUX, _DENSITY = "ph cm-2 s-1", "ph cm-2 MeV-1 s-1"


def _ellipse(level: str) -> tuple[Column, ...]:
    return (
        Column(f"Conf_{level}_SemiMajor", "float64", "deg", f"long radius of error at {level} %"),
        Column(f"Conf_{level}_SemiMinor", "float64", "deg", f"short radius of error at {level} %"),
        Column(
            f"Conf_{level}_PosAng", "float64", "deg", "of the long radius, celestial north to east"
        ),
    )


FITTED = (
    *_ellipse("68"),
    *_ellipse("95"),
    Column("TS", "float64", "", "test statistic of the source"),
    Column("Signif_Avg", "float64", "", "its root: significance in sigma"),
    Column("Flux1000", "float64", _FLUX, "photon flux 1-1000 GeV"),
    Column("Unc_Flux1000", "float64", _FLUX, "its error"),
    Column("SpectrumType", "str", "", "spectral form fitted"),
    Column("Pivot_Energy", "float64", "MeV", "energy of PL_Flux_Density"),
    Column("PL_Flux_Density", "float64", _DENSITY, "differential flux at Pivot_Energy"),
    Column("Unc_PL_Flux_Density", "float64", _DENSITY, "its error, the index held"),
    Column("PL_Index", "float64", "", "photon index"),
    Column("Unc_PL_Index", "float64", "", "its error"),
    Column("Flags", "int64", "", "sum of the bits explained by FLAG1, FLAG2, ..."),
)
FLUX_BAND = "Flux_Band"
UNC_FLUX_BAND = "Unc_Flux_Band"
BAND_COLUMNS = (
    Column(FLUX_BAND, "float64", _FLUX, "photon flux in each row of EnergyBounds"),
    Column(UNC_FLUX_BAND, "float64", _FLUX, "its errors down and up; down NaN where it is 0"),
)
"""Arrays over channels in a file; one column for each channel, ending in its number, in a frame."""


def is_fitted(names: Iterable[str]) -> bool:
    """Return whether candidates with columns of these names come from a likelihood fit."""
    return {*PATCH_SOURCES.names} <= {*names}


def band_names(names: Iterable[str]) -> list[str]:
    """Return the columns of channels of a catalogue among `names`, in their order."""
    given = set(names)
    found: list[str] = []
    while (name := f"{FLUX_BAND}_{len(found) // 2}") in given:
        found += [name, f"Unc_{name}"]
    return found


def fitted_columns(names: Iterable[str]) -> list[Column]:
    """Return those columns of a catalogue, among `names`, that come from a fit."""
    given = set(names)
    if FITTED[0].name not in given:
        return []
    columns = [*FITTED[:-1]]
    columns += [PROBABILITY] if PROBABILITY.name in given else []
    for number, name in enumerate(band_names(given)):
        whole = BAND_COLUMNS[number % 2]
        columns.append(Column(name, whole.dtype, whole.unit, whole.description))
    return [*columns, FITTED[-1]]


def fitted_values(candidates: pd.DataFrame, around: Surroundings) -> dict[str, object]:
    """Return the values of `fitted_columns` for fitted candidates of one sky.

    Parameters
    ----------
    candidates : DataFrame
        CANDIDATES and PATCH_SOURCES; ``position_tail`` (1 without it), ``probability`` and the
        channels' ``flux_<c>``, ``flux_error_<c>`` where there are any. Covariances are taken to
        be calibrated.
    around : Surroundings
        For the flags.
    """
    value = {
        name: candidates[name].to_numpy(np.float64)
        for name in candidates.columns
        if candidates[name].dtype.kind == "f"
    }
    n = len(candidates)
    covariance = np.stack([value[name] for name in COVARIANCE], axis=-1)
    major, minor, angle = ellipse_of(value["lon_deg"], value["lat_deg"], covariance)
    tail = value.get(TAIL, np.ones(n))
    density = flux_density(value["s1"], value["index"])
    result: dict[str, object] = {
        "Conf_68_SemiMajor": CONF_68 * major,
        "Conf_68_SemiMinor": CONF_68 * minor,
        "Conf_68_PosAng": angle,
        "Conf_95_SemiMajor": CONF_95 * tail * major,
        "Conf_95_SemiMinor": CONF_95 * tail * minor,
        "Conf_95_PosAng": angle,
        "TS": value["ts"],
        "Signif_Avg": np.sqrt(np.maximum(value["ts"], 0.0)),
        "Flux1000": value["s1"],
        "Unc_Flux1000": value["s1_error"],
        "SpectrumType": np.full(n, "PowerLaw", dtype=object),
        "Pivot_Energy": np.full(n, PIVOT_MEV),
        "PL_Flux_Density": density,
        "Unc_PL_Flux_Density": flux_density(value["s1_error"], value["index"]),
        "PL_Index": value["index"],
        "Unc_PL_Index": value["index_error"],
        "Flags": flags_of(candidates, around),
    }
    if "probability" in value:
        result[PROBABILITY.name] = value["probability"]
    channel = 0
    while f"flux_{channel}" in value:
        result[f"{FLUX_BAND}_{channel}"] = value[f"flux_{channel}"]
        result[f"{UNC_FLUX_BAND}_{channel}"] = value[f"flux_error_{channel}"]
        channel += 1
    return result


def flux_density(s1: Float64, index: Float64) -> Float64:
    """Return the differential flux at 1 GeV, ph/cm2/s/MeV, of power laws of a flux 1-1000 GeV."""
    slope = np.asarray(index, dtype=np.float64) - 1.0
    log_ratio = np.log(1e3)
    # int (E/E0)^-index dE over E0 is (1 - 1000^-slope) / slope, ln 1000 where the slope is 0.
    flat = np.abs(slope) < 1e-9
    safe = np.where(flat, 1.0, slope)
    width = np.where(flat, log_ratio, -np.expm1(-safe * log_ratio) / safe)
    return np.asarray(s1 / (width * PIVOT_MEV))
