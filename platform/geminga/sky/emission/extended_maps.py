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
from geminga.compiled import compiled
from geminga.errors import InputError
from geminga.geometry import unit_vectors
from geminga.response import Response
from geminga.sky.emission.diffuse_models import check_intensity
from geminga.sky.emission.extended import GAUSSIAN, R68_SIGMA, ExtendedList, Shape
from geminga.sky.formats.fits_input import (
    equatorial_from_galactic,
    galactic_from_equatorial,
    open_fits,
)
from geminga.sky.spectra import differential

PSF_INDEX = 2.2
"""Spectral index of extended sources for the choice of their PSF."""

CONTAINED = 0.999
"""Part of the photons within the largest angle of the PSF; the rest is put within it, too."""

_FARTHEST_DEG = 20.0
_TABLE = 4096
_PARTS = 4
_NEAR_PIXELS = 3.0
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
    channels = range(len(response.channels))
    density = np.zeros((len(channels), healpy.nside2npix(nside)))
    reach = [
        min(response.psf.radius_of_containment(c, PSF_INDEX, CONTAINED), _FARTHEST_DEG)
        for c in channels
    ]
    table = [_psf_table(response, c, reach[c]) for c in channels]
    rows = sources.spectra.itertuples(index=False)
    for shape, (form, norm, pivot, index, curvature, power) in zip(
        sources.shapes, rows, strict=True
    ):
        pixel, share = place(shape, nside)
        vectors = np.stack(healpy.pix2vec(nside, pixel), axis=-1)
        lon, lat = healpy.pix2ang(nside, pixel, lonlat=True)
        centre = unit_vectors(np.array([shape.lon_deg]), np.array([shape.lat_deg]))[0]
        extent = np.arccos(np.clip(vectors @ centre, -1.0, 1.0).min())
        around = healpy.query_disc(nside, centre, min(extent + np.radians(max(reach)), np.pi))
        centres = np.stack(healpy.pix2vec(nside, around), axis=-1)
        parts = _sub_pixels(nside, around)
        for channel, nodes in enumerate(response.nodes):
            flux = differential(form, norm, pivot, index, curvature, power, nodes.energy_mev)[0]
            seen = response.exposure_at_nodes(channel, lon, lat)
            counts = share * np.einsum("e,en->n", flux * nodes.weight, seen)
            density[channel, around] += _smeared(
                vectors,
                counts / healpy.nside2pixarea(nside),
                centres,
                parts,
                table[channel],
                np.radians(reach[channel]),
                _NEAR_PIXELS * float(healpy.nside2resol(nside)),
            )
    return density.astype(np.float32)


def _psf_table(response: Response, channel: int, reach_deg: float) -> Float64:
    """Return the PSF of a channel at angles reach (k / (_TABLE - 1))^2, shape (_TABLE,)."""
    angle = reach_deg * np.linspace(0.0, 1.0, _TABLE) ** 2
    psf = response.psf
    return np.interp(angle, psf.radius_deg, psf.density(channel, PSF_INDEX))


def _sub_pixels(nside: int, pixel: Int64) -> Float64:
    """Return the centres of the parts of pixels (RING), shape (n, _PARTS^2, 3)."""
    nested = healpy.ring2nest(nside, pixel)
    parts = nested[:, None] * _PARTS**2 + np.arange(_PARTS**2)
    return np.stack(healpy.pix2vec(nside * _PARTS, parts, nest=True), axis=-1)


@compiled
def _smeared(
    sources: Float64,
    counts: Float64,
    centres: Float64,
    parts: Float64,
    psf: Float64,
    reach_rad: float,
    near_rad: float,
) -> Float64:
    """Spread counts over pixels with a PSF; every source's counts stay what they are.

    A harmonic transform would ring around sources as small as pixels. Close to a source the PSF is
    averaged over the parts of each pixel, farther away it is taken at the centre.

    Parameters
    ----------
    sources : Float64 (s, 3)
        Directions that hold the counts.
    counts : Float64 (s,)
    centres, parts : Float64 (n, 3), (n, k, 3)
        Pixels that receive them.
    psf : Float64 (m,)
        PSF at angles reach (i / (m - 1))^2.
    reach_rad, near_rad : float
        Largest angle of the PSF; angle within which pixels are averaged.

    Returns
    -------
    Float64 (n,)
    """
    result = np.zeros(len(centres))
    weight = np.zeros(len(centres))
    last, k = len(psf) - 1, parts.shape[1]
    beyond = max(reach_rad, near_rad) ** 2
    for s in range(len(sources)):
        a, b, c = sources[s]
        total = 0.0
        for n in range(len(centres)):
            x, y, z = a - centres[n, 0], b - centres[n, 1], c - centres[n, 2]
            chord2 = x * x + y * y + z * z
            weight[n] = 0.0
            if chord2 > beyond:
                continue
            used = k if chord2 < near_rad * near_rad else 1
            for part in range(used):
                if used > 1:
                    x, y, z = a - parts[n, part, 0], b - parts[n, part, 1], c - parts[n, part, 2]
                    chord2 = x * x + y * y + z * z
                # The angle of a chord, to 1e-6 within the farthest reach.
                angle = np.sqrt(chord2) * (1.0 + chord2 / 24.0)
                if angle < reach_rad:
                    at = np.sqrt(angle / reach_rad) * last
                    low = min(int(at), last - 1)
                    weight[n] += (psf[low] + (at - low) * (psf[low + 1] - psf[low])) / used
            total += weight[n]
        if total > 0.0:
            for n in range(len(centres)):
                result[n] += weight[n] * (counts[s] / total)
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
