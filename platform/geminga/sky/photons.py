"""Photons: direction, channel and year; what simulated and real skies both become."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from geminga.arrays import Bool, Float32, Float64, Int8, Int64
from geminga.errors import InputError
from geminga.files import atomic
from geminga.geometry import lon_lat

FORMAT = "geminga-photons-1"
_COLUMNS = ("x", "y", "z", "channel", "year")


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

    def lon_lat(self) -> tuple[Float64, Float64]:
        """Return Galactic longitudes (0 to 360) and latitudes in degrees, each (n,)."""
        return lon_lat(self.xyz.astype(np.float64))

    def save(self, path: Path) -> None:
        """Write the photons as one Parquet file; the origin goes into its metadata."""
        arrays = [pa.array(np.ascontiguousarray(self.xyz[:, axis])) for axis in range(3)]
        arrays += [pa.array(self.channel), pa.array(self.year)]
        table = pa.table(dict(zip(_COLUMNS, arrays, strict=True)))
        table = table.replace_schema_metadata(
            {"format": FORMAT, "origin": json.dumps(self.origin, sort_keys=True)}
        )
        with atomic(path) as temporary:
            pq.write_table(table, temporary, compression="zstd")

    @classmethod
    def load(cls, path: Path) -> Photons:
        """Read what `save` wrote.

        Raises
        ------
        InputError
            If the file is missing, not Parquet, or not a photon list of this version.
        """
        try:
            table = pq.read_table(path)
        except (OSError, ValueError) as error:
            raise InputError(
                str(path), f"is not a readable Parquet file ({error})", "write it anew"
            ) from error
        meta = table.schema.metadata or {}
        found = meta.get(b"format", b"no format").decode()
        if found != FORMAT or tuple(table.column_names) != _COLUMNS:
            raise InputError(
                str(path), f"is not a photon list ({found})", f"name a file written as {FORMAT}"
            )
        xyz = np.empty((table.num_rows, 3), dtype=np.float32)
        for axis in range(3):
            xyz[:, axis] = table.column(axis).to_numpy()
        return cls(
            xyz,
            np.array(table.column("channel").to_numpy(), dtype=np.int8),
            np.array(table.column("year").to_numpy(), dtype=np.int8),
            json.loads(meta[b"origin"]),
        )


def empty_photons() -> Photons:
    """Return a photon list without photons."""
    return Photons(np.empty((0, 3), np.float32), np.empty(0, np.int8), np.empty(0, np.int8), {})
