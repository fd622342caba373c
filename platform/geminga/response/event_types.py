"""Event types and classes of Pass 8 and their bits.

Bits of EVENT_TYPE and EVENT_CLASS as in the FSSC's Cicerone ("LAT data selection", Pass 8):
conversion type in bits 0 and 1, PSF quartiles in bits 2 to 5, energy quartiles in bits 6 to 9.
Each of these three splits all events among its types.
"""

from __future__ import annotations

from collections.abc import Sequence

from geminga.errors import InputError

EVENT_TYPE_BITS = {"FRONT": 0, "BACK": 1, "PSF0": 2, "PSF1": 3, "PSF2": 4, "PSF3": 5}
CONVERSION_TYPES = ("FRONT", "BACK")
"""Values of the column CONVERSION_TYPE, in order."""
PARTITIONS = ((0, 1), (2, 3, 4, 5), (6, 7, 8, 9))
"""Bits that split all events among them."""
EVENT_CLASS_BITS = {
    "TRANSIENT020": 4,
    "TRANSIENT010": 6,
    "SOURCE": 7,
    "CLEAN": 8,
    "ULTRACLEAN": 9,
    "ULTRACLEANVETO": 10,
    "SOURCEVETO": 11,
}


def type_bits(event_types: Sequence[str]) -> tuple[int, ...]:
    """Return the EVENT_TYPE bits of event types.

    Raises
    ------
    InputError
        If a type is unknown, named twice, or overlaps with another: ``FRONT`` and ``PSF0`` share
        events.
    """
    for name in event_types:
        if name not in EVENT_TYPE_BITS:
            raise InputError(
                "response.event_types",
                f"unknown event type {name!r}",
                f"choose from {', '.join(EVENT_TYPE_BITS)}",
            )
    bits = tuple(EVENT_TYPE_BITS[name] for name in event_types)
    if len(set(bits)) != len(bits) or len({partition_of(bit) for bit in bits}) > 1:
        raise InputError(
            "response.event_types",
            f"{list(event_types)} count events twice",
            "name each type once, and either FRONT and BACK or PSF0 to PSF3",
        )
    return bits


def partition_of(bit: int) -> tuple[int, ...]:
    """Return the bits among which the events of a type's kind are split."""
    return next(p for p in PARTITIONS if bit in p)


def is_everything(event_types: Sequence[str]) -> bool:
    """Return whether event types together hold all events."""
    bits = type_bits(event_types)
    return set(partition_of(bits[0])) == set(bits)


def class_mask(irf: str) -> int:
    """Return the EVENT_CLASS bits that an event of a response class has at the least.

    From SOURCE to ULTRACLEANVETO each class is part of the one before, and all of TRANSIENT010 and
    TRANSIENT020; SOURCEVETO is part of SOURCE.
    """
    bit, source = class_bit(irf), EVENT_CLASS_BITS["SOURCE"]
    veto = EVENT_CLASS_BITS["SOURCEVETO"]
    bits = {bit}
    if bit == veto:
        bits |= {source}
    elif bit > source:
        bits |= set(range(source, bit))
    if bit >= source:
        bits |= {EVENT_CLASS_BITS["TRANSIENT010"], EVENT_CLASS_BITS["TRANSIENT020"]}
    return sum(1 << number for number in bits)


def class_bit(irf: str) -> int:
    """Return the EVENT_CLASS bit of a response class such as ``P8R2_SOURCE_V6``.

    Raises
    ------
    InputError
        If no bit is known for the class.
    """
    parts = irf.split("_")
    name = parts[1] if len(parts) > 1 else irf
    if name not in EVENT_CLASS_BITS:
        raise InputError(
            "response.irf",
            f"no EVENT_CLASS bit is known for {irf!r}",
            f"use a Pass 8 class, P8R3_<class>_V3 with one of {', '.join(EVENT_CLASS_BITS)}",
        )
    return EVENT_CLASS_BITS[name]
