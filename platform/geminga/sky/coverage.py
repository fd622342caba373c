"""Which part of the sky there are data of.

A Galactic map of cells of 0.11 deg says where every channel has been observed: maps of part of the
sky, event lists of a region, exposure that is zero somewhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import healpy as hp
import numpy as np
from scipy.spatial import cKDTree

from geminga.arrays import Bool, Float64, Int64
from geminga.geometry import from_plane, pixel_to_plane, unit_vectors
from geminga.response import Response
from geminga.response.exposure import Exposure
from geminga.sky.formats.fits_input import equatorial_from_galactic, galactic_from_equatorial
from geminga.sky.photons import Photons
from geminga.sky.pixel_counts import PixelCounts

NSIDE = 512
"""Resolution of the map of cells."""
NPIX = 12 * NSIDE**2
_CHUNK = 1 << 18
_LEAST_EXPOSURE = 0.01
"""Exposure below this part of the sky's highest counts as none: interpolation blurs its border."""
_TYPICAL_PHOTONS = 50
"""A cell without photons is unobserved where cells with photons typically have as many."""
_EMPTY_ORDERS = range(6, 1, -1)
"""Cells in which missing photons are looked for: 0.9 to 15 deg, the finest that tells."""
_LEAST_AREA_DEG2 = 10.0
"""Photons of less of the sky than this do not tell what else was observed."""


@dataclass(frozen=True)
class Coverage:
    """The part of the sky with data of every channel.

    Attributes
    ----------
    cells : Bool (12 * 512**2,)
        Galactic, NESTED: whether a cell's centre is covered.
    """

    cells: Bool

    def __post_init__(self) -> None:
        if self.cells.shape != (NPIX,):
            raise ValueError(f"{self.cells.shape} cells, not {NPIX}")

    def __and__(self, other: Coverage) -> Coverage:
        return Coverage(self.cells & other.cells)

    def __or__(self, other: Coverage) -> Coverage:
        return Coverage(self.cells | other.cells)

    @property
    def share(self) -> float:
        """Part of the sky that is covered, 0 to 1."""
        return float(self.cells.mean())

    @property
    def whole(self) -> bool:
        """Whether all of the sky is covered."""
        return bool(self.cells.all())

    def holds(self, lon_deg: Float64, lat_deg: Float64) -> Bool:
        """Return whether Galactic directions (n,) in degrees are covered."""
        return self._at(unit_vectors(np.asarray(lon_deg), np.asarray(lat_deg)))

    def masks(self, frames: Float64, size_deg: float, pixels: int) -> Bool:
        """Return whether the pixels of patches are covered.

        Parameters
        ----------
        frames : Float64 (P, 3, 3)
            Frames of the patches.
        size_deg : float
            Width of a patch in degrees.
        pixels : int
            Pixels per side, n.

        Returns
        -------
        Bool (P, n, n)
            By the pixels' centres; rows along y (north).
        """
        masks = np.ones((len(frames), pixels, pixels), dtype=np.bool_)
        if self.whole:
            return masks
        axis = pixel_to_plane(np.arange(pixels, dtype=np.float64), pixels, size_deg)
        y, x = np.meshgrid(axis, axis, indexing="ij")
        for mask, frame in zip(masks, frames, strict=True):
            mask[:] = self._at(from_plane(frame, x, y))
        return masks

    def patch_shares(self, frames: Float64, size_deg: float, pixels: int = 32) -> Float64:
        """Return the part of each patch that is covered, on a raster of `pixels` a side, (P,)."""
        masks = self.masks(frames, size_deg, pixels)
        return np.asarray(masks.mean(axis=(1, 2)), dtype=np.float64)

    def _at(self, vectors: Float64) -> Bool:
        flat = vectors.reshape(-1, 3)
        cell = hp.vec2pix(NSIDE, *flat.T, nest=True)
        return np.asarray(self.cells[cell].reshape(vectors.shape[:-1]))


def whole_sky() -> Coverage:
    """Return the coverage of all of the sky."""
    return Coverage(np.ones(NPIX, dtype=np.bool_))


def pixels_covered(nside: int, pixels: Int64, galactic: bool) -> Coverage:
    """Return the coverage by pixels of a map.

    Parameters
    ----------
    nside : int
        Resolution of the map.
    pixels : Int64 (n,)
        NESTED pixel numbers, rising.
    galactic : bool
        Frame of the map: Galactic, or equatorial (ICRS).
    """
    cells = np.zeros(NPIX, dtype=np.bool_)
    if not len(pixels):
        return Coverage(cells)
    for part, centres in _cell_centres():
        vectors = centres if galactic else equatorial_from_galactic(centres)
        pixel = hp.vec2pix(nside, *vectors.T, nest=True)
        place = np.minimum(np.searchsorted(pixels, pixel), len(pixels) - 1)
        cells[part] = pixels[place] == pixel
    return Coverage(cells)


def circles_covered(circles: Sequence[tuple[float, float, float]]) -> Coverage:
    """Return the coverage by circles, each (right ascension, declination, radius) in degrees."""
    cells = np.zeros(NPIX, dtype=np.bool_)
    for ra, dec, radius in circles:
        centre = galactic_from_equatorial(unit_vectors(np.array(ra), np.array(dec)))
        limit = np.cos(np.radians(min(radius, 180.0)))
        for part, vectors in _cell_centres():
            cells[part] |= vectors @ centre >= limit
    return Coverage(cells)


def exposure_covered(exposures: Sequence[Exposure]) -> Coverage:
    """Return where all channels have exposure: more than 1 % of the sky's highest.

    Parameters
    ----------
    exposures : sequence of Exposure
        One per channel; equal ones are looked at once.
    """
    cells = np.ones(NPIX, dtype=np.bool_)
    for exposure in {id(e): e for e in exposures}.values():
        seen = _exposed(exposure)
        if not seen.all():
            for part, vectors in _cell_centres():
                cells[part] &= seen[hp.vec2pix(exposure.nside, *vectors.T)]
    return Coverage(cells)


def exposure_filled(response: Response) -> Response:
    """Return a response that has exposure everywhere; the same one if it has it already.

    Where `exposure_covered` sees none, that of the nearest place with exposure stands in: what is
    computed once for a patch, in its middle, then serves a patch whose middle was not observed.
    """
    if all(_exposed(e).all() for e in response.exposures):
        return response
    filled: dict[int, Exposure] = {}
    for exposure in response.exposures:
        if id(exposure) in filled:
            continue
        seen = _exposed(exposure)
        if not seen.any():
            filled[id(exposure)] = exposure
            continue
        centres = np.stack(hp.pix2vec(exposure.nside, np.arange(len(seen))), axis=-1)
        nearest = np.flatnonzero(seen)[cKDTree(centres[seen]).query(centres)[1]]
        filled[id(exposure)] = replace(exposure, maps_cm2_s=exposure.maps_cm2_s[:, nearest])
    return replace(response, exposures=tuple(filled[id(e)] for e in response.exposures))


def _exposed(exposure: Exposure) -> Bool:
    maps = exposure.maps_cm2_s
    return np.asarray(np.all(maps > _LEAST_EXPOSURE * maps.max(axis=1, keepdims=True), axis=0))


def photons_covered(photons: Photons | PixelCounts, known: Coverage) -> Coverage:
    """Return a coverage less cells without photons where others of their size have many.

    An event list cut to a region need not say so, nor a map that is zero outside. The cells are
    the finest of 0.9 to 15 deg that hold a median of 50 photons where they hold any: all channels
    added, the chance that an observed one is empty is nil even at a fifth of the median. Cells at
    the border of `known` stay as they are, and so does all of it if photons are too few to tell.
    """
    finest = _EMPTY_ORDERS[0]
    counts = _in_cells(photons, finest)
    for order in _EMPTY_ORDERS:
        here = counts.reshape(12 << 2 * order, -1).sum(axis=1)
        filled = here > 0
        if filled.any() and np.median(here[filled]) >= _TYPICAL_PHOTONS:
            if filled.mean() * 41253.0 < _LEAST_AREA_DEG2:
                break
            cells = known.cells.reshape(len(here), -1)
            empty = ~filled & cells.all(axis=1)
            return Coverage((cells & ~empty[:, None]).reshape(-1))
    return known


def _in_cells(photons: Photons | PixelCounts, order: int) -> Float64:
    """Return the photons in Galactic NESTED cells, (12 * 4**order,)."""
    if isinstance(photons, PixelCounts):
        return photons.in_cells(order)
    counts = np.zeros(12 << 2 * order)
    for start in range(0, len(photons), _CHUNK):
        vectors = photons.xyz[start : start + _CHUNK].astype(np.float64)
        cell = hp.vec2pix(1 << order, *vectors.T, nest=True)
        counts += np.bincount(cell, minlength=len(counts))
    return counts


def _cell_centres() -> Iterator[tuple[slice, Float64]]:
    """Yield pieces of the cells and their centres, Galactic unit vectors (n, 3)."""
    for start in range(0, NPIX, _CHUNK):
        part = slice(start, min(start + _CHUNK, NPIX))
        numbers = np.arange(part.start, part.stop)
        yield part, np.stack(hp.pix2vec(NSIDE, numbers, nest=True), axis=-1)
