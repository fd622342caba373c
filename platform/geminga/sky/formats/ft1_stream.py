"""Event lists read in ranges of rows, however long they are.

A plain file is read where the rows are; a gzipped one from its start, for gzip has no places to
jump to. Nothing but the rows asked for is ever in memory.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from astropy.io import fits

from geminga.arrays import Float64
from geminga.errors import InputError
from geminga.sky.formats.fits_input import GZIP_MAGIC, find_hdu, require_columns

_BLOCK = 2880
"""Headers and data of a FITS file fill whole blocks of bytes (standard 4.0, 3.1)."""
_READ = 1 << 16
_REMEDY = "download or copy the file again"


@dataclass(frozen=True, eq=False)
class EventTable:
    """Where the rows of the table EVENTS are.

    Attributes
    ----------
    path : Path
    zipped : bool
    header : astropy.io.fits.Header
    offset : int
        Bytes before the first row, of the file once unzipped.
    """

    path: Path
    zipped: bool
    header: Any
    offset: int

    @property
    def rows(self) -> int:
        """Number of events."""
        return int(self.header["NAXIS2"])

    @property
    def row_bytes(self) -> int:
        """Bytes of an event."""
        return int(self.header["NAXIS1"])

    def hdu(self, content: bytes = b"") -> Any:
        """Return the table of some rows, as astropy reads it; of no rows by default."""
        header = self.header.copy()
        header["NAXIS2"], header["PCOUNT"] = len(content) // self.row_bytes, 0
        return _hdu(header, content)

    def broken(self, position: int, problem: str) -> InputError:
        """Return the error of a file that could be read up to a position and no further."""
        row = min(max((position - self.offset) // self.row_bytes, 0), self.rows)
        return InputError(
            str(self.path), f"is {problem} after row {row:,} of {self.rows:,}", _REMEDY
        )


class RowReader:
    """Reads rows of an open event list; of a gzipped one, ranges that rise."""

    def __init__(self, table: EventTable, stream: IO[bytes]) -> None:
        self._table, self._stream = table, stream

    def read(self, first: int, last: int) -> Any:
        """Return rows `first` to `last`, counted from 0, without the last.

        Returns
        -------
        astropy.io.fits.FITS_rec

        Raises
        ------
        InputError
            If the file ends before them, or is damaged.
        """
        table, stream = self._table, self._stream
        start = table.offset + first * table.row_bytes
        size = (last - first) * table.row_bytes
        try:
            stream.seek(start)
            content = stream.read(size)
        except (EOFError, OSError, zlib.error) as error:
            raise table.broken(start, f"damaged ({error})") from error
        if len(content) < size:
            raise table.broken(start + len(content), "truncated")
        return table.hdu(content).data


@contextmanager
def open_rows(table: EventTable) -> Iterator[RowReader]:
    """Open an event list to read its rows."""
    with _open(table.path) as (stream, _):
        yield RowReader(table, stream)


def locate_events(path: Path) -> EventTable:
    """Return where the events of a file are; it is read up to there.

    Raises
    ------
    InputError
        If the file is missing, not FITS, or has no table EVENTS.
    """
    names = []
    with _open(path) as (stream, zipped):
        for header, offset in _headers(stream, path):
            if _is(header, "EVENTS"):
                table = EventTable(path, zipped, header, offset)
                find_hdu([table.hdu()], "EVENTS", str(path))
                return table
            names.append(str(header.get("EXTNAME", "PRIMARY")))
            try:
                stream.seek(offset + _padded(_data_bytes(header)))
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise InputError(str(path), f"is truncated ({error})", _REMEDY) from error
    raise InputError(str(path), f"has no table EVENTS (only {names})", "name a file with EVENTS")


def examine_events(path: Path) -> tuple[EventTable, Float64]:
    """Check that an event list is complete; a gzipped one is read to its end for that.

    Returns
    -------
    table : EventTable
    good_times : Float64 (n, 2)
        Good time intervals, mission elapsed time in s; TSTART and TSTOP without a table of them,
        none if the file says nothing.

    Raises
    ------
    InputError
        If the file is missing, not FITS, has no table EVENTS, or is truncated or damaged: then
        the message says after which row.
    """
    table = locate_events(path)
    good_times: Float64 | None = None
    with _open(path) as (stream, zipped):
        _read_through(table, stream, zipped)
        stream.seek(table.offset + _padded(_data_bytes(table.header)))
        for header, offset in _headers(stream, path):
            size = _data_bytes(header)
            if _is(header, "GTI") and header.get("NAXIS2", 0):
                content = stream.read(size)
                if len(content) < size:
                    raise InputError(str(path), "is truncated in its table GTI", _REMEDY)
                good_times = _intervals(_hdu(header, content), str(path))
            stream.seek(offset + _padded(size))
    if good_times is None:
        known = "TSTART" in table.header and "TSTOP" in table.header
        span = [float(table.header["TSTART"]), float(table.header["TSTOP"])] if known else []
        good_times = np.array(span, dtype=np.float64).reshape(-1, 2)
    return table, good_times


def _read_through(table: EventTable, stream: IO[bytes], zipped: bool) -> None:
    """Check that everything up to the end of the events, and of a gzipped file, is there."""
    end = table.offset + _data_bytes(table.header)
    if not zipped:
        size = table.path.stat().st_size
        if size < end:
            raise table.broken(size, "truncated")
        return
    position = 0
    try:
        while content := stream.read(_READ):
            position += len(content)
    except EOFError as error:
        raise table.broken(position, "truncated") from error
    except (OSError, zlib.error) as error:
        raise table.broken(position, f"damaged ({error})") from error
    if position < end:
        raise table.broken(position, "truncated")
    stream.seek(0)


@contextmanager
def _open(path: Path) -> Iterator[tuple[IO[bytes], bool]]:
    """Open a file, unzipped on the way if it is gzipped; tell which."""
    with ExitStack() as stack:
        try:
            stream: Any = stack.enter_context(path.open("rb"))
        except FileNotFoundError as error:
            raise InputError(str(path), "does not exist", "name an FT1 event list") from error
        except OSError as error:
            raise InputError(
                str(path), f"cannot be read ({error.strerror})", "name an FT1 event list"
            ) from error
        zipped = stream.read(2) == GZIP_MAGIC
        stream.seek(0)
        if zipped:
            stream = stack.enter_context(gzip.GzipFile(fileobj=stream))
        yield stream, zipped


def _headers(stream: IO[bytes], path: Path) -> Iterator[tuple[Any, int]]:
    """Give each header from here on with the place of its data; the caller moves to the next."""
    while True:
        try:
            header = fits.Header.fromfile(stream)
            _data_bytes(header)
        except EOFError as error:
            # astropy says so at the end of a file, gzip where one was cut; both may be the first.
            if stream.tell():
                return
            raise InputError(
                str(path), f"is not a readable FITS file ({error or 'empty'})", "name an FT1 file"
            ) from error
        except (OSError, ValueError, TypeError, KeyError, zlib.error) as error:
            raise InputError(
                str(path), f"is not a readable FITS file ({error})", "name an FT1 file"
            ) from error
        yield header, stream.tell()


def _is(header: Any, name: str) -> bool:
    return str(header.get("EXTNAME", "")).strip().upper() == name


def _data_bytes(header: Any) -> int:
    """Return the bytes of the data after a header, without their padding (standard 4.0, 7.1)."""
    axes = [int(header[f"NAXIS{n}"]) for n in range(1, int(header["NAXIS"]) + 1)]
    if not axes:
        return 0
    values = int(header.get("PCOUNT", 0)) + math.prod(axes)
    return abs(int(header["BITPIX"])) // 8 * int(header.get("GCOUNT", 1)) * values


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _hdu(header: Any, content: bytes) -> Any:
    text = header.tostring().encode("ascii")
    return fits.BinTableHDU.fromstring(text + content + bytes(-len(content) % _BLOCK))


def _intervals(hdu: Any, where: str) -> Float64:
    start, stop = require_columns(hdu, ["START", "STOP"], where)
    return np.stack(
        [np.asarray(hdu.data[name], dtype=np.float64) for name in (start, stop)], axis=1
    )
