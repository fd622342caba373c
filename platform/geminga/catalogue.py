"""The product: a FITS catalogue of the sources of one sky, and DS9 regions of it."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits

from geminga.arrays import Float64
from geminga.classes import with_fake
from geminga.errors import InputError
from geminga.files import atomic
from geminga.tables import CATALOG, Column, Table

CONF_68 = 1.515
"""Radius that holds 68.27 % of a round two-dimensional Gaussian of unit one-axis sigma."""

EXTENSION = "GEMINGA_CATALOG"

KEYWORDS: dict[str, str] = {
    "config_hash": "CONFHASH",
    "version": "GEMVERS",
    "name": "RUNNAME",
    "seed": "SEED",
    "sky_id": "SKYID",
}
"""FITS keyword of each provenance entry whose own name is too long or too vague."""

_FITS_TYPES = {"float64": "D", "int64": "K"}


def probability_column(class_name: str) -> str:
    """Return the column that holds a class's probability, safe in FITS and SQL.

    Every run of characters other than letters and digits becomes one underscore: the class
    ``PWN+SNR`` has the column ``P_PWN_SNR``.
    """
    return "P_" + re.sub(r"[^A-Za-z0-9]+", "_", class_name)


def catalog_table(classes: Sequence[str]) -> Table:
    """Return CATALOG with one probability column per class, FAKE last.

    Raises
    ------
    InputError
        If two classes would share a column (FITS column names ignore case).
    """
    names = with_fake(classes)
    columns = [
        Column(probability_column(name), "float64", "", f"probability of class {name}")
        for name in names
    ]
    seen: dict[str, str] = {}
    for name, column in zip(names, columns, strict=True):
        other = seen.setdefault(column.name.upper(), name)
        if other != name:
            raise InputError(
                "classes",
                f"{other} and {name} share the catalogue column {column.name}",
                "rename one of them",
            )
    return CATALOG.with_columns(columns)


def build_catalogue(
    candidates: pd.DataFrame,
    probabilities: Float64 | None,
    classes: Sequence[str],
    prefix: str = "GEM",
) -> pd.DataFrame:
    """Turn the candidates of one sky into a catalogue, surest source first.

    Parameters
    ----------
    candidates : DataFrame
        Table CANDIDATES, n rows of one sky.
    probabilities : Float64 (n, C + 1) or None
        Class probabilities in the order ``with_fake(classes)``, each row summing to 1; None
        without a classifier, which leaves CLASS empty and the probabilities NaN.
    classes : sequence of str
        The C astrophysical classes.
    prefix : str
        Acronym in front of the source names.

    Returns
    -------
    DataFrame
        Table ``catalog_table(classes)``. The order does not depend on that of the candidates.

    Raises
    ------
    ValueError
        If the probabilities have another shape or do not sum to 1.
    """
    table = catalog_table(classes)
    names = with_fake(classes)
    n = len(candidates)
    lon, lat = (candidates[c].to_numpy(dtype=np.float64) for c in ("lon_deg", "lat_deg"))
    score = candidates["score"].to_numpy(dtype=np.float64)
    order = np.lexsort((lat, lon, -score))
    lon, lat, score = lon[order], lat[order], score[order]

    if probabilities is None:
        p = np.full((n, len(names)), np.nan)
        label = np.full(n, "", dtype=object)
    else:
        p = np.asarray(probabilities, dtype=np.float64)
        if p.shape != (n, len(names)):
            raise ValueError(f"probabilities have shape {p.shape}, not {(n, len(names))}")
        if not np.allclose(p.sum(axis=1), 1.0, atol=1e-5) or (p < 0).any():
            raise ValueError("class probabilities are negative or do not sum to 1")
        p = p[order] / p[order].sum(axis=1, keepdims=True)
        label = np.array(names, dtype=object)[p.argmax(axis=1)] if n else np.array([], object)

    ra, dec = galactic_to_icrs(lon, lat)
    data: dict[str, object] = {
        "Source_Name": source_names(ra, dec, prefix),
        "RAJ2000": ra,
        "DEJ2000": dec,
        "GLON": lon,
        "GLAT": lat,
        "Conf_68_Radius": CONF_68 * candidates["position_error_deg"].to_numpy(np.float64)[order],
        "SCORE": score,
        "N_Patches": candidates["n_patches"].to_numpy(dtype=np.int64)[order],
        "CLASS": label,
    }
    data.update({probability_column(name): p[:, k] for k, name in enumerate(names)})
    return table.frame(data)


def galactic_to_icrs(lon_deg: Float64, lat_deg: Float64) -> tuple[Float64, Float64]:
    """Return right ascension and declination (ICRS, degrees) of Galactic directions."""
    if not len(lon_deg):
        return np.zeros(0), np.zeros(0)
    icrs = SkyCoord(l=lon_deg * units.deg, b=lat_deg * units.deg, frame="galactic").icrs
    return np.asarray(icrs.ra.deg, dtype=np.float64), np.asarray(icrs.dec.deg, dtype=np.float64)


def source_names(ra_deg: Float64, dec_deg: Float64, prefix: str = "GEM") -> list[str]:
    """Return IAU-style names ``GEM JHHMM.m+DDMM`` of positions.

    Digits are cut off, not rounded (IAU specifications for nomenclature). Sources that share a
    name all get a letter, ``a`` for the first.
    """
    # One part in 1e9 of a digit lets 05h34.5m, kept in binary degrees, still read 0534.5.
    tenths = np.floor((np.asarray(ra_deg) % 360.0) * 40.0 + 1e-9).astype(np.int64) % 14400
    arcmin = np.floor(np.abs(dec_deg) * 60.0 + 1e-9).astype(np.int64)
    plain = [
        f"{prefix} J{t // 600:02d}{t % 600 // 10:02d}.{t % 10}{'-' if d < 0 else '+'}"
        f"{a // 60:02d}{a % 60:02d}"
        for t, a, d in zip(tenths, arcmin, np.asarray(dec_deg), strict=True)
    ]
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(plain):
        rows.setdefault(name, []).append(row)
    for name, same in rows.items():
        for place, row in enumerate(same if len(same) > 1 else []):
            plain[row] = name + _letters(place)
    return plain


def _letters(place: int) -> str:
    text = chr(ord("a") + place % 26)
    return text if place < 26 else _letters(place // 26 - 1) + text


def write_fits(
    path: Path,
    frame: pd.DataFrame,
    classes: Sequence[str],
    header: Mapping[str, str | int | float | bool],
) -> None:
    """Write a catalogue as a FITS binary table, atomically.

    The bytes depend on the arguments alone: no date is written.

    Parameters
    ----------
    path : Path
        File to write, ending in ``.fits`` or ``.fit``.
    frame : DataFrame
        Table ``catalog_table(classes)``; may have no rows.
    classes : sequence of str
        The astrophysical classes.
    header : mapping
        Provenance: ``config_hash``, ``version``, ``name`` and others of KEYWORDS, or any FITS
        keyword of at most eight characters.

    Raises
    ------
    InputError
        If the file cannot be written or its name ends in something else.
    ValueError
        If a header key is no FITS keyword.
    """
    if path.suffix not in (".fits", ".fit"):
        raise InputError(str(path), f"ends in {path.suffix!r}", "name a .fits file")
    table = catalog_table(classes)
    frame = table.check(frame, "catalogue")
    columns = []
    for column in table.columns:
        values = frame[column.name].to_numpy()
        if column.dtype == "str":
            text = [str(v) for v in values]
            floor = 20 if column.name == "Source_Name" else max(map(len, with_fake(classes)))
            width = max([floor, *map(len, text)])
            columns.append(
                fits.Column(column.name, f"{width}A", array=np.array(text, dtype=f"S{width}"))
            )
        else:
            columns.append(
                fits.Column(
                    column.name, _FITS_TYPES[column.dtype], unit=column.unit or None, array=values
                )
            )
    hdu = fits.BinTableHDU.from_columns(columns, name=EXTENSION)
    for number, column in enumerate(table.columns, start=1):
        hdu.header[f"TCOMM{number}"] = column.description
    hdu.header["RADESYS"] = ("ICRS", "frame of RAJ2000 and DEJ2000")
    for key, value in header.items():
        keyword = KEYWORDS.get(key, key.upper())
        if not re.fullmatch(r"[A-Z0-9_-]{1,8}", keyword):
            raise ValueError(f"header key {key!r} is not a FITS keyword; add it to KEYWORDS")
        clean = value
        if isinstance(value, str):
            clean = "".join(c if " " <= c <= "~" else "?" for c in value)
        hdu.header[keyword] = (clean, f"provenance: {key}" if key in KEYWORDS else "")
    with atomic(path) as temporary:
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(temporary, checksum=False)


def read_fits(path: Path) -> pd.DataFrame:
    """Read a catalogue written by `write_fits`.

    Returns
    -------
    DataFrame
        CATALOG's columns and every ``P_`` column, native byte order.

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
            with fits.open(BytesIO(path.read_bytes())) as hdus:
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
    probabilities = [
        Column(name, "float64", "", "class probability") for name in names if name.startswith("P_")
    ]
    full = CATALOG.with_columns(probabilities)
    missing = [name for name in full.names if name not in data]
    if missing:
        raise InputError(str(path), f"has no column {', '.join(missing)}", remedy)
    kinds = {"float64": "fiu", "int64": "iu", "str": "SU"}
    for column in full.columns:
        values = data[column.name]
        if values.ndim != 1 or values.dtype.kind not in kinds[column.dtype]:
            raise InputError(
                str(path), f"column {column.name} holds {values.dtype}, not {column.dtype}", remedy
            )
        if column.dtype == "str":
            data[column.name] = np.array([str(v).rstrip() for v in values], dtype=object)
    return full.frame({name: data[name] for name in full.names})


def write_regions(path: Path, frame: pd.DataFrame, default_radius_deg: float = 0.1) -> None:
    """Write DS9 regions of a catalogue: Galactic circles with name and class.

    Parameters
    ----------
    path : Path
        File to write.
    frame : DataFrame
        A catalogue.
    default_radius_deg : float
        Radius in degrees of a source whose position error is not known.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    lines = [
        "# Region file format: DS9 version 4.1",
        'global color=green width=1 font="helvetica 9 normal roman"',
        "galactic",
    ]
    frame = CATALOG.check(frame, "catalogue")
    radius = frame["Conf_68_Radius"].to_numpy(np.float64)
    radius = np.where(np.isfinite(radius) & (radius > 0), radius, default_radius_deg)
    lon, lat = frame["GLON"].to_numpy(np.float64), frame["GLAT"].to_numpy(np.float64)
    for x, y, r, name, kind in zip(
        lon, lat, radius, frame["Source_Name"], frame["CLASS"], strict=True
    ):
        text = re.sub(r"[{}\n]", "", f"{name} {kind}".strip())
        lines.append(f"circle({x:.5f},{y:.5f},{r:.5f}d) # text={{{text}}}")
    with atomic(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
