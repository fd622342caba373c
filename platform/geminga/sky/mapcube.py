"""Interstellar emission from a FITS map cube."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import healpy
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from scipy.ndimage import map_coordinates

from geminga.arrays import Float64
from geminga.errors import InputError
from geminga.geometry import lon_lat
from geminga.sky.diffuse_models import check_energies, check_intensity
from geminga.sky.fits_input import equatorial_from_galactic, find_hdu, open_fits

_LOG = logging.getLogger(__name__)


class MapCube:
    """A map cube: an image (energy, latitude, longitude) and its energies.

    Planes are read one at a time, so that a cube may be larger than memory.

    Parameters
    ----------
    path : Path
        FITS file whose first image has three axes and a celestial WCS (Galactic or equatorial,
        any projection that covers the sky), with energies in MeV in the first column of a
        table ENERGIES, as in gll_iem_v07.fits.

    Raises
    ------
    InputError
        If the file is not such a cube.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.origin = str(path)
        with open_fits(path) as hdus:
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
            self._header = image.header.copy()
        check_energies(energy, f"{path}, table ENERGIES")
        if len(energy) != shape[0]:
            raise InputError(
                str(path), f"has {shape[0]} planes and {len(energy)} energies", "give one per plane"
            )
        self.energy_mev: Float64 = energy
        self._shape = (int(shape[1]), int(shape[2]))
        self._wcs = self._celestial(self._header)
        self._positions: tuple[int, Float64, Float64] | None = None

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

    def plane(self, number: int, nside: int) -> Float64:
        """Return one plane's intensity at the HEALPix pixels of `nside`, shape (npix,).

        Bilinear between the cube's pixels; where those are finer than HEALPix pixels, the mean
        over sub-pixels.

        Raises
        ------
        InputError
            If an intensity is negative or not finite, or the cube does not cover the sky.
        """
        with open_fits(self.path) as hdus:
            data = np.asarray(hdus[0].section[number], dtype=np.float64)
        check_intensity(data, f"{self.origin}, plane {number}")
        nside_fine, row, column = self._sample_positions(nside)
        # One more column closes the circle.
        padded = np.concatenate([data, data[:, :1]], axis=1)
        values = map_coordinates(padded, [row, column], order=1, mode="nearest")
        factor = (nside_fine // nside) ** 2
        nested = values.reshape(-1, factor).mean(axis=1)
        return np.asarray(nested[healpy.ring2nest(nside, np.arange(len(nested)))])

    def _sample_positions(self, nside: int) -> tuple[int, Float64, Float64]:
        """Return a resolution and the cube's pixel coordinates of its nested HEALPix pixels."""
        if self._positions is not None and self._positions[0] % nside == 0:
            return self._positions
        pixel_deg = float(np.abs(self._wcs.wcs.cdelt).max())
        resolution_deg = float(np.degrees(healpy.nside2resol(nside)))
        fine = nside * (2 if resolution_deg > 1.5 * pixel_deg else 1)
        vectors = np.stack(
            healpy.pix2vec(fine, np.arange(healpy.nside2npix(fine)), nest=True), axis=-1
        )
        if self._wcs.wcs.ctype[0].startswith("RA"):
            vectors = equatorial_from_galactic(vectors)
        lon, lat = lon_lat(vectors)
        column, row = self._wcs.wcs_world2pix(lon, lat, 0)
        rows, columns = self._shape
        period = 360.0 / abs(float(self._wcs.wcs.cdelt[0]))
        if self._wcs.wcs.ctype[0].endswith("CAR") and columns >= period - 0.01:
            column = column % period
            outside = np.zeros(len(column), dtype=bool)
        else:
            outside = (column < -1) | (column > columns)
        outside |= ~np.isfinite(row) | ~np.isfinite(column) | (row < -1) | (row > rows)
        if outside.any():
            raise InputError(
                self.origin,
                f"covers {100 * (1 - outside.mean()):.1f} % of the sky",
                "name a cube of the whole sky",
            )
        self._positions = (fine, np.asarray(row), np.asarray(column))
        return self._positions


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
