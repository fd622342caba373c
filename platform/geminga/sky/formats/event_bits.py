"""Bit columns of event lists, and the selection of event types that they put an event in.

The first element of an ``nX`` column is the most significant bit (FITS standard 4.0, 7.3.2), so
bit 0 of EVENT_CLASS and EVENT_TYPE is the last element of the array.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geminga.arrays import Bool, Int8
from geminga.bands import Channel
from geminga.errors import InputError
from geminga.response.event_types import (
    CONVERSION_TYPES,
    is_everything,
    partition_of,
    type_bits,
)
from geminga.sky.formats.fits_input import column_name, require_columns

ROW = "row"
"""Key of the row number among the columns of a table; FT1 spells its columns in capitals."""


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


def entries_of(channels: Sequence[Channel]) -> tuple[tuple[str, ...], ...]:
    """Return the selections of event types that have channels of their own, in their order.

    Raises
    ------
    InputError
        If a type is unknown or an event could be in two selections.
    """
    entries = tuple(dict.fromkeys(channel.event_types for channel in channels))
    type_bits([name for entry in entries for name in entry])
    if len({(channel.event_types, channel.band) for channel in channels}) != len(channels):
        raise InputError(
            "response.event_types",
            f"{['+'.join(entry) for entry in entries]} count events twice",
            "name each entry once",
        )
    return entries


def type_column(hdu: Any, entries: Sequence[Sequence[str]], where: str) -> str | None:
    """Return which column tells the selections apart; None if one selection holds all events.

    Raises
    ------
    InputError
        If it takes a column that the table lacks.
    """
    if len(entries) == 1 and is_everything(entries[0]):
        return None
    names = {name for entry in entries for name in entry}
    lacking = column_name(hdu, "EVENT_TYPE") is None
    if lacking and names <= set(CONVERSION_TYPES) and column_name(hdu, "CONVERSION_TYPE"):
        return "CONVERSION_TYPE"
    require_columns(hdu, ["EVENT_TYPE"], where)
    return "EVENT_TYPE"


def entry_of_events(
    table: Mapping[str, NDArray[Any]], entries: Sequence[Sequence[str]], where: str
) -> Int8:
    """Return the selection each event is in, -1 for none of them, shape (n,).

    Parameters
    ----------
    table : mapping
        With EVENT_TYPE or CONVERSION_TYPE, as `type_column` says, or neither if one selection
        holds all events; and the number of each row as ROW, if it is known.
    entries : sequence of sequences of str
        Event types of each selection.
    where : str
        Names the file in errors.

    Raises
    ------
    InputError
        If an event has not exactly one of the types that split all events among them.
    """
    result = np.full(len(table["ENERGY"]), -1, dtype=np.int8)
    if "EVENT_TYPE" in table:
        split = partition_of(type_bits(entries[0])[0])
        is_of = {bit: bit_is_set(table["EVENT_TYPE"], bit, f"{where} EVENT_TYPE") for bit in split}
        column, wanted = "EVENT_TYPE", f"one of bits {list(split)}"
    elif "CONVERSION_TYPE" in table:
        is_of = {
            bit: np.asarray(table["CONVERSION_TYPE"] == bit) for bit in range(len(CONVERSION_TYPES))
        }
        column, wanted = "CONVERSION_TYPE", "0 (front) or 1 (back)"
    else:
        result[:] = 0
        return result
    times = np.sum(list(is_of.values()), axis=0)
    if np.any(times != 1):
        row = int(np.flatnonzero(times != 1)[0])
        place = f" in row {table[ROW][row]}" if ROW in table else ""
        raise InputError(
            where,
            f"{column} of {int(np.sum(times != 1))} events (the first{place} with energy "
            f"{table['ENERGY'][row]}) names {times[row]} of the event types",
            f"each event has {wanted}",
        )
    for number, entry in enumerate(entries):
        for bit in type_bits(entry):
            result[is_of[bit]] = number
    return result
