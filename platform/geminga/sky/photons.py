"""Photons: direction, channel and year; what simulated and real skies both become.

Photons are kept at the centres of HEALPix pixels of 3.2 arcsec, a ninetieth of the finest patch
pixel (281 arcsec); they move by 3.4 arcsec at most, 1.3 on average, where the narrowest PSF holds
68 % of the photons within 240. They are put there when they are drawn or read, not
when they are written, so that a list, its maps and its patches agree photon by photon, and a file
gives back every bit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import healpy
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geminga import storage
from geminga.arrays import Bool, Float32, Float64, Int8, Int64
from geminga.errors import InputError
from geminga.files import REMAKE, atomic
from geminga.geometry import lon_lat

FORMAT = "geminga-photons-2"
ORDER = 16
NSIDE = 1 << ORDER
"""Photons are at centres of pixels of this resolution (NESTED): 3.2 arcsec wide."""

MOST_PHOTONS = 100_000_000
"""Photons that are read from files: 40 bytes of memory each while a list is made. Ten years of the
LAT above 0.3 GeV are some 30 million."""

_COLUMNS = ("channel", "pixel", "year")
_CHUNK = 1 << 20
_GROUP = 1 << 20
"""Photons in a row group of a file."""
_PIXEL_BITS = 2 * ORDER + 4
_OFFSET = 128
"""Makes any 8-bit channel or year a number from 0 to 255."""


@dataclass(frozen=True)
class Photons:
    """A list of photons.

    Attributes
    ----------
    xyz : Float32 (n, 3)
        Galactic unit vectors. Single precision resolves 0.01 arcsec at best and 0.02 arcsec
        at worst, far below any pixel.
    channel : Int8 (n,)
        Channel (band and event types) of each photon.
    year : Int8 (n,)
        Time bin of each photon.
    origin : dict
        Where the photons come from: text by key.
    """

    xyz: Float32
    channel: Int8
    year: Int8
    origin: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.channel)
        if self.xyz.shape != (n, 3) or self.year.shape != (n,) or self.channel.shape != (n,):
            raise ValueError(
                f"shapes {self.xyz.shape}, {self.channel.shape}, {self.year.shape} do not fit; "
                "need (n, 3), (n,), (n,)"
            )

    def __len__(self) -> int:
        return len(self.channel)

    def select(self, mask: Bool | Int64) -> Photons:
        """Return the photons of a mask (n,) or of row numbers."""
        return Photons(self.xyz[mask], self.channel[mask], self.year[mask], dict(self.origin))

    def per_channel(self, channels: int) -> Int64:
        """Return the number of photons of each of `channels` channels, (channels,)."""
        return np.bincount(self.channel, minlength=channels)

    def lon_lat(self) -> tuple[Float64, Float64]:
        """Return Galactic longitudes (0 to 360) and latitudes in degrees, each (n,)."""
        return lon_lat(self.xyz.astype(np.float64))

    def snapped(self) -> Photons:
        """Return the photons as a file holds them; see `photons_from_vectors`.

        Photons that are so already come back the same.
        """
        return photons_from_vectors(self.xyz, self.channel, self.year, self.origin)

    def save(self, path: Path) -> None:
        """Write the photons, `snapped`, as one Parquet file; the origin goes into its metadata.

        Columns ``channel``, ``pixel`` (NESTED number at `NSIDE`, delta-coded) and ``year``, sorted
        by them, compressed with zstd.
        """
        keys = _keys_of_vectors(self.xyz, self.channel, self.year)
        keys.sort()
        channel, pixel, year = _split(keys)
        del keys
        table = pa.table(
            dict(zip(_COLUMNS, map(pa.array, (channel, pixel, year)), strict=True)),
            metadata={
                "format": FORMAT,
                "nside": str(NSIDE),
                "origin": json.dumps(self.origin, sort_keys=True),
            },
        )
        with atomic(path) as temporary:
            pq.write_table(
                table,
                temporary,
                row_group_size=_GROUP,
                compression="zstd",
                use_dictionary=["channel", "year"],
                column_encoding={"pixel": "DELTA_BINARY_PACKED"},
                write_statistics=False,
                write_page_checksum=True,
            )

    @classmethod
    def load(cls, path: Path) -> Photons:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If the file is missing, not Parquet, or not a photon list of this version.
        """
        try:
            table = pq.read_table(storage.here(path), page_checksum_verification=True)
        except (OSError, ValueError) as error:
            raise InputError(
                str(path), f"is not a readable Parquet file ({error})", f"write it anew: {REMAKE}"
            ) from error
        meta = table.schema.metadata or {}
        found = meta.get(b"format", b"no format").decode()
        if found != FORMAT or tuple(table.column_names) != _COLUMNS:
            raise InputError(
                str(path), f"is not a photon list ({found})", f"name a file written as {FORMAT}"
            )
        nside = meta.get(b"nside", b"none").decode()
        if nside != str(NSIDE):
            raise InputError(
                str(path), f"has pixels of nside {nside}", f"name a file with nside {NSIDE}"
            )
        columns = [table.column(name).to_numpy() for name in _COLUMNS]
        channel, year = (np.array(columns[i], dtype=np.int8) for i in (0, 2))
        return cls(_vectors(columns[1]), channel, year, json.loads(meta[b"origin"]))


def photons_from_vectors(
    xyz: NDArray[Any], channel: Int8, year: Int8, origin: dict[str, str] | None = None
) -> Photons:
    """Put photons at the centres of the pixels they are in, and sort them.

    The order is by channel, pixel and year, whatever the order of the input. Directions become
    exactly the float32 of ``healpy.pix2vec(NSIDE, pixel, nest=True)``.

    Parameters
    ----------
    xyz : array (n, 3)
        Galactic directions; their length does not matter.
    channel, year : Int8 (n,)
        Channel and time bin of each photon.
    origin : dict, optional
        Where the photons come from.

    Raises
    ------
    ValueError
        If a vector is not finite or zero: a fault of the caller.
    """
    return photons_from_keys(_keys_of_vectors(xyz, channel, year), origin)


def photon_keys(pixel: Int64, channel: Int8 | int, year: Int8) -> Int64:
    """Return one number per photon that orders photons by channel, pixel and year.

    Parameters
    ----------
    pixel : Int64 (n,)
        NESTED pixel numbers at `NSIDE`.
    channel : Int8 (n,) or int
        Channel of each photon, or of all.
    year : Int8 (n,)
        Time bin of each photon.

    Returns
    -------
    Int64 (n,)
        What `photons_from_keys` takes.
    """
    keys = ((np.asarray(channel, dtype=np.int64) + _OFFSET) << _PIXEL_BITS) | pixel
    keys <<= 8
    keys |= year.astype(np.int64) + _OFFSET
    return keys


def photons_from_keys(keys: Int64, origin: dict[str, str] | None = None) -> Photons:
    """Return the photons of keys in any order; `keys` (n,) is sorted in place."""
    keys.sort()
    channel, pixel, year = _split(keys)
    return Photons(_vectors(pixel), channel, year, dict(origin or {}))


def check_number(photons: int, where: str) -> None:
    """Raise InputError if files hold more photons than a list takes; before it is made."""
    if photons > MOST_PHOTONS:
        raise InputError(
            where,
            f"{photons:,} photons",
            f"at most {MOST_PHOTONS:,} are taken: leave out the lowest energies, or part of the "
            "sky at a time",
        )


def empty_photons() -> Photons:
    """Return a photon list without photons."""
    return Photons(np.empty((0, 3), np.float32), np.empty(0, np.int8), np.empty(0, np.int8), {})


def _keys_of_vectors(xyz: NDArray[Any], channel: Int8, year: Int8) -> Int64:
    keys = np.empty(len(channel), dtype=np.int64)
    # In pieces: healpy works in double precision.
    for start in range(0, len(keys), _CHUNK):
        part = slice(start, start + _CHUNK)
        vectors = np.asarray(xyz[part], dtype=np.float64)
        if not np.isfinite(vectors).all() or not vectors.any(axis=1).all():
            raise ValueError("photons without a direction")
        pixel = healpy.vec2pix(NSIDE, *vectors.T, nest=True)
        keys[part] = photon_keys(pixel, channel[part], year[part])
    return keys


def _split(keys: Int64) -> tuple[Int8, Int64, Int8]:
    channel, year = np.empty(len(keys), np.int8), np.empty(len(keys), np.int8)
    pixel = np.empty(len(keys), np.int64)
    for start in range(0, len(keys), _CHUNK):
        part = slice(start, start + _CHUNK)
        year[part] = (keys[part] & 255) - _OFFSET
        pixel[part] = (keys[part] >> 8) & ((1 << _PIXEL_BITS) - 1)
        channel[part] = (keys[part] >> (8 + _PIXEL_BITS)) - _OFFSET
    return channel, pixel, year


def _vectors(pixel: Int64) -> Float32:
    xyz = np.empty((len(pixel), 3), dtype=np.float32)
    for start in range(0, len(pixel), _CHUNK):
        part = slice(start, start + _CHUNK)
        for axis, values in enumerate(healpy.pix2vec(NSIDE, pixel[part], nest=True)):
            xyz[part, axis] = values
    return xyz
