"""Photons of ranges of rows counted in HEALPix pixels, kept sparse, and added up.

Counts are integers and adding them is exact: the sum is the same bits whatever the ranges were,
whoever counted them, and in which order they come.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import healpy as hp
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from geminga.arrays import Int32, Int64
from geminga.errors import InputError
from geminga.files import atomic
from geminga.sky.formats.ft1 import time_bin
from geminga.sky.formats.ft1_rows import CUTS, RowCuts, Rows
from geminga.sky.formats.ft1_stream import RowReader
from geminga.sky.photons import ORDER

DECODED = 1 << 17
"""Rows decoded at a time: some 500 bytes each with all that is made of them on the way."""
MOST_COUNTS = np.iinfo(np.int32).max
"""Photons that maps of 32-bit counts hold without a look at each pixel."""

_FORMAT = "geminga-partial-counts-1"


@dataclass(frozen=True)
class CountGrid:
    """What photons are counted in: pixels of every channel, in each of equal parts of a time.

    Attributes
    ----------
    nside : int
        Galactic HEALPix pixels.
    channels : int
    bins : int
        Parts of the time; one if it is not divided.
    start_s, stop_s : float
        The time that is divided, mission elapsed time.
    """

    nside: int
    channels: int
    bins: int = 1
    start_s: float = 0.0
    stop_s: float = 0.0

    @property
    def npix(self) -> int:
        """Pixels of a map."""
        return 12 * self.nside**2

    @property
    def slots(self) -> int:
        """Number of maps: those of the first part of the time, by channel, then of the next."""
        return self.channels * self.bins

    def keys(self, rows: Rows) -> Int64:
        """Return slot and NESTED pixel of each photon as one number, (n,)."""
        finer = 2 * (ORDER - self.nside.bit_length() + 1)
        slot = rows.channel.astype(np.int64)
        if self.bins > 1 and rows.time is not None:
            times = time_bin(rows.time, self.start_s, self.stop_s, self.bins)
            slot += times.astype(np.int64) * self.channels
        return slot * self.npix + (rows.pixel >> finer)


@dataclass(frozen=True, eq=False)
class PartialCounts:
    """The photons of a range of rows.

    Attributes
    ----------
    slot : Int64 (n,)
        Which map; rising.
    pixel : Int64 (n,)
        NESTED number; rising in each slot.
    count : Int64 (n,)
        At least 1.
    rows : int
        Rows read.
    passed : tuple of int
        Rows left after each of `geminga.sky.formats.ft1_rows.CUTS`.
    """

    slot: Int64
    pixel: Int64
    count: Int64
    rows: int
    passed: tuple[int, ...]

    def save(self, path: Path) -> None:
        """Write them as a Parquet file."""
        told = {"format": _FORMAT, "rows": str(self.rows), "passed": json.dumps(self.passed)}
        table = pa.table(
            {
                "slot": pa.array(self.slot, pa.int16()),
                "pixel": pa.array(self.pixel, pa.int64()),
                "count": pa.array(self.count, pa.int32()),
            },
            metadata=told,
        )
        with atomic(path) as temporary:
            pq.write_table(
                table,
                temporary,
                compression="zstd",
                use_dictionary=["slot", "count"],
                column_encoding={"pixel": "DELTA_BINARY_PACKED"},
                write_page_checksum=True,
            )


def count_rows(
    reader: RowReader, cuts: RowCuts, grid: CountGrid, first: int, last: int
) -> PartialCounts:
    """Count the photons of rows `first` to `last`, counted from 0, without the last.

    Raises
    ------
    InputError
        If rows are missing, or a row is impossible; names it.
    """
    keys = [np.empty(0, np.int64)]
    passed = np.zeros(len(CUTS), dtype=np.int64)
    for start in range(first, last, DECODED):
        rows = cuts.select(reader.read(start, min(start + DECODED, last)), start)
        keys.append(grid.keys(rows))
        passed += rows.passed
    found, count = np.unique(np.concatenate(keys), return_counts=True)
    slot, pixel = np.divmod(found, grid.npix)
    return PartialCounts(slot, pixel, count, last - first, tuple(int(n) for n in passed))


def read_totals(path: Path) -> tuple[int, tuple[int, ...]]:
    """Return rows read and left after each cut, of a file of partial counts.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    try:
        meta = pq.read_schema(path).metadata or {}
        if meta.get(b"format", b"").decode() != _FORMAT:
            raise ValueError("of another format")
        return int(meta[b"rows"]), tuple(json.loads(meta[b"passed"]))
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(path, error) from error


def check_part(path: Path) -> None:
    """Raise InputError unless a file of partial counts is whole."""
    read_totals(path)
    try:
        pq.read_table(path, page_checksum_verification=True)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def add_counts(counts: Int32, slot: int, path: Path) -> None:
    """Add a file's counts of one slot to a map of the whole sky (RING), in place.

    Raises
    ------
    InputError
        If the file is missing or damaged.
    """
    try:
        table = pq.read_table(
            path, filters=pc.field("slot") == slot, page_checksum_verification=True
        )
        pixel, count = (table.column(name).to_numpy() for name in ("pixel", "count"))
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(path, error) from error
    # A pixel comes once.
    counts[hp.nest2ring(hp.npix2nside(len(counts)), pixel)] += count


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        str(path),
        f"is not a readable file of partial counts ({error})",
        "delete it and ingest again",
    )
