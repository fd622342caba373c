"""Simulated events as an FT1 event list, in the layout of the FSSC's photon files.

Columns are those of an FT1 file (FSSC Cicerone, "LAT photon data file") as far as they are
simulated. Directions are double precision, where real files have single: every photon keeps its
place exactly. THETA, PHI, ZENITH_ANGLE, EARTH_AZIMUTH_ANGLE, LIVETIME and DIFRSPn, which take the
spacecraft's attitude, are left out; the zenith cut of the exposure stands in the keywords.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from geminga.arrays import Float64
from geminga.bands import Channel
from geminga.files import atomic
from geminga.geometry import lon_lat
from geminga.response.event_types import CONVERSION_TYPES, class_mask
from geminga.sky.events import Events
from geminga.sky.formats.fits_input import equatorial_from_galactic
from geminga.sky.observation import Observation, add_cards

_BLOCK = 2880
"""Bytes that headers and tables are filled up to."""
_CHUNK = 1_000_000
"""Rows made at a time: 70 bytes each, and about as much again in between."""

_COLUMNS = (
    ("ENERGY", "E", "MeV", ">f4"),
    ("RA", "D", "deg", ">f8"),
    ("DEC", "D", "deg", ">f8"),
    ("L", "D", "deg", ">f8"),
    ("B", "D", "deg", ">f8"),
    ("TIME", "D", "s", ">f8"),
    ("EVENT_ID", "J", None, ">i4"),
    ("RUN_ID", "J", None, ">i4"),
    ("RECON_VERSION", "I", None, ">i2"),
    ("CALIB_VERSION", "3I", None, (">i2", (3,))),
    # The most significant bit comes first: a big-endian number is the bit array.
    ("EVENT_CLASS", "32X", None, ">u4"),
    ("EVENT_TYPE", "32X", None, ">u4"),
    ("CONVERSION_TYPE", "I", None, ">i2"),
)
_HISTORY = (
    "Simulated photons: no spacecraft data stand behind them.",
    "Not simulated and left out: THETA, PHI, ZENITH_ANGLE, EARTH_AZIMUTH_ANGLE, LIVETIME.",
    "The zenith cut is part of the exposure; each band has its own where they differ.",
    "One good time interval, without gaps: livetime is part of the exposure, not of ONTIME.",
    "EVENT_TYPE has the bit of the simulated type alone; rows are ordered by channel, not by time.",
)


def write_events(
    events: Events,
    channels: Sequence[Channel],
    path: Path,
    observation: Observation,
    keywords: Sequence[tuple[Any, ...]] = (),
) -> None:
    """Write events as an FT1 file, a million rows at a time.

    Parameters
    ----------
    events : Events
    channels : sequence of Channel
        Channels of the photons.
    path : Path
        File to write; an older one is replaced.
    observation : Observation
        Class and time, for the keywords.
    keywords : sequence of (name, value) or (name, value, comment)
        Further keywords of the primary header.

    Raises
    ------
    InputError
        If the file cannot be written.
    """
    columns = _columns(channels)
    primary = fits.PrimaryHDU()
    add_cards(primary.header, [*observation.times(), *keywords])
    primary.header["CREATOR"] = ("geminga", "software that made the file")
    primary.header["FILENAME"] = path.name
    for line in _HISTORY:
        primary.header["HISTORY"] = line
    for key, text in events.photons.origin.items():
        primary.header["HISTORY"] = f"{key}: {text}"
    dtype = np.dtype([(name, form) for name, _, _, form in columns])
    header = _header(events, channels, columns, observation)
    with atomic(path) as temporary:
        with temporary.open("wb") as stream:
            fits.HDUList([primary]).writeto(stream)
            stream.write(header.tostring().encode("ascii"))
            for start in range(0, len(events), _CHUNK):
                rows = slice(start, min(start + _CHUNK, len(events)))
                stream.write(_rows(events, rows, dtype, observation).tobytes())
            stream.write(bytes(-len(events) * dtype.itemsize % _BLOCK))
        good_times = observation.good_times()
        fits.append(temporary, good_times.data, good_times.header)


def _columns(channels: Sequence[Channel]) -> list[tuple[str, str, str | None, Any]]:
    """Return the columns; front and back cannot be told apart among PSF types."""
    names = {name for channel in channels for name in channel.event_types}
    known = names <= set(CONVERSION_TYPES)
    return [c for c in _COLUMNS if known or c[0] != "CONVERSION_TYPE"]


def _header(
    events: Events,
    channels: Sequence[Channel],
    columns: Sequence[tuple[str, str, str | None, Any]],
    observation: Observation,
) -> Any:
    empty = fits.BinTableHDU.from_columns(
        [fits.Column(name, form, unit=unit) for name, form, unit, _ in columns], name="EVENTS"
    )
    header = empty.header
    header["NAXIS2"] = len(events)
    add_cards(header, [("HDUCLASS", "OGIP"), ("HDUCLAS1", "EVENTS"), ("HDUCLAS2", "ALL")])
    add_cards(header, [*observation.times(), ("PASS_VER", observation.irf.split("_")[0])])
    add_cards(header, observation.dss(channels))
    return header


def _rows(
    events: Events, rows: slice, dtype: np.dtype[Any], observation: Observation
) -> np.ndarray[Any, Any]:
    """Return rows of the table as their bytes lie in the file."""
    table = np.zeros(rows.stop - rows.start, dtype=dtype)
    vectors: Float64 = events.photons.xyz[rows].astype(np.float64)
    table["L"], table["B"] = lon_lat(vectors)
    table["RA"], table["DEC"] = lon_lat(equatorial_from_galactic(vectors))
    table["ENERGY"] = events.energy_mev[rows]
    table["TIME"] = events.time_s[rows]
    table["EVENT_ID"] = np.arange(rows.start + 1, rows.stop + 1)
    table["RUN_ID"] = int(observation.start_s)
    table["EVENT_CLASS"] = class_mask(observation.irf)
    table["EVENT_TYPE"] = np.uint32(1) << events.event_type[rows].astype(np.uint32)
    if "CONVERSION_TYPE" in (dtype.names or ()):
        table["CONVERSION_TYPE"] = events.event_type[rows]
    return table
