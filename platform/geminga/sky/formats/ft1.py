"""Real photons from Fermi-LAT FT1 event lists.

Column names and units follow the FSSC's FT1 format ("LAT photon data file", Cicerone).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geminga.arrays import Float64, Int8
from geminga.config import Config, ObservedConfig
from geminga.errors import InputError
from geminga.sky.formats.fits_input import (
    find_hdu,
    open_fits,
    require_columns,
)
from geminga.sky.formats.ft1_rows import RowCuts, Rows
from geminga.sky.formats.selection import check_selection, read_selection
from geminga.sky.photons import Photons, check_number, photon_keys, photons_from_keys

_LOG = logging.getLogger(__name__)
_CHUNK = 1_000_000
"""Rows decoded at a time: bit columns take 32 bytes a row once astropy has unpacked them."""


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
    chunks: list[Rows] = []
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
        year = time_bin(time, start, stop, config.sky.years)
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
    path: Path, observed: ObservedConfig, config: Config, chunks: list[Rows]
) -> tuple[int, tuple[float, float]]:
    """Append the kept photons of one file; return its rows and the time it covers."""
    where = str(path)
    channels = config.channels
    with open_fits(path) as hdus:
        hdu = find_hdu(hdus, "EVENTS", where)
        selection = read_selection(hdu.header, where)
        check_selection(selection, where, channels, observed)
        cuts = RowCuts.of(hdu, observed, config, selection, where)
        needs_span = config.sky.years > 1 and observed.time_range_met_s is None
        span = _time_span(hdus, hdu.header, where, needs_span)
        rows = int(hdu.header["NAXIS2"])
        for first in range(0, rows, _CHUNK):
            chunks.append(cuts.select(hdu.data[first : first + _CHUNK], first))
            check_number(sum(len(chunk.pixel) for chunk in chunks), f"{where} (and those before)")
    return rows, span


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


def time_bin(time: Float64, start: float, stop: float, years: int) -> Int8:
    """Return the number among equal parts of a time that each photon falls in.

    The ends belong to the first and last part; so does, with a warning, what lies outside.

    Parameters
    ----------
    time : Float64 (n,)
        Mission elapsed time.
    start, stop : float
        The whole time.
    years : int
        Number of parts.

    Raises
    ------
    InputError
        If the time is empty.
    """
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
