"""Counts of real photons, and the counts expected, in the same HEALPix pixels.

A counts map stays in its own pixels, Galactic or equatorial: moving photons to other pixels would
blur sources by half a pixel. The prediction is made there instead: sources are put at their place
in that frame, diffuse emission is evaluated at the directions of its pixels.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import healpy
import numpy as np

from geminga.arrays import Float64
from geminga.classes import DIFFUSE_COMPONENTS
from geminga.config import Config, ObservedConfig, data_path
from geminga.errors import InputError
from geminga.geometry import lon_lat, unit_vectors
from geminga.sky.asimov import expected_map
from geminga.sky.formats.fits_input import equatorial_from_galactic, galactic_from_equatorial
from geminga.sky.formats.ft1 import read_events
from geminga.sky.formats.healpix import bins_of_channels
from geminga.sky.populations.sources import SourceSet
from geminga.sky.sky import Sky

SOURCES = "sources"
"""Name of all point sources together."""

_FINER, _FINER_DIFFUSE = 8, 4
"""Sources, and diffuse maps that are turned, are made in pixels this much finer a side."""


@dataclass(frozen=True, eq=False)
class CountsMaps:
    """Counted photons.

    Attributes
    ----------
    counts : Float64 (C, npix)
        Of each channel (RING).
    galactic : bool
        Frame of the pixels: Galactic, else equatorial (J2000).
    origin : str
        Names of the files.
    """

    counts: Float64
    galactic: bool
    origin: str

    @property
    def nside(self) -> int:
        """HEALPix resolution."""
        return int(healpy.npix2nside(self.counts.shape[1]))

    def directions(self) -> tuple[Float64, Float64]:
        """Return Galactic longitude and latitude in degrees of every pixel."""
        return _galactic_directions(self.nside, self.galactic)


def observed_maps(config: Config, observed: ObservedConfig, nside: int) -> CountsMaps:
    """Read the photons that a configuration names as counts in pixels of one resolution.

    Parameters
    ----------
    config : Config
    observed : ObservedConfig
        Event lists are binned in Galactic pixels; maps stay in their frame.
    nside : int
        Resolution wanted; maps may be finer.

    Raises
    ------
    InputError
        As the readers of events and maps; if a map is coarser than `nside` or two are of
        different frames.
    """
    npix = healpy.nside2npix(nside)
    counts = np.zeros((len(config.channels), npix))
    if observed.events:
        files = [data_path(config, name) for name in observed.events]
        photons = read_events(files, observed, config)
        pixel = healpy.vec2pix(nside, *np.asarray(photons.xyz, dtype=np.float64).T)
        np.add.at(counts, (photons.channel.astype(np.int64), pixel), 1.0)
        return CountsMaps(counts, True, photons.origin["files"])
    named = observed.counts
    if isinstance(named, dict):
        maps = {entry: [data_path(config, n) for n in names] for entry, names in named.items()}
        files = [path for paths in maps.values() for path in paths]
        bins = bins_of_channels(maps, config)
    else:
        files = [data_path(config, name) for name in named]
        bins = bins_of_channels(files, config)
    origin = ", ".join(path.name for path in files)
    if len({energy_bin.galactic for channel in bins for energy_bin in channel}) > 1:
        raise InputError(origin, "are maps of different frames", "give maps of one frame")
    for channel, parts in enumerate(bins):
        for part in parts:
            if part.nside < nside:
                raise InputError(
                    part.where,
                    f"has nside {part.nside}, coarser than the bands' {nside}",
                    f"set the nside of every band to {part.nside} or less",
                )
            nested = part.pixels // (part.nside // nside) ** 2
            counts[channel] += np.bincount(
                healpy.nest2ring(nside, nested), part.counts, minlength=npix
            )
    return CountsMaps(counts, bins[0][0].galactic, origin)


def predicted_maps(sky: Sky, nside: int, galactic: bool) -> dict[str, Float64]:
    """Return expected counts of the components of a sky in pixels of either frame.

    Parameters
    ----------
    sky : Sky
    nside : int
    galactic : bool
        Whether the pixels are Galactic; equatorial (J2000) otherwise.

    Returns
    -------
    dict of str to Float64 (C, npix)
        SOURCES and the diffuse components; over the whole observing time, RING.
    """
    result = {SOURCES: _sources(sky, nside, galactic)}
    for name in DIFFUSE_COMPONENTS:
        result[name] = np.array(
            [
                _diffuse(sky.component_density(name, channel), nside, galactic)
                for channel in range(len(sky.channels))
            ]
        )
    return result


def _sources(sky: Sky, nside: int, galactic: bool) -> Float64:
    table = sky.sources.table
    if not galactic:
        vectors = unit_vectors(table["lon_deg"].to_numpy(), table["lat_deg"].to_numpy())
        lon, lat = lon_lat(equatorial_from_galactic(vectors))
        table = table.assign(lon_deg=lon, lat_deg=lat)
    # The PSF is round: turned positions are all that the other frame needs.
    turned = dataclasses.replace(
        sky,
        channels=tuple(c.model_copy(update={"nside": _FINER * nside}) for c in sky.channels),
        classes=(SOURCES,),
        sources=SourceSet(table.assign(class_name=SOURCES), sky.sources.yearly),
    )
    channels = range(len(sky.channels))
    # Whole pixels are divided finely around a source only as far as their size asks for: finer
    # maps are the quicker ones.
    return np.array(
        [healpy.ud_grade(expected_map(turned, SOURCES, c), nside, power=-2) for c in channels]
    )


def _diffuse(density: Float64, nside: int, galactic: bool) -> Float64:
    """Return counts in the pixels of a frame, of a Galactic map of counts per steradian."""
    area = healpy.nside2pixarea(nside)
    own = int(healpy.npix2nside(len(density)))
    if galactic and nside <= own:
        return np.asarray(healpy.ud_grade(density, nside) * area)
    lon, lat = _galactic_directions(_FINER_DIFFUSE * nside, galactic)
    values = healpy.get_interp_val(density, lon, lat, lonlat=True)
    coarse = healpy.ud_grade(values, nside)
    # Interpolation moves a little emission between pixels; the sum is kept.
    mean = coarse.mean()
    return np.asarray(coarse * area * (density.mean() / mean if mean > 0 else 1.0))


def _galactic_directions(nside: int, galactic: bool) -> tuple[Float64, Float64]:
    vectors = np.stack(healpy.pix2vec(nside, np.arange(healpy.nside2npix(nside))), axis=-1)
    return lon_lat(vectors if galactic else galactic_from_equatorial(vectors))
