"""What the headers of LAT files say of an observation: time, selection, good time interval.

Keywords as gtselect and gtbin write them (FSSC Cicerone, "Data Sub-Space keywords").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.time import Time

from geminga.arrays import Float64
from geminga.bands import Channel, edges_mev
from geminga.config import Config
from geminga.response.event_types import class_bit, type_bits
from geminga.response.survey import MISSION_START_MET_S, SECONDS_PER_YEAR

MJDREFI = 51910
MJDREFF = 7.4287037037037e-4
"""Mission elapsed time counts from MJDREFI + MJDREFF (terrestrial time): 2001-01-01 UTC."""


@dataclass(frozen=True)
class Observation:
    """A stretch of time with one response class, without gaps.

    Attributes
    ----------
    irf : str
        Response class.
    start_s, stop_s : float
        Mission elapsed time.
    """

    irf: str
    start_s: float
    stop_s: float

    def dss(
        self, channels: Sequence[Channel], further: Sequence[tuple[str, str, str]] = ()
    ) -> list[tuple[str, Any]]:
        """Return the data sub-space keywords of a selection that holds the channels' events.

        Parameters
        ----------
        channels : sequence of Channel
        further : sequence of (type, unit, value)
            Cuts beside those that the channels make.
        """
        version = self.irf.split("_")[0]
        types = sum(1 << bit for bit in type_bits(_types(channels)))
        edges = edges_mev(channels)
        zenith = max(channel.max_zenith_deg for channel in channels)
        cuts = [
            (f"BIT_MASK(EVENT_CLASS,{1 << class_bit(self.irf)},{version})", "DIMENSIONLESS", "1:1"),
            ("POS(RA,DEC)", "deg", "CIRCLE(0,0,180)"),
            ("TIME", "s", "TABLE"),
            (f"BIT_MASK(EVENT_TYPE,{types},{version})", "DIMENSIONLESS", "1:1"),
            ("ENERGY", "MeV", f"{edges[:, 0].min():.10g}:{edges[:, 1].max():.10g}"),
            ("ZENITH_ANGLE", "deg", f"0:{zenith:g}"),
            *further,
        ]
        return dss_cards(cuts)

    def times(self) -> list[tuple[str, Any, str]]:
        """Return the keywords of origin and time that every table carries."""
        return [
            ("TELESCOP", "GLAST", "name of telescope"),
            ("INSTRUME", "LAT", "name of instrument"),
            ("EQUINOX", 2000.0, "equinox for ra and dec"),
            ("RADECSYS", "FK5", "world coord. system"),
            ("DATE", datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"), "file creation date (UTC)"),
            ("DATE-OBS", _date(self.start_s), "start of the observation (UTC)"),
            ("DATE-END", _date(self.stop_s), "end of the observation (UTC)"),
            ("TSTART", self.start_s, "mission time of the start of the observation"),
            ("TSTOP", self.stop_s, "mission time of the end of the observation"),
            ("MJDREFI", MJDREFI, "integer part of MJD of mission time 0"),
            ("MJDREFF", MJDREFF, "fractional part of MJD of mission time 0"),
            ("TIMEUNIT", "s", "units of times"),
            ("TIMEZERO", 0.0, "clock correction"),
            ("TIMESYS", "TT", "type of time system"),
            ("TIMEREF", "LOCAL", "reference frame of times"),
            ("CLOCKAPP", False, "clock drift correction applied"),
        ]

    def good_times(self) -> Any:
        """Return the table of good time intervals: the whole time."""
        return good_times_table(np.array([[self.start_s, self.stop_s]]), self.times())


def good_times_table(intervals: Float64, cards: Sequence[tuple[Any, ...]]) -> Any:
    """Return the table GTI of good time intervals (n, 2), mission elapsed time in s, n > 0."""
    start, stop = intervals[:, 0], intervals[:, 1]
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("START", "D", unit="s", array=start),
            fits.Column("STOP", "D", unit="s", array=stop),
        ],
        name="GTI",
    )
    add_cards(table.header, cards)
    table.header["ONTIME"] = (float(np.sum(stop - start)), "sum of all good time intervals")
    elapsed = float(stop.max() - start.min())
    table.header["TELAPSE"] = (elapsed, "time between the first start and the last stop")
    add_cards(table.header, [("HDUCLASS", "OGIP"), ("HDUCLAS1", "GTI"), ("HDUCLAS2", "ALL")])
    return table


def dss_cards(cuts: Sequence[tuple[str, str, str]]) -> list[tuple[str, Any]]:
    """Return the data sub-space keywords of cuts, each (type, unit, value)."""
    cards: list[tuple[str, Any]] = [("NDSKEYS", len(cuts))]
    for number, (kind, unit, value) in enumerate(cuts, start=1):
        cards += [(f"DSTYP{number}", kind), (f"DSUNI{number}", unit)]
        cards += [(f"DSVAL{number}", value)]
        cards += [(f"DSREF{number}", ":GTI")] if kind == "TIME" else []
    return cards


def observation_of(config: Config) -> Observation:
    """Return the observation that a configuration simulates.

    It starts with the mission's science operations and lasts ``response.duration_years``, also
    where an exposure cube is given, whose own times are not read.
    """
    seconds = config.response.duration_years * SECONDS_PER_YEAR
    return Observation(config.response.irf, MISSION_START_MET_S, MISSION_START_MET_S + seconds)


def add_cards(header: Any, cards: Sequence[tuple[Any, ...]] | Mapping[str, Any]) -> None:
    """Set keywords, each (name, value) or (name, value, comment)."""
    for name, *rest in cards.items() if isinstance(cards, Mapping) else cards:
        header[name] = tuple(rest) if len(rest) > 1 else rest[0]


def _types(channels: Sequence[Channel]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for channel in channels for name in channel.event_types))


def _date(seconds: float) -> str:
    time = Time(MJDREFI + MJDREFF, seconds / 86400.0, format="mjd", scale="tt")
    return str(time.utc.isot[:19])
