"""The selection a LAT file went through (DSS keywords) against the one a run asks for.

Event files and counts maps carry DSTYPn/DSUNIn/DSVALn keywords, one set per cut made by
gtselect, gtmktime or gtbin (FSSC Cicerone, "Data Sub-Space keywords").
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geminga.bands import Band, Channel, edges_mev
from geminga.config import ObservedConfig
from geminga.errors import InputError
from geminga.response.event_types import PARTITIONS, type_bits
from geminga.sky.formats.fits_input import unit_factor

_LOG = logging.getLogger(__name__)
_BIT_MASK = re.compile(r"BIT_MASK\((EVENT_CLASS|EVENT_TYPE),\s*(\d+)")
_WHOLE_SKY = re.compile(r"CIRCLE\([^,]*,[^,]*,\s*180(\.0*)?\s*\)", re.IGNORECASE)
_TOLERANCE = 1e-6
"""Cuts and band edges are decimal numbers stored in binary: equal within this part."""


@dataclass(frozen=True)
class Selection:
    """What the DSS keywords of a file say.

    Attributes
    ----------
    energy_mev : tuple of two floats, or None
        Energy cut, MeV.
    max_zenith_deg : float or None
        Upper zenith angle.
    class_bits, type_bits : frozenset of int, or None
        Bits of the event class and event type masks.
    region : str or None
        Position cut, unless it leaves nothing out.
    known : bool
        There are DSS keywords: a cut that is not among them was not made.
    """

    energy_mev: tuple[float, float] | None = None
    max_zenith_deg: float | None = None
    class_bits: frozenset[int] | None = None
    type_bits: frozenset[int] | None = None
    region: str | None = None
    known: bool = False


def _range(where: str, kind: str, value: str) -> tuple[float, float]:
    low, separator, high = value.partition(":")
    try:
        if not separator:
            raise ValueError("no colon")
        return (float(low or "-inf"), float(high or "inf"))
    except ValueError as error:
        raise InputError(
            where, f"DSS {kind} cut {value!r} is not a range", "expected lower:upper"
        ) from error


def _bits(mask: int) -> frozenset[int]:
    return frozenset(bit for bit in range(mask.bit_length()) if mask >> bit & 1)


def read_selection(header: Mapping[str, object], where: str, say: bool = True) -> Selection:
    """Read the DSS keywords of a header; cuts of unknown type are logged, unless `say` is false.

    Raises
    ------
    InputError
        If an energy or zenith cut is not a range or has an odd unit.
    """
    found: dict[str, object] = {}
    numbers = [int(key[5:]) for key in header if re.fullmatch(r"DSTYP\d+", key)]
    if not numbers and say:
        _LOG.warning("%s has no DSS keywords: its selection cannot be checked", where)
    found["known"] = bool(numbers)
    for number in sorted(numbers):
        kind = str(header[f"DSTYP{number}"]).strip().upper()
        value = str(header.get(f"DSVAL{number}", "")).strip()
        unit = str(header.get(f"DSUNI{number}", "")).strip()
        mask = _BIT_MASK.match(kind)
        if kind == "ENERGY":
            factor = unit_factor(unit, "MeV", f"{where} DSUNI{number}")
            low, high = _range(where, kind, value)
            found["energy_mev"] = (low * factor, high * factor)
        elif kind == "ZENITH_ANGLE":
            found["max_zenith_deg"] = _range(where, kind, value)[1]
        elif mask and value.startswith("1"):
            key = "class_bits" if mask[1] == "EVENT_CLASS" else "type_bits"
            found[key] = _bits(int(mask[2]))
        elif kind.startswith("POS("):
            found["region"] = None if _WHOLE_SKY.match(value) else value
        elif kind != "TIME" and say:
            _LOG.warning("%s: unknown DSS cut %s = %s is not checked", where, kind, value)
    return Selection(**found)  # type: ignore[arg-type]


def check_selection(
    selection: Selection,
    where: str,
    channels: Sequence[Channel],
    observed: ObservedConfig,
    bands: Sequence[Band] | None = None,
) -> None:
    """Compare a file's own selection with what a run asks for.

    What would silently lose photons that the exposure counts is an error; what only widens or
    shifts the selection is logged.

    Parameters
    ----------
    selection : Selection
    where : str
        Names the file.
    channels : sequence of Channel
        Those whose photons the file has to hold.
    observed : ObservedConfig
    bands : sequence of Band, optional
        Those whose energies it has to hold, if not all of the channels.

    Raises
    ------
    InputError
        If the file's energy cut leaves out part of the first band or all of the last, or if its
        event types leave out one that is asked for.
    """
    _check_energy(selection, where, channels if bands is None else bands)
    _check_types(selection, where, channels)
    asked = max(observed.event_class_bits, default=None)
    if selection.class_bits and asked is not None and max(selection.class_bits) > asked:
        _LOG.warning(
            "%s holds only events of class bits %s, a tighter selection than bits %s: "
            "the response must be that of the file",
            where,
            sorted(selection.class_bits),
            sorted(observed.event_class_bits),
        )
    limit, zenith = observed.max_zenith_deg, selection.max_zenith_deg
    if limit is None:
        limit = max(channel.max_zenith_deg for channel in channels)
    if zenith is not None and zenith < limit * (1 - _TOLERANCE):
        _LOG.warning(
            "%s was cut at zenith angle %g deg, below the %g deg asked for: "
            "the exposure must be that of the file",
            where,
            zenith,
            limit,
        )
    if selection.region is not None:
        _LOG.warning("%s covers only %s, not the whole sky", where, selection.region)


def check_final(
    selection: Selection, where: str, channels: Sequence[Channel], observed: ObservedConfig
) -> None:
    """Check that a counts map already went through every cut asked for: it takes no more.

    Raises
    ------
    InputError
        If a cut on zenith angle, event class or time is asked for that the map's keywords do not
        show, or if the map holds event types that are not asked for.
    """
    remedy = "make the map with that cut, or drop it: counts cannot be cut any more"
    limit, zenith = observed.max_zenith_deg, selection.max_zenith_deg
    if limit is not None and (zenith is None or zenith > limit * (1 + _TOLERANCE)):
        raise InputError(
            where, f"zenith angles up to {zenith}, above max_zenith_deg {limit}", remedy
        )
    lowest = min(channel.max_zenith_deg for channel in channels)
    if selection.known and (zenith is None or zenith > lowest * (1 + _TOLERANCE)):
        _LOG.warning(
            "%s holds zenith angles up to %s, above a band's max_zenith_deg %g: the exposure must "
            "be that of the file",
            where,
            "180 deg" if zenith is None else f"{zenith:g} deg",
            lowest,
        )
    held = selection.class_bits or frozenset()
    asked = observed.event_class_bits
    # Standard classes are nested: a higher bit holds a subset of the events of a lower one.
    if asked and max(held, default=-1) < max(asked):
        raise InputError(
            where, f"event class bits {sorted(held)}, not event_class_bits {list(asked)}", remedy
        )
    _check_no_other_types(selection, where, channels)
    if observed.time_range_met_s is not None:
        raise InputError(
            where, f"cannot be cut to time_range_met_s {observed.time_range_met_s}", remedy
        )


def _check_no_other_types(selection: Selection, where: str, channels: Sequence[Channel]) -> None:
    """Check that a map has no event types beside those of its channels."""
    wanted = _asked_bits(channels)
    if not selection.known or any(wanted.issuperset(p) for p in PARTITIONS):
        return
    held = selection.type_bits
    if held is None or not held <= wanted:
        names = sorted({name for channel in channels for name in channel.event_types})
        raise InputError(
            where,
            f"holds {'all event types' if held is None else f'event type bits {sorted(held)}'}, "
            f"not only {'+'.join(names)}",
            "make the map of these event types, or set response.event_types to the map's",
        )


def _asked_bits(channels: Sequence[Channel]) -> set[int]:
    return {bit for channel in channels for bit in type_bits(channel.event_types)}


def _check_energy(selection: Selection, where: str, bands: Sequence[Band]) -> None:
    if selection.energy_mev is None or not bands:
        return
    low, high = selection.energy_mev
    edges = edges_mev(bands)
    text = f"DSS energy cut {low:g}:{high:g} MeV"
    if low > edges[0, 0] * (1 + _TOLERANCE):
        raise InputError(
            where,
            f"{text} starts above the first band ({bands[0].label})",
            f"use a file that starts at {edges[0, 0]:g} MeV or bands from {low / 1e3:g} GeV",
        )
    if high <= edges[-1, 0] * (1 + _TOLERANCE):
        raise InputError(
            where,
            f"{text} ends below the last band ({bands[-1].label})",
            f"use a file that reaches {edges[-1, 1]:g} MeV or bands up to {high / 1e3:g} GeV",
        )
    if high < edges[-1, 1] * (1 - _TOLERANCE):
        _LOG.warning("%s: %s ends inside the last band (%s)", where, text, bands[-1].label)


def _check_types(selection: Selection, where: str, channels: Sequence[Channel]) -> None:
    held, asked = selection.type_bits, _asked_bits(channels)
    if not held or any(held.issuperset(p) for p in PARTITIONS):
        return
    missing = asked - held
    if missing:
        raise InputError(
            where,
            f"DSS cut holds event type bits {sorted(held)} only, without {sorted(missing)}",
            "use a file of all event types or set response.event_types to what it holds",
        )
