"""Rows of an FT1 event list: the cuts of a run, row by row, and the directions of what is left.

Shared by whoever reads whole lists (`geminga.sky.formats.ft1`) and whoever counts them in pieces
(`geminga.sky.partial_counts`): the same rows pass, whatever the pieces.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import healpy
import numpy as np
from numpy.typing import NDArray

from geminga.arrays import Bool, Float64, Int8, Int64
from geminga.bands import Channel, band_of_energy
from geminga.config import Config, ObservedConfig
from geminga.errors import InputError
from geminga.geometry import separation_deg, unit_vectors
from geminga.sky.formats.event_bits import ROW, bit_is_set, entries_of, entry_of_events, type_column
from geminga.sky.formats.fits_input import (
    column_name,
    galactic_from_equatorial,
    require_columns,
    unit_factor,
)
from geminga.sky.formats.selection import Selection
from geminga.sky.photons import NSIDE

_LOG = logging.getLogger(__name__)
_POSITION_TOLERANCE_DEG = 0.01
"""L, B and RA, DEC of LAT files agree to 6e-4 deg (single precision, an older rotation)."""

CUTS = ("energy", "event class", "zenith angle", "time", "event type", "zenith angle of the band")
"""The cuts in the order they are made."""


@dataclass(frozen=True)
class Rows:
    """What is left of some rows.

    Attributes
    ----------
    pixel : Int64 (n,)
        NESTED number at `geminga.sky.photons.NSIDE`.
    channel : Int8 (n,)
    time : Float64 (n,), or None
        Mission elapsed time, if it is read.
    passed : tuple of int
        How many rows were left after each of CUTS.
    """

    pixel: Int64
    channel: Int8
    time: Float64 | None
    passed: tuple[int, ...]


@dataclass(frozen=True)
class RowCuts:
    """The cuts that a run makes in one file.

    Attributes
    ----------
    where : str
        Names the file.
    columns : mapping of str to str
        The file's spelling of each column that is read.
    to_mev : float
        Unit of ENERGY.
    config : Config
    observed : ObservedConfig
    """

    where: str
    columns: Mapping[str, str]
    to_mev: float
    config: Config
    observed: ObservedConfig

    @classmethod
    def of(
        cls, hdu: Any, observed: ObservedConfig, config: Config, selection: Selection, where: str
    ) -> RowCuts:
        """Make those of a table EVENTS.

        Raises
        ------
        InputError
            If it lacks a needed column, or its energies are in an odd unit.
        """
        columns = _needed_columns(hdu, observed, config, selection, where)
        factor = unit_factor(hdu.columns[columns["ENERGY"]].unit, "MeV", f"{where} ENERGY")
        return cls(where, columns, factor, config, observed)

    def select(self, data: Any, first: int = 0) -> Rows:
        """Return what is left of some rows of the table.

        Parameters
        ----------
        data : FITS_rec
            The rows.
        first : int
            Number of the first of them in the file, from 0; messages count from 1.

        Raises
        ------
        InputError
            If a row holds no number for its energy or its time, an impossible position or event
            type, or no zenith angle where one is cut on; names the row.
        """
        where, config, observed = self.where, self.config, self.observed
        bands, channels = config.bands, config.channels
        table = {key: np.asarray(data[name]) for key, name in self.columns.items()}
        table[ROW] = np.arange(first + 1, first + 1 + len(table["ENERGY"]))
        _check_finite(table, where)
        band = band_of_energy(bands, table["ENERGY"].astype(np.float64) * self.to_mev)
        passed, keep = _pass(table, band >= 0, observed, where)
        table, band = _only(table, keep), band[keep]
        entry = entry_of_events(table, entries_of(channels), where)
        channel = np.where(entry >= 0, entry * len(bands) + band, -1).astype(np.int8)
        keep = channel >= 0
        passed.append(int(keep.sum()))
        keep = keep & _low_enough(table, channel, channels, where)
        passed.append(int(keep.sum()))
        table = _only(table, keep)
        time = table["TIME"].astype(np.float64) if "TIME" in table else None
        pixel = healpy.vec2pix(NSIDE, *_directions(table, where).T, nest=True)
        return Rows(pixel, channel[keep], time, tuple(passed))


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


def _check_finite(table: Mapping[str, NDArray[Any]], where: str) -> None:
    """Check what a cut would drop without a word."""
    for name in ("ENERGY", "TIME"):
        if name not in table:
            continue
        bad = np.flatnonzero(~np.isfinite(table[name]))
        if len(bad):
            raise InputError(
                where,
                f"{name} of {len(bad)} events is no number, the first in row {table[ROW][bad[0]]}",
                "remove those events, or download the file again",
            )


def _pass(
    table: Mapping[str, NDArray[Any]], keep: Bool, observed: ObservedConfig, where: str
) -> tuple[list[int], Bool]:
    """Make the cuts on class, zenith angle and time; return how many are left after each."""
    left = [int(keep.sum())]
    for bit in observed.event_class_bits:
        keep = keep & bit_is_set(table["EVENT_CLASS"], bit, f"{where} EVENT_CLASS")
    left.append(int(keep.sum()))
    if "ZENITH_ANGLE" in table and observed.max_zenith_deg is not None:
        # Written so that an angle that is not a number stays, and is found below.
        keep = keep & ~(table["ZENITH_ANGLE"] > observed.max_zenith_deg)
    left.append(int(keep.sum()))
    if observed.time_range_met_s is not None:
        start, stop = observed.time_range_met_s
        keep = keep & (table["TIME"] >= start) & (table["TIME"] < stop)
    left.append(int(keep.sum()))
    return left, keep


def _low_enough(
    table: Mapping[str, NDArray[Any]], channel: Int8, channels: Sequence[Channel], where: str
) -> Bool:
    """Return which events pass the zenith cut of their channel."""
    if "ZENITH_ANGLE" not in table:
        return np.ones(len(channel), dtype=np.bool_)
    zenith = table["ZENITH_ANGLE"]
    unknown = np.flatnonzero(~np.isfinite(zenith) & (channel >= 0))
    if len(unknown):
        raise InputError(
            where,
            f"{len(unknown)} events have no zenith angle (ZENITH_ANGLE is {zenith[unknown[0]]} in "
            f"row {table[ROW][unknown[0]]})",
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
                f"{int(bad.sum())} events have no direction, the first (row {table[ROW][row]}) "
                f"with {lon} = {table[lon][row]}, {lat} = {table[lat][row]}",
                "remove them or mend the columns",
            )
        vectors[lon] = unit_vectors(table[lon].astype(np.float64), table[lat].astype(np.float64))
    if "RA" in vectors:
        vectors["RA"] = galactic_from_equatorial(vectors["RA"])
    if len(vectors) == 2 and len(vectors["L"]):
        apart = separation_deg(vectors["L"], vectors["RA"])
        worst = int(np.argmax(apart))
        if apart[worst] > _POSITION_TOLERANCE_DEG:
            raise InputError(
                where,
                f"L, B and RA, DEC of a photon are {apart[worst]:.3g} deg apart, in row "
                f"{table[ROW][worst]}",
                "mend the columns (L and B are Galactic, RA and DEC J2000, all in degrees)",
            )
    return next(iter(vectors.values()))
