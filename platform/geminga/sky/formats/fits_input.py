"""Opening FITS files of others: every fault named, with the file and what would be right."""

from __future__ import annotations

import gzip
import logging
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from astropy import units
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

from geminga.arrays import Float64
from geminga.errors import InputError

_LOG = logging.getLogger(__name__)
GZIP_MAGIC = b"\x1f\x8b"
_REMEDY = "download or copy the file again"


@contextmanager
def open_fits(path: Path) -> Iterator[Any]:
    """Open a FITS file, plain or gzipped, and check that it is complete.

    Yields
    ------
    astropy.io.fits.HDUList
        Open while the block runs; every header has been read.

    Raises
    ------
    InputError
        If the file is missing, not FITS, or shorter than its headers say.
    """
    with ExitStack() as stack:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", AstropyUserWarning)
            try:
                stream = stack.enter_context(path.open("rb"))
                zipped = stream.read(2) == GZIP_MAGIC
                stream.seek(0)
                source: Any = stream
                if zipped:
                    source = stack.enter_context(gzip.GzipFile(fileobj=stream))
                    # astropy takes the end of a cut stream for the end of the file.
                    while source.read(1 << 22):
                        pass
                    source.seek(0)
                hdus = stack.enter_context(fits.open(source, memmap=not zipped))
                len(hdus)
            except FileNotFoundError as error:
                raise InputError(str(path), "does not exist", "name a FITS file") from error
            except EOFError as error:
                raise InputError(str(path), f"is truncated ({error})", _REMEDY) from error
            except (OSError, zlib.error, fits.VerifyError) as error:
                raise InputError(
                    str(path), f"is not a readable FITS file ({error})", "name a FITS file"
                ) from error
        for warning in caught:
            message = str(warning.message).replace("\n", " ")
            if "truncated" in message or "corrupted" in message:
                raise InputError(str(path), f"is truncated ({message})", _REMEDY)
            _LOG.warning("%s: %s", path, message)
        yield hdus


def find_hdu(hdus: Any, name: str, where: str) -> Any:
    """Return the binary table called `name`.

    Raises
    ------
    InputError
        If the file has no such table.
    """
    for hdu in hdus:
        if hdu.name.strip().upper() == name.upper() and isinstance(hdu, fits.BinTableHDU):
            return hdu
    names = [hdu.name for hdu in hdus]
    raise InputError(where, f"has no table {name} (only {names})", f"name a file with {name}")


def column_name(hdu: Any, name: str) -> str | None:
    """Return how the table spells column `name` (any case), None without it."""
    return next((n for n in hdu.columns.names if n.strip().upper() == name.upper()), None)


def require_columns(hdu: Any, names: list[str], where: str) -> list[str]:
    """Return how the table spells each of the columns `names`.

    Raises
    ------
    InputError
        If one is missing.
    """
    found = [column_name(hdu, name) for name in names]
    missing = [name for name, actual in zip(names, found, strict=True) if actual is None]
    if missing:
        raise InputError(
            where,
            f"table {hdu.name} has no column {', '.join(missing)}",
            f"needs {', '.join(names)}",
        )
    return [name for name in found if name is not None]


def unit_factor(unit: str | None, target: str, where: str) -> float:
    """Return the factor from a column's unit to `target`; no unit means `target` already.

    Raises
    ------
    InputError
        If the unit is unknown or of another kind.
    """
    if not unit or not unit.strip():
        return 1.0
    try:
        return float(units.Unit(unit).to(target))
    except (ValueError, TypeError) as error:
        raise InputError(
            where, f"unit {unit!r} is not one of {target}", f"give the values in {target}"
        ) from error


@cache
def _rotation() -> tuple[tuple[float, ...], ...]:
    # ICRS and Galactic axes are fixed to each other: three directions give the whole rotation.
    axes = SkyCoord([1, 0, 0], [0, 1, 0], [0, 0, 1], representation_type="cartesian", frame="icrs")
    matrix = np.asarray(axes.galactic.cartesian.xyz.value, dtype=np.float64)
    return tuple(tuple(float(x) for x in row) for row in matrix)


def galactic_from_equatorial(vectors: Float64) -> Float64:
    """Turn unit vectors (..., 3) from ICRS to Galactic axes."""
    return np.asarray(np.asarray(vectors, dtype=np.float64) @ np.array(_rotation()).T)


def equatorial_from_galactic(vectors: Float64) -> Float64:
    """Turn unit vectors (..., 3) from Galactic to ICRS axes."""
    return np.asarray(np.asarray(vectors, dtype=np.float64) @ np.array(_rotation()))
