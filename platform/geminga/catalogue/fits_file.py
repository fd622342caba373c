"""Catalogues as FITS binary tables, written and read."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.io import fits

from geminga import storage
from geminga.bands import Channel, edges_mev
from geminga.catalogue.build import catalog_table
from geminga.catalogue.classified import (
    FLUX_HISTORY,
    HISTORY_COLUMNS,
    UNC_FLUX_HISTORY,
    classified_columns,
    history_names,
)
from geminga.catalogue.fitted import (
    BAND_COLUMNS,
    FLUX_BAND,
    UNC_FLUX_BAND,
    band_names,
    fitted_columns,
)
from geminga.catalogue.flags import FLAG_TEXT
from geminga.classes import with_fake
from geminga.errors import InputError
from geminga.files import atomic
from geminga.tables import CATALOG, Column

EXTENSION = "GEMINGA_CATALOG"
BOUNDS = "EnergyBounds"
"""Table of the channels, named as in 4FGL."""

KEYWORDS: dict[str, str] = {
    "config_hash": "CONFHASH",
    "version": "GEMVERS",
    "name": "RUNNAME",
    "seed": "SEED",
    "sky_id": "SKYID",
}
"""FITS keyword of each provenance entry whose own name is too long or too vague."""

_FITS_TYPES = {"float64": "D", "int64": "K", "bool": "L"}


def write_fits(
    path: Path,
    frame: pd.DataFrame,
    classes: Sequence[str],
    header: Mapping[str, str | int | float | bool],
    channels: Sequence[Channel] = (),
) -> None:
    """Write a catalogue as a FITS binary table, atomically.

    The bytes depend on the arguments alone: no date is written.

    Parameters
    ----------
    path : Path
        File to write, ending in ``.fits`` or ``.fit``.
    frame : DataFrame
        Table ``catalog_table(classes, its columns)``; may have no rows.
    classes : sequence of str
        The astrophysical classes.
    header : mapping
        Provenance: ``config_hash``, ``version``, ``name`` and others of KEYWORDS, or any FITS
        keyword of at most eight characters.
    channels : sequence of Channel
        What the fluxes of channels belong to: the rows of the table EnergyBounds. It is not
        written without such fluxes.

    Raises
    ------
    InputError
        If the file cannot be written or its name ends in something else.
    ValueError
        If a header key is no FITS keyword, or the channels are not those of the fluxes.
    """
    if path.suffix not in (".fits", ".fit"):
        raise InputError(str(path), f"ends in {path.suffix!r}", "name a .fits file")
    table = catalog_table(classes, frame.columns)
    frame = table.check(frame, "catalogue")
    bands, years = band_names(frame.columns), history_names(frame.columns)
    if bands and channels and len(bands) != 2 * len(channels):
        raise ValueError(f"{len(bands) // 2} fluxes of channels, but {len(channels)} channels")
    columns, comments = [], []
    for column in table.columns:
        if column.name in bands or column.name in years:
            if column.name in years[:1]:
                columns += _arrays(frame, HISTORY_COLUMNS, len(years) // 2)
                comments += [c.description for c in HISTORY_COLUMNS]
            continue
        if column.name == "Flags" and bands:
            columns += _arrays(frame, BAND_COLUMNS, len(bands) // 2)
            comments += [c.description for c in BAND_COLUMNS]
        columns.append(_fits_column(column, frame[column.name].to_numpy(), classes))
        comments.append(column.description)
    hdu = fits.BinTableHDU.from_columns(columns, name=EXTENSION)
    for number, comment in enumerate(comments, start=1):
        hdu.header[f"TCOMM{number}"] = comment
    _explain(hdu)
    hdu.header["RADESYS"] = ("ICRS", "frame of RAJ2000 and DEJ2000")
    for key, value in header.items():
        keyword = KEYWORDS.get(key, key.upper())
        if not re.fullmatch(r"[A-Z0-9_-]{1,8}", keyword):
            raise ValueError(f"header key {key!r} is not a FITS keyword; add it to KEYWORDS")
        clean = value
        if isinstance(value, str):
            clean = "".join(c if " " <= c <= "~" else "?" for c in value)
        hdu.header[keyword] = (clean, f"provenance: {key}" if key in KEYWORDS else "")
    tables = [hdu, _bounds(channels)] if bands and channels else [hdu]
    with atomic(path) as temporary:
        fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(temporary, checksum=False)


def _fits_column(column: Column, values: Any, classes: Sequence[str]) -> fits.Column:
    if column.dtype != "str":
        return fits.Column(
            column.name, _FITS_TYPES[column.dtype], unit=column.unit or None, array=values
        )
    text = [str(v) for v in values]
    floors = {"Source_Name": 20, "CLASS": max(map(len, with_fake(classes)))}
    width = max([floors.get(column.name, 1), *map(len, text)])
    return fits.Column(column.name, f"{width}A", array=np.array(text, dtype=f"S{width}"))


def _arrays(frame: pd.DataFrame, pair: Sequence[Column], number: int) -> list[fits.Column]:
    """Return fluxes (n, m) and their errors down and up (n, m, 2), as 4FGL has them."""
    flux, error = (
        np.stack([frame[f"{c.name}_{k}"].to_numpy(np.float64) for k in range(number)], axis=-1)
        for c in pair
    )
    both = np.stack([np.where(flux > 0, -error, np.nan), error], axis=-1)
    unit = pair[0].unit
    return [
        fits.Column(pair[0].name, f"{number}D", unit=unit, array=flux),
        fits.Column(
            pair[1].name,
            f"{2 * number}D",
            unit=unit,
            array=both.reshape(len(frame), 2 * number),
            dim=f"(2,{number})",
        ),
    ]


def _bounds(channels: Sequence[Channel]) -> fits.BinTableHDU:
    low, high = edges_mev(channels).T
    types = ["+".join(c.event_types) for c in channels]
    columns = [
        fits.Column("LowerEnergy", "D", unit="MeV", array=low),
        fits.Column("UpperEnergy", "D", unit="MeV", array=high),
        fits.Column("EventTypes", f"{max(map(len, types))}A", array=np.array(types, dtype="S")),
        fits.Column(
            "ZenithCut", "D", unit="deg", array=np.array([c.max_zenith_deg for c in channels])
        ),
    ]
    return fits.BinTableHDU.from_columns(columns, name=BOUNDS)


def _explain(hdu: fits.BinTableHDU) -> None:
    """Write what the bits of Flags mean, and the energies of Flux1000."""
    names = list(hdu.columns.names)
    if "Flags" not in names:
        return
    for flag, text in FLAG_TEXT.items():
        hdu.header[f"FLAG{int(flag)}"] = f"{flag.name}: {text}"
    for name in ("Flux1000", "Unc_Flux1000"):
        number = names.index(name) + 1
        hdu.header[f"TEMIN{number}"] = (1e3, "MeV")
        hdu.header[f"TEMAX{number}"] = (1e6, "MeV")


def read_fits(path: Path) -> pd.DataFrame:
    """Read a catalogue written by `write_fits`.

    Returns
    -------
    DataFrame
        CATALOG's columns, those of a fit and of the evidence where the file has them, and every
        ``P_`` column, native byte order.

    Raises
    ------
    InputError
        If the file is missing, truncated, not FITS, holds no table or lacks a column.
    """
    remedy = "name a catalogue written by geminga"
    try:
        with warnings.catch_warnings():
            # A shortened file is only a warning to astropy.
            warnings.simplefilter("error")
            # From memory: astropy leaves a file open that it fails to read.
            with fits.open(BytesIO(storage.here(path).read_bytes())) as hdus:
                tables = [h for h in hdus if isinstance(h, fits.BinTableHDU)]
                if not tables:
                    raise InputError(str(path), "holds no FITS table", remedy)
                table = next((h for h in tables if h.name == EXTENSION), tables[0])
                names = list(table.columns.names)
                data = {name: np.array(table.data[name]) for name in names}
    except FileNotFoundError as error:
        raise InputError(str(path), "does not exist", remedy) from error
    except (OSError, ValueError, TypeError, KeyError, IndexError, Warning) as error:
        text = " ".join(str(error).split())
        raise InputError(
            str(path), f"is not a readable FITS file ({text})", "write it anew"
        ) from error
    _split_arrays(str(path), data, FLUX_BAND, UNC_FLUX_BAND)
    _split_arrays(str(path), data, FLUX_HISTORY, UNC_FLUX_HISTORY)
    probabilities = [
        Column(name, "float64", "", "class probability") for name in names if name.startswith("P_")
    ]
    full = CATALOG.with_columns([*fitted_columns(data), *classified_columns(data), *probabilities])
    missing = [name for name in full.names if name not in data]
    if missing:
        raise InputError(str(path), f"has no column {', '.join(missing)}", remedy)
    kinds = {"float64": "fiu", "int64": "iu", "str": "SU", "bool": "b"}
    for column in full.columns:
        values = data[column.name]
        if values.ndim != 1 or values.dtype.kind not in kinds[column.dtype]:
            raise InputError(
                str(path), f"column {column.name} holds {values.dtype}, not {column.dtype}", remedy
            )
        if column.dtype == "str":
            data[column.name] = np.array([str(v).rstrip() for v in values], dtype=object)
    return full.frame({name: data[name] for name in full.names})


def _split_arrays(where: str, data: dict[str, Any], name: str, error_name: str) -> None:
    """Replace the arrays over channels or years by a column for each of them."""
    if name not in data and error_name not in data:
        return
    flux, error = (data.pop(key, np.zeros(0)) for key in (name, error_name))
    if flux.ndim == 1:  # an array of one element is a number to FITS
        flux = flux[:, None]
    if flux.ndim != 2 or error.shape != (*flux.shape, 2):
        raise InputError(
            where,
            f"{name} has shape {flux.shape}, {error_name} {error.shape}",
            "give n rows of one flux, and of two errors, for each of its intervals",
        )
    for k in range(flux.shape[1]):
        data[f"{name}_{k}"] = flux[:, k]
        data[f"{error_name}_{k}"] = error[:, k, 1]
