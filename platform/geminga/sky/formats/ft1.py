"""Real photons from Fermi-LAT FT1 event lists.

Column names and units follow the FSSC's FT1 format ("LAT photon data file", Cicerone).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import healpy
import numpy as np
from numpy.typing import NDArray

from geminga.arrays import Bool, Float64, Int8, Int64
from geminga.bands import Channel, band_of_energy
from geminga.config import Config, ObservedConfig
from geminga.errors import InputError
from geminga.geometry import separation_deg, unit_vectors
from geminga.sky.formats.event_bits import bit_is_set, entries_of, entry_of_events, type_column
from geminga.sky.formats.fits_input import (
    column_name,
    find_hdu,
    galactic_from_equatorial,
    open_fits,
    require_columns,
    unit_factor,
)
from geminga.sky.formats.selection import Selection, check_selection, read_selection
from geminga.sky.photons import NSIDE, Photons, check_number, photon_keys, photons_from_keys

_LOG = logging.getLogger(__name__)
_CHUNK = 1_000_000
"""Rows decoded at a time: bit columns take 32 bytes a row once astropy has unpacked them."""

_POSITION_TOLERANCE_DEG = 0.01
"""L, B and RA, DEC of LAT files agree to 6e-4 deg (single precision, an older rotation)."""


@dataclass(frozen=True)
class _Chunk:
    pixel: Int64
    channel: Int8
    time: Float64 | None


def read_events(paths: Sequence[Path], observed: ObservedConfig, config: Config) -> Photons:
    """Read FT1 event lists and keep the photons that the run asks for.

    Kept are events that belong to a channel: inside a band, of one of its event types, and with
    a zenith angle up to the channel's; and that have all of `observed.event_class_bits`, a zenith
    angle up to `observed.max_zenith_deg` and a time inside `observed.time_range_met_s`. The year
    of a photon is its bin among `config.sky.years` equal parts of that time range, or of the time
    the files cover (good time intervals, else TSTART to TSTOP).

    Event types are read from EVENT_TYPE, front and back also from CONVERSION_TYPE; where one
    selection of event types holds all events, neither is needed. A file without zenith angles is
    taken to be cut as the channels are.

    Parameters
    ----------
    paths : sequence of Path
        FT1 files, plain or gzipped; their photons are taken together.
    observed : ObservedConfig
        Selection.
    config : Config
        Gives the channels and the number of years.

    Returns
    -------
    Photons
        Empty if no event passes.

    Raises
    ------
    InputError
        If a file is missing, truncated or not FITS; has no EVENTS table, lacks a needed column
        or holds impossible positions or event types; or was itself cut narrower than the run
        needs.
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
    pixel = np.concatenate([c.pixel for c in chunks] or [np.empty(0, np.int64)])
    channel = np.concatenate([c.channel for c in chunks] or [np.empty(0, np.int8)])
    year = np.zeros(len(channel), dtype=np.int8)
    if config.sky.years > 1 and len(channel):
        time = np.concatenate([c.time for c in chunks if c.time is not None])
        year = _year(time, start, stop, config.sky.years)
    _LOG.info("%d of %d events kept from %d file(s)", len(channel), rows, len(paths))
    origin = {
        "kind": "FT1 events",
        "files": ", ".join(path.name for path in paths),
        "events_read": str(rows),
        "event_class_bits": str(list(observed.event_class_bits)),
        "event_types": ", ".join(config.response.event_types),
        "max_zenith_deg": str(observed.max_zenith_deg),
        "time_range_met_s": f"{start}:{stop}",
    }
    return photons_from_keys(photon_keys(pixel, channel, year), origin)


def _read_file(
    path: Path, observed: ObservedConfig, config: Config, chunks: list[_Chunk]
) -> tuple[int, tuple[float, float]]:
    """Append the kept photons of one file; return its rows and the time it covers."""
    where = str(path)
    channels = config.channels
    entries = entries_of(channels)
    with open_fits(path) as hdus:
        hdu = find_hdu(hdus, "EVENTS", where)
        selection = read_selection(hdu.header, where)
        check_selection(selection, where, channels, observed)
        columns = _needed_columns(hdu, observed, config, selection, where)
        factor = unit_factor(hdu.columns[columns["ENERGY"]].unit, "MeV", f"{where} ENERGY")
        needs_span = config.sky.years > 1 and observed.time_range_met_s is None
        span = _time_span(hdus, hdu.header, where, needs_span)
        rows = int(hdu.header["NAXIS2"])
        for first in range(0, rows, _CHUNK):
            data = hdu.data[first : first + _CHUNK]
            table = {key: np.asarray(data[name]) for key, name in columns.items()}
            band = band_of_energy(config.bands, table["ENERGY"].astype(np.float64) * factor)
            table = _only(table, (band >= 0) & _passes(table, observed, where))
            band = band_of_energy(config.bands, table["ENERGY"].astype(np.float64) * factor)
            entry = entry_of_events(table, entries, where)
            channel = np.where(entry >= 0, entry * len(config.bands) + band, -1).astype(np.int8)
            keep = (channel >= 0) & _low_enough(table, channel, channels, where)
            table = _only(table, keep)
            time = table["TIME"].astype(np.float64) if "TIME" in table else None
            pixel = healpy.vec2pix(NSIDE, *_directions(table, where).T, nest=True)
            chunks.append(_Chunk(pixel, channel[keep], time))
            check_number(sum(len(chunk.pixel) for chunk in chunks), f"{where} (and those before)")
    return rows, span


def _only(table: Mapping[str, NDArray[Any]], keep: Bool) -> dict[str, NDArray[Any]]:
    return {key: values[keep] for key, values in table.items()}


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
    types = type_column(hdu, entries_of(config.channels), where)
    needed += [] if types is None else [types]
    if _needs_zenith(hdu, observed, config.channels, selection, where):
        needed.append("ZENITH_ANGLE")
    if config.sky.years > 1 or observed.time_range_met_s is not None:
        needed.append("TIME")
    return dict(zip(needed, require_columns(hdu, needed, where), strict=True))


def _needs_zenith(
    hdu: Any,
    observed: ObservedConfig,
    channels: Sequence[Channel],
    selection: Selection,
    where: str,
) -> bool:
    """Return whether a cut on zenith angle is still to be made, and can be."""
    cut = np.inf if selection.max_zenith_deg is None else selection.max_zenith_deg
    if observed.max_zenith_deg is not None and cut > observed.max_zenith_deg:
        return True
    lowest = min(channel.max_zenith_deg for channel in channels)
    if cut <= lowest:
        return False
    if column_name(hdu, "ZENITH_ANGLE") is None:
        _LOG.warning(
            "%s has no column ZENITH_ANGLE: its events are taken to be cut at the zenith angles of "
            "the bands, %g deg at the least",
            where,
            lowest,
        )
        return False
    return True


def _passes(table: Mapping[str, NDArray[Any]], observed: ObservedConfig, where: str) -> Bool:
    """Return which events pass the cuts on class, zenith angle and time."""
    keep = np.ones(len(table["ENERGY"]), dtype=np.bool_)
    for bit in observed.event_class_bits:
        keep &= bit_is_set(table["EVENT_CLASS"], bit, f"{where} EVENT_CLASS")
    if "ZENITH_ANGLE" in table and observed.max_zenith_deg is not None:
        # Written so that an angle that is not a number stays, and is found below.
        keep &= ~(table["ZENITH_ANGLE"] > observed.max_zenith_deg)
    if observed.time_range_met_s is not None:
        start, stop = observed.time_range_met_s
        keep &= (table["TIME"] >= start) & (table["TIME"] < stop)
    return keep


def _low_enough(
    table: Mapping[str, NDArray[Any]], channel: Int8, channels: Sequence[Channel], where: str
) -> Bool:
    """Return which events pass the zenith cut of their channel."""
    if "ZENITH_ANGLE" not in table:
        return np.ones(len(channel), dtype=np.bool_)
    zenith = table["ZENITH_ANGLE"]
    unknown = ~np.isfinite(zenith) & (channel >= 0)
    if unknown.any():
        raise InputError(
            where,
            f"{int(unknown.sum())} events have no zenith angle (ZENITH_ANGLE is "
            f"{zenith[np.flatnonzero(unknown)[0]]})",
            "leave the column out if the events went through the cut already",
        )
    # The last limit serves events without a channel, whose number is -1.
    limits = np.array([c.max_zenith_deg for c in channels])
    return np.asarray(zenith <= limits[channel])


def _directions(table: Mapping[str, NDArray[Any]], where: str) -> Float64:
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
    return next(iter(vectors.values()))


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
