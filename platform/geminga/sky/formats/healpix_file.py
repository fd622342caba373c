"""The energy bins of one HEALPix counts file, every fault of it named."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import healpy as hp
import numpy as np
from astropy.io import fits
from numpy.typing import NDArray

from geminga.arrays import Bool, Int64
from geminga.bands import Channel, edges_mev
from geminga.config import ObservedConfig
from geminga.errors import InputError
from geminga.sky.formats.fits_input import (
    column_name,
    find_hdu,
    open_fits,
    require_columns,
    unit_factor,
)
from geminga.sky.formats.selection import (
    Selection,
    check_final,
    check_selection,
    read_selection,
)
from geminga.sky.photons import MOST_PHOTONS

_LOG = logging.getLogger(__name__)
FINEST_ORDER = 29
"""Order of the finest HEALPix level that fits in 64-bit pixel numbers: cells of 0.0004 arcsec."""

_GALACTIC = ("GAL", "G", "GALACTIC")
_EQUATORIAL = ("EQU", "CEL", "C", "EQUATORIAL", "CELESTIAL")


@dataclass(frozen=True)
class EnergyBin:
    """One energy bin of one file.

    Attributes
    ----------
    where : str
        File and column, for messages.
    key : tuple of two ints
        Number of the file and of the column.
    edges_mev : tuple of two floats
    nside : int
    galactic : bool
        Frame: Galactic, or equatorial.
    pixels, counts : Int64 (n,)
        NESTED numbers of the pixels with counts, rising, and the counts.
    covered : Int64 or None
        NESTED numbers of the pixels that the map has, rising; None for the whole sky.
    """

    where: str
    key: tuple[int, int]
    edges_mev: tuple[float, float]
    nside: int
    galactic: bool
    pixels: Int64
    counts: Int64
    covered: Int64 | None = None


@dataclass(frozen=True)
class MapSummary:
    """What the headers of a counts map say: its selection, and energy bins without counts."""

    selection: Selection
    bins: tuple[EnergyBin, ...]
    span_s: tuple[float, float] | None


def summarise_map(path: Path) -> MapSummary:
    """Read the headers and the energies of a counts map, and not its counts.

    Errors as `geminga.sky.formats.healpix.read_counts`.
    """
    where = str(path)
    with open_fits(path) as hdus:
        hdu = _map_table(hdus, where)
        selection = read_selection(hdu.header, where, say=False)
        galactic = _is_galactic(hdu.header, where)
        names = _channel_names(hdu, where)
        edges = _channel_edges(hdus, len(names), selection.energy_mev, where)
        none = np.empty(0, np.int64)
        bins = tuple(
            EnergyBin(f"{where} {name}", (0, n), edges[n], 0, galactic, none, none)
            for n, name in enumerate(names)
        )
        return MapSummary(selection, bins, time_span(hdu.header))


def time_span(header: Any) -> tuple[float, float] | None:
    """Return TSTART and TSTOP of a header, None without them."""
    try:
        span = (float(header["TSTART"]), float(header["TSTOP"]))
    except (KeyError, TypeError, ValueError):
        return None
    return span if span[1] > span[0] else None


def read_bins(
    path: Path, number: int, channels: Sequence[Channel], observed: ObservedConfig | None
) -> list[EnergyBin]:
    """Read the energy bins of file `number` of a run, which is to fill `channels`.

    Errors as `geminga.sky.formats.healpix.read_counts`.
    """
    where = str(path)
    with open_fits(path) as hdus:
        hdu = _map_table(hdus, where)
        selection = read_selection(hdu.header, where)
        galactic = _is_galactic(hdu.header, where)
        names = _channel_names(hdu, where)
        edges = _channel_edges(hdus, len(names), selection.energy_mev, where)
        if observed is not None:
            # Other bands may have files of their own.
            bands = [channel for channel in channels if _reaches_into(channel, edges)]
            check_selection(selection, where, bands or channels, observed, bands)
            check_final(selection, where, bands or channels, observed)
        indices = _explicit_pixels(hdu, where)
        bins = []
        for index, name in enumerate(names):
            label = f"{where} {name}"
            values = np.asarray(hdu.data[name]).reshape(-1)
            nside = _nside(hdu.header, len(values), indices, where)
            seen = _seen(values, label)
            counts = _whole(values if seen is None else np.where(seen, values, 0), label)
            nested = _is_nested(hdu.header, where)
            pixels, counts = _filled(counts, nside, indices, nested)
            covered = _covered(seen, nside, indices, nested)
            key = (number, index)
            bins.append(
                EnergyBin(label, key, edges[index], nside, galactic, pixels, counts, covered)
            )
    return bins


def _reaches_into(band: Channel, edges: Sequence[tuple[float, float]]) -> bool:
    """Return whether energy bins (MeV) hold part of a band, rounding of edges aside."""
    first, last = edges_mev([band])[0]
    return any(low < last * (1 - 1e-4) and high > first * (1 + 1e-4) for low, high in edges)


def _map_table(hdus: Any, where: str) -> Any:
    for hdu in hdus:
        if isinstance(hdu, fits.BinTableHDU) and (
            hdu.name.strip().upper() in ("SKYMAP", "XTENSION")
            or str(hdu.header.get("PIXTYPE", "")).strip().upper() == "HEALPIX"
        ):
            return hdu
    names = [hdu.name for hdu in hdus]
    raise InputError(where, f"has no HEALPix table (only {names})", "name a HEALPix counts map")


def _is_galactic(header: Any, where: str) -> bool:
    frame = str(header.get("COORDSYS", "")).strip().upper()
    if frame not in _GALACTIC + _EQUATORIAL:
        raise InputError(where, f"COORDSYS = {frame!r} is not a known frame", "expected GAL or EQU")
    return frame in _GALACTIC


def _is_nested(header: Any, where: str) -> bool:
    ordering = str(header.get("ORDERING", "")).strip().upper()
    if ordering not in ("RING", "NESTED", "NEST"):
        raise InputError(where, f"ORDERING = {ordering!r} is not known", "expected RING or NESTED")
    return ordering != "RING"


def _channel_names(hdu: Any, where: str) -> list[str]:
    found = [
        (re.fullmatch(r"\s*(?:CHANNEL|ENERGY)\s*(\d+)\s*", n, re.I), n) for n in hdu.columns.names
    ]
    numbered = sorted((int(match[1]), name) for match, name in found if match)
    if numbered:
        return [name for _, name in numbered]
    others = [n for n in hdu.columns.names if n.strip().upper() not in ("PIX", "PIXEL")]
    if len(others) != 1:
        raise InputError(
            where,
            f"has no column CHANNEL1 and {len(others)} other columns {others}",
            "need CHANNEL1, CHANNEL2, ... or one column of counts",
        )
    return others


def _channel_edges(
    hdus: Any, n: int, cut: tuple[float, float] | None, where: str
) -> list[tuple[float, float]]:
    """Return the edges of the channels in MeV: EBOUNDS, or the energy cut of a lone channel."""
    if "EBOUNDS" not in [hdu.name.strip().upper() for hdu in hdus]:
        if n == 1 and cut is not None:
            return [cut]
        raise InputError(
            where, f"has no EBOUNDS table for its {n} channels", "make the map with gtbin"
        )
    hdu = find_hdu(hdus, "EBOUNDS", where)
    edges = []
    for name in require_columns(hdu, ["E_MIN", "E_MAX"], where):
        factor = unit_factor(hdu.columns[name].unit or "keV", "MeV", f"{where} {name}")
        edges.append(np.asarray(hdu.data[name], dtype=np.float64) * factor)
    if len(edges[0]) != n:
        raise InputError(
            where, f"EBOUNDS has {len(edges[0])} rows for {n} channels", "make the map anew"
        )
    return [(float(low), float(high)) for low, high in zip(*edges, strict=True)]


def _explicit_pixels(hdu: Any, where: str) -> Int64 | None:
    """Return the pixel numbers of a partial map, None for a map of the whole sky."""
    scheme = str(hdu.header.get("INDXSCHM", "IMPLICIT")).strip().upper()
    name = column_name(hdu, "PIX") or column_name(hdu, "PIXEL")
    if scheme == "IMPLICIT" and name is None:
        return None
    if scheme not in ("IMPLICIT", "EXPLICIT") or name is None:
        raise InputError(
            where,
            f"INDXSCHM = {scheme!r} with columns {hdu.columns.names}",
            "need implicit pixels, or explicit ones in a column PIX",
        )
    pixels = np.asarray(hdu.data[name], dtype=np.int64).reshape(-1)
    if len(np.unique(pixels)) != len(pixels):
        raise InputError(where, f"column {name} names pixels twice", "give each pixel one row")
    return pixels


def _nside(header: Any, rows: int, indices: Int64 | None, where: str) -> int:
    """Return the resolution, checked against the number of rows."""
    stated = header.get("NSIDE")
    order = header.get("ORDER")
    if stated is None and isinstance(order, int) and 0 <= order <= FINEST_ORDER:
        stated = 1 << order
    nside = stated if isinstance(stated, int) else 0
    if nside < 1 or nside & (nside - 1) or nside > 1 << FINEST_ORDER:
        raise InputError(where, f"NSIDE = {stated!r} is not a power of two", "make the map anew")
    npix = 12 * nside**2
    if indices is None and rows != npix:
        raise InputError(
            where, f"{rows} pixels do not fit NSIDE = {nside}", f"need {npix} = 12 NSIDE^2"
        )
    if indices is not None and (
        len(indices) != rows or (rows and (indices.min() < 0 or indices.max() >= npix))
    ):
        raise InputError(
            where, f"pixel numbers do not fit NSIDE = {nside}", f"need numbers 0 to {npix - 1}"
        )
    return nside


def _filled(counts: Int64, nside: int, indices: Int64 | None, nested: bool) -> tuple[Int64, Int64]:
    """Return the NESTED numbers of pixels with counts, rising, and their counts.

    In that order the photons drawn from a map do not depend on the order of its file.
    """
    rows = np.flatnonzero(counts)
    pixels = rows if indices is None else indices[rows]
    pixels = pixels if nested else hp.ring2nest(nside, pixels)
    order = np.argsort(pixels, kind="stable")
    return np.asarray(pixels[order], dtype=np.int64), counts[rows[order]]


def _covered(seen: Bool | None, nside: int, indices: Int64 | None, nested: bool) -> Int64 | None:
    """Return the NESTED numbers of pixels that hold data, rising; None if all of the sky do."""
    if seen is None and indices is None:
        return None
    pixels = np.arange(12 * nside**2) if indices is None else indices
    pixels = pixels if seen is None else pixels[seen]
    if len(pixels) == 12 * nside**2:
        return None
    pixels = pixels if nested else hp.ring2nest(nside, pixels)
    return np.sort(np.asarray(pixels, dtype=np.int64))


def _seen(values: NDArray[Any], where: str) -> Bool | None:
    """Return which rows are not healpy's UNSEEN, the mark of pixels without data; None if all."""
    unseen = np.isclose(values, hp.UNSEEN, rtol=1e-6, atol=0.0)
    if not unseen.any():
        return None
    _LOG.info("%s: %d pixels are UNSEEN: taken as not observed", where, int(unseen.sum()))
    return np.asarray(~unseen)


def _whole(values: Any, where: str) -> Int64:
    """Return counts as integers.

    Raises
    ------
    InputError
        If a value is no whole number, or more than there may be photons.
    """
    bad = ~np.isfinite(values) | (values < 0) | (values != np.floor(values))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise InputError(
            where,
            f"{int(bad.sum())} pixels hold no count, the first (row {first}) {values[first]}",
            "need whole numbers of photons, 0 or more",
        )
    if values.max(initial=0) > MOST_PHOTONS:
        row = int(np.argmax(values))
        raise InputError(
            where,
            f"row {row} holds {float(values[row]):g} counts",
            f"at most {MOST_PHOTONS:,} photons are taken, each as a row of a list",
        )
    return np.asarray(values, dtype=np.int64)
