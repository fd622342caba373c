"""Interstellar emission from a FITS map cube of any size."""

from __future__ import annotations

import gzip
import logging
import os
import tempfile
import warnings
import weakref
import zlib
from pathlib import Path
from typing import Any

import healpy
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

from geminga.arrays import Float32, Float64
from geminga.errors import InputError
from geminga.geometry import lon_lat, unit_vectors
from geminga.sky.emission.cells import CellGrid, FilledCells, interpolate_cells
from geminga.sky.emission.diffuse_models import check_energies, check_intensity
from geminga.sky.formats.fits_input import (
    equatorial_from_galactic,
    find_hdu,
    galactic_from_equatorial,
    open_fits,
)

_LOG = logging.getLogger(__name__)
_CHUNK = 1 << 18
_BLOCK_BYTES = 1 << 22
_GZIP_MAGIC = b"\x1f\x8b"


class MapCube:
    """A map cube: an image (energy, latitude, longitude) and its energies.

    Planes are read from the file one at a time, so that a cube may be larger than memory. A
    gzipped cube is unpacked once, to a temporary file that goes with the object.

    Parameters
    ----------
    path : Path
        FITS file whose first image has three axes and a celestial WCS (Galactic or equatorial,
        any projection that covers the sky), with energies in MeV in the first column of a
        table ENERGIES, as in gll_iem_v07.fits.
    structure : Float64 (npix,), optional
        HEALPix template (RING, Galactic) whose structure fills the cells of the cube; their flux
        stays. It must be finer than they are.
    structure_origin : str
        Where the template comes from.

    Raises
    ------
    InputError
        If the file is not such a cube.
    """

    def __init__(
        self, path: Path, structure: Float64 | None = None, structure_origin: str = ""
    ) -> None:
        self.path = path
        self.origin = str(path)
        self._file = self._unpacked(path)
        with open_fits(self._file) as hdus:
            image = hdus[0]
            shape: tuple[int, ...] = tuple(getattr(image, "shape", ()))
            if len(shape) != 3:
                raise InputError(
                    str(path),
                    f"first image has shape {shape}",
                    "needs a cube of energy, latitude and longitude",
                )
            table = find_hdu(hdus, "ENERGIES", str(path))
            energy = np.asarray(table.data.field(0), dtype=np.float64)
            header = image.header.copy()
        check_energies(energy, f"{path}, table ENERGIES")
        if len(energy) != shape[0]:
            raise InputError(
                str(path), f"has {shape[0]} planes and {len(energy)} energies", "give one per plane"
            )
        self.energy_mev: Float64 = energy
        self._shape = (int(shape[1]), int(shape[2]))
        self._wcs = self._celestial(header)
        self._equatorial = self._wcs.wcs.ctype[0].startswith("RA")
        period = 360.0 / abs(float(self._wcs.wcs.cdelt[0]))
        closes = self._shape[1] >= period - 0.01
        self._period = period if self._wcs.wcs.ctype[0].endswith("CAR") and closes else None
        self._grid: tuple[int, CellGrid] | None = None
        self._filled: FilledCells | None = None
        if structure is not None:
            self._fill(structure, structure_origin)

    def _unpacked(self, path: Path) -> Path:
        """Return the path of the plain FITS file: unpacked first if it is gzipped."""
        try:
            with path.open("rb") as stream:
                if stream.read(2) != _GZIP_MAGIC:
                    return path
            descriptor, name = tempfile.mkstemp(suffix=".fits")
            weakref.finalize(self, os.unlink, name)
            _LOG.info("%s is unpacked to a temporary file", path)
            with os.fdopen(descriptor, "wb") as target, gzip.open(path) as source:
                while block := source.read(_BLOCK_BYTES):
                    target.write(block)
        except FileNotFoundError as error:
            raise InputError(str(path), "does not exist", "name a FITS file") from error
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(
                str(path), f"cannot be unpacked ({error})", "unpack it, or copy it again"
            ) from error
        return Path(name)

    def _celestial(self, header: fits.Header) -> WCS:
        with warnings.catch_warnings():
            # The third axis of map cubes has no type or unit; it is not used.
            warnings.simplefilter("ignore", FITSFixedWarning)
            wcs = WCS(header)
        if not wcs.has_celestial:
            raise InputError(
                self.origin,
                f"axes {list(wcs.wcs.ctype)} are not celestial",
                "needs GLON/GLAT or RA/DEC axes",
            )
        wcs = wcs.celestial
        kind = wcs.wcs.ctype[0]
        if kind.startswith("GLON-CAR") and wcs.wcs.crval[1] == 0.0:
            _centre_rows(wcs, self._shape[0], self.origin)
        return wcs

    def _fill(self, structure: Float64, origin: str) -> None:
        """Prepare to fill the cells with the structure of a template."""
        cell_deg = float(np.abs(self._wcs.wcs.cdelt).max())
        template_deg = float(np.degrees(healpy.nside2resol(healpy.npix2nside(len(structure)))))
        if template_deg >= cell_deg:
            _LOG.info(
                "%s: its cells of %.3g deg are finer than the template %s (%.3g deg), which is "
                "not used",
                self.origin,
                cell_deg,
                origin,
                template_deg,
            )
            return
        self._filled = FilledCells.build(
            structure, self._shape, self._period is not None, cell_deg / template_deg, self._sky
        )
        self.origin = f"{self.path}, its cells filled with the structure of {origin}"

    def plane(self, number: int, nside: int) -> Float64:
        """Return one plane's intensity at the HEALPix pixels of `nside`, shape (npix,).

        Bilinear between the cube's pixels; where those are finer than HEALPix pixels, the mean
        over sub-pixels.

        Raises
        ------
        InputError
            If an intensity of the plane is negative or not finite, or the cube does not cover
            the sky.
        """
        data = self._read(number)
        fine, grid = self._pixel_grid(nside)
        if self._filled is not None:
            data = self._filled.ratio(data)
        # Sub-pixels of a pixel follow each other in the nested order.
        nested = interpolate_cells(
            data, grid.row, grid.column, grid.up, grid.right, grid.closed, (fine // nside) ** 2
        )
        values = nested[healpy.ring2nest(nside, np.arange(len(nested)))]
        if self._filled is not None:
            values *= self._filled.at_pixels(nside)
        return np.asarray(values)

    def at(self, number: int, lon_deg: Float64, lat_deg: Float64) -> Float64:
        """Return one plane's intensity at Galactic directions, each (n,)."""
        data = self._read(number)
        if self._filled is not None:
            data = self._filled.ratio(data)
        grid = self._cell_grid(unit_vectors(lon_deg, lat_deg))
        values = interpolate_cells(data, grid.row, grid.column, grid.up, grid.right, grid.closed, 1)
        if self._filled is not None:
            values *= self._filled.at(lon_deg, lat_deg)
        return np.asarray(values)

    def _read(self, number: int) -> Float32:
        with open_fits(self._file) as hdus:
            data = np.asarray(hdus[0].section[number], dtype=np.float32)
        check_intensity(data, f"{self.path}, plane {number}")
        return data

    def _pixel_grid(self, nside: int) -> tuple[int, CellGrid]:
        """Return a resolution and where the cube has its nested HEALPix pixels."""
        if self._grid is not None and self._grid[0] % nside == 0:
            return self._grid
        pixel_deg = float(np.abs(self._wcs.wcs.cdelt).max())
        resolution_deg = float(np.degrees(healpy.nside2resol(nside)))
        fine = nside * (2 if resolution_deg > 1.5 * pixel_deg else 1)
        npix = healpy.nside2npix(fine)
        parts = []
        for start in range(0, npix, _CHUNK):
            pixels = np.arange(start, min(start + _CHUNK, npix))
            parts.append(
                self._cell_grid(np.stack(healpy.pix2vec(fine, pixels, nest=True), axis=-1))
            )
        self._grid = fine, CellGrid.join(parts)
        return self._grid

    def _cell_grid(self, vectors: Float64) -> CellGrid:
        """Return where the cube has Galactic directions (n, 3)."""
        if self._equatorial:
            vectors = equatorial_from_galactic(vectors)
        lon, lat = lon_lat(vectors)
        column, row = self._wcs.wcs_world2pix(lon, lat, 0)
        rows, columns = self._shape
        outside = ~np.isfinite(row) | ~np.isfinite(column) | (row < -1) | (row > rows)
        if self._period is not None:
            column = column % self._period
        else:
            outside |= (column < -1) | (column > columns)
        if outside.any():
            raise InputError(
                str(self.path),
                f"does not cover the sky at l = {lon[outside][0]:.1f}, b = {lat[outside][0]:.1f} "
                "deg of its own axes",
                "name a cube of the whole sky",
            )
        return CellGrid.of(row, column, self._shape, self._period is not None)

    def _sky(self, row: Float64, column: Float64) -> tuple[Float64, Float64, Float64]:
        """Return Galactic directions (deg) and solid angle at pixel coordinates, 0 off the sky."""
        lon, lat = self._wcs.wcs_pix2world(column, row, 0)
        beyond = ~(np.isfinite(lat) & (np.abs(lat) <= 90.0))
        lon, lat = np.where(beyond, 0.0, lon), np.where(beyond, 90.0, lat)
        solid = np.where(beyond, 0.0, np.cos(np.radians(lat)))
        if self._equatorial:
            lon, lat = lon_lat(galactic_from_equatorial(unit_vectors(lon, lat)))
        return lon, lat, solid


def _centre_rows(wcs: Any, rows: int, where: str) -> None:
    """Mend a header that puts whole rows beyond a pole of a grid that has rows on both poles.

    Block averages of a cube with rows on the poles often keep CRPIX2 of the old grid scaled,
    half a pixel off (gll_iem_v07_blockmean_1p5deg.fits).
    """
    first = (1.0 - wcs.wcs.crpix[1]) * wcs.wcs.cdelt[1]
    last = (rows - wcs.wcs.crpix[1]) * wcs.wcs.cdelt[1]
    step = abs(wcs.wcs.cdelt[1])
    beyond = max(abs(first), abs(last)) > 90.0 + 0.01 * step
    if beyond and abs(rows * step - 180.0) <= 1.01 * step:
        _LOG.warning(
            "%s: the header places rows at latitude %.3f to %.3f deg; taken as centred on 0",
            where,
            first,
            last,
        )
        wcs.wcs.crpix = [wcs.wcs.crpix[0], (rows + 1) / 2.0]
