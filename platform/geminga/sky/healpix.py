"""Counts maps in gtbin's HEALPix format, read as photons and written from them.

The layout is that of gtbin (algorithm HEALPIX): a table SKYMAP with one column CHANNELn per
energy bin, and a table EBOUNDS with the bins' edges in keV.
"""

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

from geminga.arrays import Float64, Int64
from geminga.bands import Band, edges_mev
from geminga.config import Config
from geminga.errors import InputError
from geminga.files import atomic
from geminga.seeds import Stage, generator
from geminga.sky.fits_input import (
    column_name,
    find_hdu,
    galactic_from_equatorial,
    open_fits,
    require_columns,
    unit_factor,
)
from geminga.sky.photons import Photons
from geminga.sky.selection import check_final, check_selection, read_selection

_LOG = logging.getLogger(__name__)
_EDGE_TOLERANCE = 1e-4
"""Channel edges are kept in single precision and often rounded: equal within this part."""

_FINEST = 29
"""Order of the finest HEALPix level that fits in 64-bit pixel numbers: cells of 0.0004 arcsec."""

_GALACTIC = ("GAL", "G", "GALACTIC")
_EQUATORIAL = ("EQU", "CEL", "C", "EQUATORIAL", "CELESTIAL")


@dataclass(frozen=True)
class _Channel:
    """One energy bin of one file; `pixels` are nested pixel numbers of those with counts."""

    where: str
    key: tuple[int, int]
    edges_mev: tuple[float, float]
    nside: int
    galactic: bool
    pixels: Int64
    counts: Int64


def uniform_in_pixels(nside: int, nested_pixels: Int64, rng: np.random.Generator) -> Float64:
    """Draw one direction in each HEALPix pixel, uniform over its area.

    A pixel is the union of 4**k equal pixels of a finer level; one of those of the finest level
    is drawn and its centre taken.

    Parameters
    ----------
    nside : int
        Resolution, a power of two.
    nested_pixels : Int64 (n,)
        Pixel numbers in NESTED order, as often as directions are wanted.
    rng : numpy.random.Generator

    Returns
    -------
    Float64 (n, 3)
        Unit vectors in the map's own frame.
    """
    children = 4 ** (_FINEST - nside.bit_length() + 1)
    fine = nested_pixels * children + rng.integers(0, children, size=len(nested_pixels))
    return np.stack(hp.pix2vec(1 << _FINEST, fine, nest=True), axis=-1)


def read_counts(paths: Sequence[Path], config: Config) -> Photons:
    """Read HEALPix counts maps as photons, each placed at random inside its pixel.

    The energy channels of all files together must fill every band: channels inside a band are
    summed, those outside all bands are left out. A map in equatorial coordinates is read by
    rotating the photons, not by regridding the map. Maps have no times, so photons get years at
    random in equal shares, as if every source were steady.

    Parameters
    ----------
    paths : sequence of Path
        gtbin HEALPix files: one with all channels, or several.
    config : Config
        Gives bands, years and seed; its section `observed`, if any, is compared with the DSS
        keywords, since a map cannot be cut any more.

    Raises
    ------
    InputError
        If a file is missing, truncated or not FITS; has an unknown frame or ordering, an nside
        that does not fit its rows, counts that are no whole numbers; or channels that are cut by
        a band's edge, overlap, or leave a band partly empty.
    """
    if not paths:
        raise InputError("observed.counts", "names no file", "list at least one counts map")
    channels = [
        channel for number, path in enumerate(paths) for channel in _read_file(path, number, config)
    ]
    xyz, bands, years = (
        [np.empty((0, 3), np.float32)],
        [np.empty(0, np.int8)],
        [np.empty(0, np.int8)],
    )
    for number, band in enumerate(config.bands):
        for channel in _channels_of(band, channels, [str(path) for path in paths]):
            if channel.nside < band.nside:
                _LOG.warning(
                    "%s: nside %d is coarser than band %s's %d: sources are smeared",
                    channel.where,
                    channel.nside,
                    band.label,
                    band.nside,
                )
            rng = generator(config.seed, Stage.HEALPIX_JITTER, *channel.key)
            vectors = uniform_in_pixels(
                channel.nside, np.repeat(channel.pixels, channel.counts), rng
            )
            vectors = vectors if channel.galactic else galactic_from_equatorial(vectors)
            xyz.append(vectors.astype(np.float32))
            bands.append(np.full(len(vectors), number, dtype=np.int8))
            years.append(rng.integers(0, config.sky.years, size=len(vectors), dtype=np.int8))
    origin = {
        "kind": "HEALPix counts",
        "files": ", ".join(path.name for path in paths),
        "years": "drawn at random: maps have no times",
    }
    photons = Photons(np.concatenate(xyz), np.concatenate(bands), np.concatenate(years), origin)
    _LOG.info("%d photons read from %d counts map(s)", len(photons), len(paths))
    return photons


def _channels_of(band: Band, channels: Sequence[_Channel], files: Sequence[str]) -> list[_Channel]:
    """Return the channels that make up a band, in order of energy."""
    low, high = edges_mev([band])[0]
    below, above = 1 - _EDGE_TOLERANCE, 1 + _EDGE_TOLERANCE
    inside = []
    for channel in channels:
        first, last = channel.edges_mev
        if last <= low * above or first >= high * below:
            continue
        if first < low * below or last > high * above:
            raise InputError(
                channel.where,
                f"energies {first / 1e3:g}-{last / 1e3:g} GeV are cut by an edge of band "
                f"{band.label}",
                "choose bands whose edges are edges of the map's channels",
            )
        inside.append(channel)
    inside.sort(key=lambda channel: channel.edges_mev)
    reached = low
    for channel in inside:
        first, last = channel.edges_mev
        if first < reached * below:
            raise InputError(
                channel.where,
                f"energies {first / 1e3:g}-{last / 1e3:g} GeV appear twice",
                "name each map once",
            )
        if first > reached * above:
            break
        reached = last
    if reached < high * below:
        raise InputError(
            ", ".join(files),
            f"no channel holds {reached / 1e3:g} GeV, inside band {band.label}",
            "add a map with these energies or choose other bands",
        )
    return inside


def _read_file(path: Path, number: int, config: Config) -> list[_Channel]:
    where = str(path)
    with open_fits(path) as hdus:
        hdu = _map_table(hdus, where)
        selection = read_selection(hdu.header, where)
        if config.observed is not None:
            check_selection(selection, where, config.bands, config.observed)
            check_final(selection, where, config.observed)
        galactic = _is_galactic(hdu.header, where)
        names = _channel_names(hdu, where)
        edges = _channel_edges(hdus, len(names), selection.energy_mev, where)
        indices = _explicit_pixels(hdu, where)
        channels = []
        for index, name in enumerate(names):
            label = f"{where} {name}"
            counts = _whole(np.asarray(hdu.data[name]).reshape(-1), label)
            nside = _nside(hdu.header, len(counts), indices, where)
            filled = np.flatnonzero(counts)
            pixels = filled if indices is None else indices[filled]
            if not _is_nested(hdu.header, where):
                pixels = hp.ring2nest(nside, pixels)
            key = (number, index)
            channels.append(
                _Channel(label, key, edges[index], nside, galactic, pixels, counts[filled])
            )
    return channels


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
    if stated is None and isinstance(order, int) and 0 <= order <= _FINEST:
        stated = 1 << order
    nside = stated if isinstance(stated, int) else 0
    if nside < 1 or nside & (nside - 1) or nside > 1 << _FINEST:
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


def _whole(values: Any, where: str) -> Int64:
    """Return counts as integers."""
    bad = ~np.isfinite(values) | (values < 0) | (values != np.floor(values))
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        raise InputError(
            where,
            f"{int(bad.sum())} pixels hold no count, the first (row {first}) {values[first]}",
            "need whole numbers of photons, 0 or more",
        )
    return np.asarray(values, dtype=np.int64)


def write_counts(photons: Photons, bands: Sequence[Band], folder: Path) -> tuple[Path, ...]:
    """Write photons as gtbin HEALPix counts maps, Galactic RING, one file per resolution.

    Parameters
    ----------
    photons : Photons
        Photons outside the bands are left out; years are not kept.
    bands : sequence of Band
        Energy channels and the resolution of each.
    folder : Path
        Gets the files ``counts_nside<n>.fits``.

    Returns
    -------
    tuple of Path
        The files, coarsest first; `read_counts` takes them together.
    """
    paths = []
    for nside in sorted({band.nside for band in bands}):
        numbers = [number for number, band in enumerate(bands) if band.nside == nside]
        columns = []
        for channel, number in enumerate(numbers, start=1):
            vectors = photons.xyz[photons.band == number].astype(np.float64)
            pixels = hp.vec2pix(nside, *vectors.T)
            counts = np.bincount(pixels, minlength=hp.nside2npix(nside)).astype(np.int32)
            columns.append(fits.Column(f"CHANNEL{channel}", "J", array=counts, unit="counts"))
        skymap = fits.BinTableHDU.from_columns(columns, name="SKYMAP")
        skymap.header.update(
            PIXTYPE="HEALPIX",
            ORDERING="RING",
            COORDSYS="GAL",
            NSIDE=nside,
            ORDER=nside.bit_length() - 1,
            FIRSTPIX=0,
            LASTPIX=hp.nside2npix(nside) - 1,
            INDXSCHM="IMPLICIT",
        )
        edges = edges_mev([bands[number] for number in numbers]) * 1e3
        channels = np.arange(1, len(numbers) + 1)
        ebounds = fits.BinTableHDU.from_columns(
            [
                fits.Column("CHANNEL", "I", array=channels),
                fits.Column("E_MIN", "D", array=edges[:, 0], unit="keV"),
                fits.Column("E_MAX", "D", array=edges[:, 1], unit="keV"),
            ],
            name="EBOUNDS",
        )
        path = folder / f"counts_nside{nside}.fits"
        with atomic(path) as temporary:
            fits.HDUList([fits.PrimaryHDU(), skymap, ebounds]).writeto(temporary)
        paths.append(path)
    return tuple(paths)
