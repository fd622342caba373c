"""Counts maps in gtbin's HEALPix format, read as photons and written from them.

The layout is that of gtbin (algorithm HEALPIX): a table SKYMAP with one column CHANNELn per
energy bin, and a table EBOUNDS with the bins' edges in keV.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import healpy as hp
import numpy as np
from astropy.io import fits

from geminga.arrays import Float64, Int64
from geminga.bands import Band, edges_mev
from geminga.config import Config
from geminga.errors import InputError
from geminga.files import atomic
from geminga.seeds import Stage, generator
from geminga.sky.fits_input import galactic_from_equatorial
from geminga.sky.healpix_file import FINEST_ORDER, Channel, read_channels
from geminga.sky.photons import Photons

_LOG = logging.getLogger(__name__)
_EDGE_TOLERANCE = 1e-4
"""Channel edges are kept in single precision and often rounded: equal within this part."""


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
    children = 4 ** (FINEST_ORDER - nside.bit_length() + 1)
    fine = nested_pixels * children + rng.integers(0, children, size=len(nested_pixels))
    return np.stack(hp.pix2vec(1 << FINEST_ORDER, fine, nest=True), axis=-1)


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
        channel
        for number, path in enumerate(paths)
        for channel in read_channels(path, number, config)
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


def _channels_of(band: Band, channels: Sequence[Channel], files: Sequence[str]) -> list[Channel]:
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
            vectors = photons.xyz[photons.channel == number].astype(np.float64)
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
