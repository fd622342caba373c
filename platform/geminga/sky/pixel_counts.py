"""Photons that are known by the HEALPix pixels of counts maps, and kept there.

Where in its pixel a photon was, a map does not say. Nothing is drawn: whoever needs directions
takes the photons as spread evenly over their pixel (`geminga.patches.spread`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import healpy as hp
import numpy as np

from geminga.arrays import Float64, Int64
from geminga.sky.formats.fits_input import galactic_from_equatorial

_CHUNK = 1 << 20
_FINER = 2
"""Pixels are divided until they are this many levels finer than the cells they are added to."""


@dataclass(frozen=True, eq=False)
class MapPart:
    """Counts of one channel in the pixels of one map.

    Attributes
    ----------
    channel : int
    nside : int
    galactic : bool
        Frame of the pixels: Galactic, or equatorial.
    pixels, counts : Int64 (n,)
        NESTED numbers of the pixels with counts, rising, and the counts.
    """

    channel: int
    nside: int
    galactic: bool
    pixels: Int64
    counts: Int64

    def in_cells(self, order: int) -> Float64:
        """Return counts in Galactic NESTED cells (12 * 4**order,).

        Pixels are taken where their centres are, larger ones in parts.
        """
        cells = np.zeros(12 << 2 * order)
        deeper = max(order + _FINER - (self.nside.bit_length() - 1), 0)
        parts = 1 << 2 * deeper
        for start in range(0, len(self.pixels), max(_CHUNK // parts, 1)):
            rows = slice(start, start + max(_CHUNK // parts, 1))
            children = (self.pixels[rows, None] * parts + np.arange(parts)).ravel()
            vectors = np.stack(hp.pix2vec(self.nside << deeper, children, nest=True), axis=-1)
            vectors = vectors if self.galactic else galactic_from_equatorial(vectors)
            cell = hp.vec2pix(1 << order, *vectors.T, nest=True)
            weight = np.repeat(self.counts[rows] / parts, parts)
            cells += np.bincount(cell, weight, minlength=len(cells))
        return cells


@dataclass(frozen=True, eq=False)
class PixelCounts:
    """Photons in the pixels of maps.

    Attributes
    ----------
    parts : tuple of MapPart
        Any number for a channel, each of other photons.
    origin : dict
        Where the photons come from: text by key.
    """

    parts: tuple[MapPart, ...]
    origin: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return sum(int(part.counts.sum()) for part in self.parts)

    def per_channel(self, channels: int) -> Int64:
        """Return the number of photons of each of `channels` channels, (channels,)."""
        result = np.zeros(channels, dtype=np.int64)
        for part in self.parts:
            result[part.channel] += part.counts.sum()
        return result

    def in_cells(self, order: int) -> Float64:
        """Return the photons in Galactic NESTED cells, (12 * 4**order,); see `MapPart`."""
        cells = np.zeros(12 << 2 * order)
        for part in self.parts:
            cells += part.in_cells(order)
        return cells
