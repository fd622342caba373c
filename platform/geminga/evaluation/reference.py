"""Published Fermi-LAT catalogues as tables to compare with."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.io import fits
from numpy.typing import NDArray

from geminga.errors import InputError
from geminga.files import read_parquet
from geminga.geometry import lon_lat, unit_vectors
from geminga.sky.emission.extended import PARQUET
from geminga.sky.formats.fits_input import (
    column_name,
    galactic_from_equatorial,
    open_fits,
    require_columns,
)
from geminga.tables import Column, Table

_LOG = logging.getLogger(__name__)

REFERENCE = Table(
    "reference",
    (
        Column("name", "str", "", "source name"),
        Column("lon_deg", "float64", "deg", "Galactic longitude"),
        Column("lat_deg", "float64", "deg", "Galactic latitude"),
        Column("flux", "float64", "cm-2 s-1", "photon flux in the catalogue's own band"),
        Column("extended", "bool", "", "modelled as extended"),
        Column("class_name", "str", "", "class as the catalogue gives it, empty if unknown"),
    ),
)
"""Sources of one published catalogue."""

FLUX_COLUMNS = ("Flux50", "Flux", "Flux1000")
"""Photon fluxes above 50 GeV (2FHL), 10 GeV (3FHL) and 1 GeV (4FGL)."""

CLASS_COLUMNS = ("CLASS", "CLASS1")


def read_reference_catalog(path: Path, name: str) -> pd.DataFrame:
    """Read a LAT source catalogue: 2FHL, 3FHL, 4FGL or one with their columns.

    Parameters
    ----------
    path : Path
        FITS file, for example gll_psch_v09 (2FHL), gll_psch_v13 (3FHL), gll_psc_v27 (4FGL-DR2);
        or the Parquet table that ``geminga ingest --catalogs`` made of one.
    name : str
        What to call the catalogue in messages.

    Returns
    -------
    DataFrame
        The columns of `REFERENCE`; rows in the order of the file.

    Raises
    ------
    InputError
        If the file is missing, truncated or not FITS, has no table of sources, lacks a column,
        or a source has no position.
    """
    where = f"{path} ({name})"
    if path.suffix == PARQUET:
        return REFERENCE.check(read_parquet(path), where)
    with open_fits(path) as hdus:
        hdu = _source_table(hdus, where)
        (source_name,) = require_columns(hdu, ["Source_Name"], where)
        names = _text(hdu, source_name)
        lon, lat = _positions(hdu, where)
        flux = np.asarray(hdu.data[_one_of(hdu, FLUX_COLUMNS, "flux", where)], dtype=np.float64)
        classes = _text(hdu, _one_of(hdu, CLASS_COLUMNS, "class", where))
        extended = _extended(hdus, hdu, names, where)
    bad = ~(np.isfinite(lon) & np.isfinite(lat))
    if bad.any():
        raise InputError(where, f"source {names[bad][0]} has no position", "remove it")
    return REFERENCE.frame(
        {
            "name": names,
            "lon_deg": lon,
            "lat_deg": lat,
            "flux": flux,
            "extended": extended,
            "class_name": classes,
        }
    )


def _source_table(hdus: Any, where: str) -> Any:
    for hdu in hdus:
        if isinstance(hdu, fits.BinTableHDU):
            return hdu
    raise InputError(where, "has no table", "name a LAT source catalogue")


def _text(hdu: Any, column: str) -> NDArray[Any]:
    return np.array([str(value).strip() for value in hdu.data[column]], dtype=object)


def _one_of(hdu: Any, names: tuple[str, ...], what: str, where: str) -> str:
    for name in names:
        found = column_name(hdu, name)
        if found is not None:
            return found
    raise InputError(where, f"has no column of {what}", f"needs one of {', '.join(names)}")


def _positions(hdu: Any, where: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if column_name(hdu, "GLON") is not None and column_name(hdu, "GLAT") is not None:
        pair = require_columns(hdu, ["GLON", "GLAT"], where)
        lon, lat = (np.asarray(hdu.data[column], dtype=np.float64) for column in pair)
        return lon % 360.0, lat
    if column_name(hdu, "RAJ2000") is None or column_name(hdu, "DEJ2000") is None:
        raise InputError(where, "has no positions", "needs GLON and GLAT, or RAJ2000 and DEJ2000")
    pair = require_columns(hdu, ["RAJ2000", "DEJ2000"], where)
    ra, dec = (np.asarray(hdu.data[column], dtype=np.float64) for column in pair)
    return lon_lat(galactic_from_equatorial(unit_vectors(ra, dec)))


def _extended(hdus: Any, hdu: Any, names: NDArray[Any], where: str) -> NDArray[np.bool_]:
    """Extended sources: named in Extended_Source_Name, or listed in the table of them (2FHL)."""
    column = column_name(hdu, "Extended_Source_Name")
    if column is not None:
        return np.asarray(_text(hdu, column) != "", dtype=np.bool_)
    for other in hdus[1:]:
        if other.name.replace(" ", "").upper() == "EXTENDEDSOURCES":
            (source_name,) = require_columns(other, ["Source_Name"], where)
            return np.isin(names.astype(str), _text(other, source_name).astype(str))
    _LOG.warning("%s does not say which sources are extended; none is taken as such", where)
    return np.zeros(len(names), dtype=np.bool_)
