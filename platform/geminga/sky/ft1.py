"""Real photons from Fermi-LAT FT1 event lists.

Column names, units and bit order follow the FSSC's FT1 format ("LAT photon data file", Cicerone)
and FITS standard 4.0, 7.3.2: the first element of an ``nX`` column is the most significant bit,
so bit 0 of EVENT_CLASS and EVENT_TYPE is the last element of the array.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geminga.arrays import Bool, Float64, Int8
from geminga.bands import band_of_energy
from geminga.config import Config, ObservedConfig
from geminga.errors import InputError
from geminga.geometry import separation_deg, unit_vectors
from geminga.sky.fits_input import (
    column_name,
    find_hdu,
    galactic_from_equatorial,
    open_fits,
    require_columns,
    unit_factor,
)
from geminga.sky.photons import Photons
from geminga.sky.selection import Selection, check_selection, read_selection

_LOG = logging.getLogger(__name__)
_CHUNK = 1_000_000
"""Rows decoded at a time: bit columns take 32 bytes a row once astropy has unpacked them."""

_POSITION_TOLERANCE_DEG = 0.01
"""L, B and RA, DEC of LAT files agree to 6e-4 deg (single precision, an older rotation)."""


@dataclass(frozen=True)
class _Chunk:
    xyz: NDArray[np.float32]
    band: Int8
    time: Float64 | None


def read_events(paths: Sequence[Path], observed: ObservedConfig, config: Config) -> Photons:
    """Read FT1 event lists and keep the photons that the run asks for.

    Kept are events inside a band that have all of `observed.event_class_bits`, any of
    `observed.event_type_bits` (all events if none is given), a zenith angle up to
    `observed.max_zenith_deg` and a time inside `observed.time_range_met_s`. The year of a photon
    is its bin among `config.sky.years` equal parts of that time range, or of the time the files
    cover (good time intervals, else TSTART to TSTOP).

    Parameters
    ----------
    paths : sequence of Path
        FT1 files, plain or gzipped; their photons are taken together.
    observed : ObservedConfig
        Selection.
    config : Config
        Gives the bands and the number of years.

    Returns
    -------
    Photons
        In the order of files and rows; empty if no event passes.

    Raises
    ------
    InputError
        If a file is missing, truncated or not FITS; has no EVENTS table, lacks a needed column
        or holds impossible positions; or was itself cut narrower than the run needs.
    """
    if not paths:
        raise InputError("observed.events", "names no file", "list at least one FT1 file")
    chunks: list[_Chunk] = []
    spans: list[tuple[float, float]] = []
    rows = 0
    for path in paths:
        n, span = _read_file(path, observed, config, chunks)
        rows += n
        spans.append(span)
    start, stop = observed.time_range_met_s or (min(s[0] for s in spans), max(s[1] for s in spans))
    xyz = np.concatenate([c.xyz for c in chunks] or [np.empty((0, 3), np.float32)])
    band = np.concatenate([c.band for c in chunks] or [np.empty(0, np.int8)])
    year = np.zeros(len(band), dtype=np.int8)
    if config.sky.years > 1 and len(band):
        time = np.concatenate([c.time for c in chunks if c.time is not None])
        year = _year(time, start, stop, config.sky.years)
    _LOG.info("%d of %d events kept from %d file(s)", len(band), rows, len(paths))
    origin = {
        "kind": "FT1 events",
        "files": ", ".join(path.name for path in paths),
        "events_read": str(rows),
        "event_class_bits": str(list(observed.event_class_bits)),
        "event_type_bits": str(list(observed.event_type_bits)),
        "max_zenith_deg": str(observed.max_zenith_deg),
        "time_range_met_s": f"{start}:{stop}",
    }
    return Photons(xyz, band, year, origin)


def _read_file(
    path: Path, observed: ObservedConfig, config: Config, chunks: list[_Chunk]
) -> tuple[int, tuple[float, float]]:
    """Append the kept photons of one file; return its rows and the time it covers."""
    where = str(path)
    with open_fits(path) as hdus:
        hdu = find_hdu(hdus, "EVENTS", where)
        selection = read_selection(hdu.header, where)
        check_selection(selection, where, config.bands, observed)
        columns = _needed_columns(hdu, observed, config, selection, where)
        factor = unit_factor(hdu.columns[columns["ENERGY"]].unit, "MeV", f"{where} ENERGY")
        needs_span = config.sky.years > 1 and observed.time_range_met_s is None
        span = _time_span(hdus, hdu.header, where, needs_span)
        rows = int(hdu.header["NAXIS2"])
        for first in range(0, rows, _CHUNK):
            data = hdu.data[first : first + _CHUNK]
            table = {key: np.asarray(data[name]) for key, name in columns.items()}
            band = band_of_energy(config.bands, table["ENERGY"].astype(np.float64) * factor)
            keep = (band >= 0) & _passes(table, observed, where)
            table = {key: values[keep] for key, values in table.items()}
            time = table["TIME"].astype(np.float64) if "TIME" in table else None
            chunks.append(_Chunk(_directions(table, where), band[keep], time))
    return rows, span


def _needed_columns(
    hdu: Any, observed: ObservedConfig, config: Config, selection: Selection, where: str
) -> dict[str, str]:
    """Return the table's spelling of each column that the run reads."""
    needed = ["ENERGY"]
    equatorial = [column_name(hdu, "RA"), column_name(hdu, "DEC")]
    if column_name(hdu, "L") is not None and column_name(hdu, "B") is not None:
        needed += ["L", "B"]
        needed += ["RA", "DEC"] if None not in equatorial else []
    else:
        needed += ["RA", "DEC"]
    if observed.event_class_bits:
        needed.append("EVENT_CLASS")
    if observed.event_type_bits:
        needed.append("EVENT_TYPE")
    limit, cut = observed.max_zenith_deg, selection.max_zenith_deg
    if limit is not None and (cut is None or cut > limit):
        needed.append("ZENITH_ANGLE")
    if config.sky.years > 1 or observed.time_range_met_s is not None:
        needed.append("TIME")
    return dict(zip(needed, require_columns(hdu, needed, where), strict=True))


def _passes(table: Mapping[str, NDArray[Any]], observed: ObservedConfig, where: str) -> Bool:
    """Return which events pass the cuts on class, type, zenith angle and time."""
    keep = np.ones(len(table["ENERGY"]), dtype=np.bool_)
    for bit in observed.event_class_bits:
        keep &= bit_is_set(table["EVENT_CLASS"], bit, f"{where} EVENT_CLASS")
    if observed.event_type_bits:
        bits = observed.event_type_bits
        keep &= np.any(
            [bit_is_set(table["EVENT_TYPE"], bit, f"{where} EVENT_TYPE") for bit in bits], axis=0
        )
    if "ZENITH_ANGLE" in table:
        keep &= table["ZENITH_ANGLE"] <= observed.max_zenith_deg
    if observed.time_range_met_s is not None:
        start, stop = observed.time_range_met_s
        keep &= (table["TIME"] >= start) & (table["TIME"] < stop)
    return keep


def bit_is_set(values: NDArray[Any], bit: int, where: str) -> Bool:
    """Return where a bit of a FITS column is set.

    Parameters
    ----------
    values : array (n,) of int, (n, k) of bool, or (n, k) of uint8
        Integers; or the elements of an ``kX`` or ``kL`` column, most significant first; or
        bytes, most significant first.
    bit : int
        Bit number; 0 is the least significant.
    where : str
        Names the column in errors.

    Returns
    -------
    Bool (n,)

    Raises
    ------
    InputError
        If the column is not made of bits or has too few.
    """
    if values.ndim == 2 and values.dtype == np.uint8:
        values = np.unpackbits(values, axis=1).astype(np.bool_)
    if values.ndim == 2 and values.dtype == np.bool_:
        width = values.shape[1]
    elif values.ndim == 1 and np.issubdtype(values.dtype, np.integer):
        width = values.dtype.itemsize * 8
    else:
        raise InputError(
            where, f"is {values.dtype} of shape {values.shape}, not bits", "need a 32X column"
        )
    if not 0 <= bit < width:
        raise InputError(where, f"has no bit {bit}", f"ask for bits 0 to {width - 1}")
    if values.ndim == 2:
        return np.asarray(values[:, width - 1 - bit], dtype=np.bool_)
    return np.asarray((values >> values.dtype.type(bit)) & values.dtype.type(1) != 0)


def _directions(table: Mapping[str, NDArray[Any]], where: str) -> NDArray[np.float32]:
    """Return Galactic unit vectors; L, B where given, compared with RA, DEC if both are."""
    pairs = [pair for pair in (("L", "B"), ("RA", "DEC")) if pair[0] in table]
    vectors: dict[str, Float64] = {}
    for lon, lat in pairs:
        bad = ~np.isfinite(table[lon]) | ~(np.abs(table[lat]) <= 90.0)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise InputError(
                where,
                f"{int(bad.sum())} events have no direction, the first with "
                f"{lon} = {table[lon][row]}, {lat} = {table[lat][row]}",
                "remove them or mend the columns",
            )
        vectors[lon] = unit_vectors(table[lon].astype(np.float64), table[lat].astype(np.float64))
    if "RA" in vectors:
        vectors["RA"] = galactic_from_equatorial(vectors["RA"])
    if len(vectors) == 2 and len(vectors["L"]):
        apart = separation_deg(vectors["L"], vectors["RA"])
        if apart.max() > _POSITION_TOLERANCE_DEG:
            raise InputError(
                where,
                f"L, B and RA, DEC of a photon are {apart.max():.3g} deg apart",
                "mend the columns (L and B are Galactic, RA and DEC J2000, all in degrees)",
            )
    return next(iter(vectors.values())).astype(np.float32)


def _time_span(
    hdus: Any, header: Mapping[str, Any], where: str, needed: bool
) -> tuple[float, float]:
    """Return the first and last time a file covers, in seconds of mission elapsed time."""
    gti = next((hdu for hdu in hdus if hdu.name.strip().upper() == "GTI"), None)
    if gti is not None and len(gti.data):
        start, stop = require_columns(gti, ["START", "STOP"], where)
        return float(np.min(gti.data[start])), float(np.max(gti.data[stop]))
    if "TSTART" in header and "TSTOP" in header:
        return float(header["TSTART"]), float(header["TSTOP"])
    if needed:
        raise InputError(
            where,
            "has neither good time intervals nor TSTART and TSTOP",
            "set observed.time_range_met_s, or sky.years to 1",
        )
    return -np.inf, np.inf


def _year(time: Float64, start: float, stop: float, years: int) -> Int8:
    """Return the time bin of each photon; the ends belong to the first and last bin."""
    if not stop > start:
        raise InputError(
            "observed.events", f"cover no time ({start} to {stop} s)", "check TSTART and TSTOP"
        )
    outside = int(np.sum((time < start) | (time > stop)))
    if outside:
        _LOG.warning(
            "%d photons lie outside the time the files cover (%g:%g s)", outside, start, stop
        )
    number = np.floor((time - start) / (stop - start) * years)
    return np.clip(number, 0, years - 1).astype(np.int8)
