"""Expected counts of extended sources on HEALPix maps."""

from __future__ import annotations

import warnings
from pathlib import Path

import healpy
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning
from astropy.wcs.utils import proj_plane_pixel_area

from geminga.arrays import Float32, Float64, Int64
from geminga.errors import InputError
from geminga.geometry import unit_vectors
from geminga.response import Response
from geminga.sky.diffuse_models import check_intensity
from geminga.sky.extended import GAUSSIAN, R68_SIGMA, ExtendedList, Shape
from geminga.sky.fits_input import equatorial_from_galactic, galactic_from_equatorial, open_fits
from geminga.sky.folding import convolve
from geminga.sky.spectra import differential

PSF_INDEX = 2.2
"""Spectral index of extended sources for the choice of their PSF."""

_LEAST_POINTS = 400
_POINTS_A_PIXEL = 16.0
_GOLDEN = np.pi * (3.0 - np.sqrt(5.0))


def extended_counts(sources: ExtendedList, response: Response, nside: int) -> Float32:
    """Return expected counts per steradian of extended sources, exposure and PSF folded in.

    Parameters
    ----------
    sources : ExtendedList
    response : Response
    nside : int
        Resolution of the maps (RING, Galactic).

    Returns
    -------
    Float32 (C, npix)
    """
    parts = [place(shape, nside) for shape in sources.shapes]
    pixel = np.concatenate([p for p, _ in parts])
    share = np.concatenate([s for _, s in parts])
    owner = np.repeat(np.arange(len(parts)), [len(p) for p, _ in parts])
    lon, lat = healpy.pix2ang(nside, pixel, lonlat=True)
    spectrum = [sources.spectra[c].to_numpy() for c in sources.spectra.columns]
    npix = healpy.nside2npix(nside)
    result = np.empty((len(response.channels), npix), dtype=np.float32)
    for channel, nodes in enumerate(response.nodes):
        form, norm, pivot, index, curvature, power = spectrum
        flux = differential(form, norm, pivot, index, curvature, power, nodes.energy_mev)
        seen = response.exposure_at_nodes(channel, lon, lat)
        counts = share * np.einsum("ne,en->n", (flux * nodes.weight)[owner], seen)
        whole = np.bincount(pixel, counts, minlength=npix) / healpy.nside2pixarea(nside)
        window = response.psf.harmonic(channel, PSF_INDEX, 2 * nside)
        result[channel] = convolve(whole.astype(np.float32), window)
    return result


def place(shape: Shape, nside: int) -> tuple[Int64, Float64]:
    """Return the pixels that a source covers, and the share of its emission in each, (n,).

    The source is taken as many points, each divided among its four neighbouring pixels: the
    shares sum to 1 and have the source's centroid, however small it is.
    """
    vectors, weight = _points(shape, nside)
    theta, phi = healpy.vec2ang(vectors)
    corners, parts = healpy.get_interp_weights(nside, theta, phi)
    pixel, where = np.unique(corners, return_inverse=True)
    share = np.bincount(where.ravel(), (parts * weight).ravel())
    return pixel, share / share.sum()


def _points(shape: Shape, nside: int) -> tuple[Float64, Float64]:
    """Return points (n, 3) on the source and their weights, which sum to 1."""
    if shape.template is not None:
        return _image_points(shape.template)
    area = np.pi * shape.major_deg * shape.minor_deg
    pixel = np.degrees(np.degrees(healpy.nside2pixarea(nside)))
    half = int(max(_LEAST_POINTS, _POINTS_A_PIXEL * area / pixel)) // 2
    # A sunflower covers the disk evenly; with every point its opposite, so the centre is exact.
    part = (np.arange(half) + 0.5) / half
    angle = np.arange(half) * _GOLDEN
    if shape.kind == GAUSSIAN:
        radius = np.sqrt(-2.0 * np.log1p(-part)) / R68_SIGMA
    else:
        radius = np.sqrt(part)
    along = shape.major_deg * radius * np.cos(angle)
    across = shape.minor_deg * radius * np.sin(angle)
    along, across = np.concatenate([along, -along]), np.concatenate([across, -across])
    return _around(shape, along, across), np.full(2 * half, 0.5 / half)


def _around(shape: Shape, along: Float64, across: Float64) -> Float64:
    """Return directions (n, 3) at offsets in degrees along and across the major axis."""
    centre = equatorial_from_galactic(
        unit_vectors(np.array([shape.lon_deg]), np.array([shape.lat_deg]))
    )[0]
    east = np.cross([0.0, 0.0, 1.0], centre)
    east /= np.linalg.norm(east)
    north = np.cross(centre, east)
    turn = np.radians(shape.angle_deg)
    up = along * np.cos(turn) - across * np.sin(turn)
    left = along * np.sin(turn) + across * np.cos(turn)
    distance = np.radians(np.hypot(up, left))
    direction = np.arctan2(left, up)
    sideways = np.cos(direction)[:, None] * north + np.sin(direction)[:, None] * east
    vectors = np.cos(distance)[:, None] * centre + np.sin(distance)[:, None] * sideways
    return galactic_from_equatorial(vectors)


def _image_points(path: Path) -> tuple[Float64, Float64]:
    """Return the pixels of an image that are not empty, and their weights."""
    where = str(path)
    with open_fits(path) as hdus, warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        image = next(
            (h for h in hdus if len(getattr(h, "shape", ())) >= 2 and not _is_table(h)), None
        )
        if image is None:
            raise InputError(where, "has no image", "give a template of the source's shape")
        values = np.asarray(image.data, dtype=np.float64)
        wcs = WCS(image.header)
    values = values.reshape(-1, *values.shape[-2:])[0]
    check_intensity(values, where)
    if not wcs.has_celestial or not values.any():
        raise InputError(
            where, "has no celestial axes or no emission", "give a template of the source's shape"
        )
    wcs = wcs.celestial
    row, column = np.nonzero(values)
    lon, lat = wcs.wcs_pix2world(column, row, 0)
    vectors = unit_vectors(lon, lat)
    solid = proj_plane_pixel_area(wcs) * np.ones(len(lat))
    if wcs.wcs.ctype[0].endswith("CAR"):
        solid = solid * np.cos(np.radians(lat))
    if wcs.wcs.ctype[0].startswith("RA"):
        vectors = galactic_from_equatorial(vectors)
    weight = values[row, column] * solid
    return vectors, weight / weight.sum()


def _is_table(hdu: object) -> bool:
    return isinstance(hdu, fits.BinTableHDU | fits.TableHDU)
