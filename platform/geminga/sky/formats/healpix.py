"""Counts maps in gtbin's HEALPix format, read as photons."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import healpy as hp
import numpy as np

from geminga.arrays import Float64, Int64
from geminga.bands import Band, Channel, edges_mev
from geminga.config import Config
from geminga.errors import InputError
from geminga.seeds import Stage, generator
from geminga.sky.formats.event_bits import entries_of
from geminga.sky.formats.fits_input import galactic_from_equatorial
from geminga.sky.formats.healpix_file import FINEST_ORDER, EnergyBin, read_bins
from geminga.sky.photons import MOST_PHOTONS, Photons, check_number, photon_keys, photons_from_keys
from geminga.sky.photons import NSIDE as PHOTON_NSIDE
from geminga.sky.pixel_counts import MapPart, PixelCounts

_LOG = logging.getLogger(__name__)
_CHUNK = 1 << 20
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


def read_counts(paths: Sequence[Path] | Mapping[str, Sequence[Path]], config: Config) -> Photons:
    """Read HEALPix counts maps as photons, each placed at random inside its pixel.

    The energy bins of all files of a selection of event types together must fill every band: bins
    inside a band are summed, those outside all bands are left out. A map in equatorial coordinates
    is read by rotating the photons, not by regridding the map. Maps have no times, so photons get
    years at random in equal shares, as if every source were steady.

    Parameters
    ----------
    paths : sequence of Path, or mapping of str to sequence of Path
        gtbin HEALPix files: one with all energies, or several; for each entry of
        ``response.event_types`` if there is more than one, since a map does not tell them apart.
    config : Config
        Gives channels, years and seed; its section `observed`, if any, is compared with the DSS
        keywords, since a map cannot be cut any more.

    Raises
    ------
    InputError
        If a file is missing, truncated or not FITS; has an unknown frame or ordering, an nside
        that does not fit its rows, counts that are no whole numbers; or energy bins that are cut
        by a band's edge, overlap, or leave a band partly empty; or if event types have no files.
    """
    bins = bins_of_channels(paths, config)
    files = [path for part in _files_of_entries(paths, config).values() for path in part]
    return photons_of_bins(bins, files, config)


def photons_of_bins(
    bins: Sequence[Sequence[EnergyBin]], files: Sequence[Path], config: Config
) -> Photons:
    """Return the photons of the energy bins of each channel, each at random inside its pixel.

    Raises
    ------
    InputError
        If they are more than `geminga.sky.photons.MOST_PHOTONS`; nothing is made then.
    """
    names = ", ".join(path.name for path in files)
    sizes = [int(part.counts.sum()) for parts in bins for part in parts]
    check_number(sum(sizes), names)
    keys = np.empty(sum(sizes), dtype=np.int64)
    start = 0
    for index, channel in enumerate(config.channels):
        for part in bins[index]:
            stop = start + int(part.counts.sum())
            _fill_keys(keys[start:stop], part, index, channel, config)
            start = stop
    origin = _origin(names, config) | {"years": "drawn at random: maps have no times"}
    photons = photons_from_keys(keys, origin)
    _LOG.info("%d photons read from %d counts map(s)", len(photons), len(files))
    return photons


def counts_of_bins(
    bins: Sequence[Sequence[EnergyBin]], files: Sequence[Path], config: Config
) -> PixelCounts:
    """Return the photons of the energy bins of each channel, left in the pixels of their maps.

    Raises
    ------
    InputError
        If more pixels hold counts than `geminga.sky.photons.MOST_PHOTONS`.
    """
    names = ", ".join(path.name for path in files)
    parts = []
    for index, channel in enumerate(config.channels):
        for part in bins[index]:
            _say_if_coarse(part, channel)
            parts.append(MapPart(index, part.nside, part.galactic, part.pixels, part.counts))
    origin = _origin(names, config) | {"places": "spread evenly over their pixels"}
    counts = PixelCounts(tuple(parts), origin)
    # Pixels take memory, however many photons each holds.
    filled = sum(len(part.pixels) for part in parts)
    if filled > MOST_PHOTONS:
        raise InputError(
            names,
            f"{filled:,} pixels with counts",
            f"at most {MOST_PHOTONS:,} are taken: make maps with a smaller nside",
        )
    _LOG.info("%d photons read from %d counts map(s)", len(counts), len(files))
    return counts


def _origin(names: str, config: Config) -> dict[str, str]:
    """Return where the photons of maps come from."""
    return {
        "kind": "HEALPix counts",
        "files": names,
        "event_types": ", ".join(config.response.event_types),
    }


def bins_of_channels(
    paths: Sequence[Path] | Mapping[str, Sequence[Path]], config: Config
) -> tuple[list[EnergyBin], ...]:
    """Return the energy bins of counts maps that fill each channel, in the maps' own pixels.

    Parameters and errors as `read_counts`.
    """
    result: list[list[EnergyBin]] = [[] for _ in config.channels]
    number = 0
    for entry, files in _files_of_entries(paths, config).items():
        channels = [(i, c) for i, c in enumerate(config.channels) if c.event_types == entry]
        bins: list[EnergyBin] = []
        for path in files:
            bins += read_bins(path, number, [c for _, c in channels], config.observed)
            number += 1
        for index, channel in channels:
            result[index] = bins_of_band(channel, bins, [str(path) for path in files])
    return tuple(result)


def _files_of_entries(
    paths: Sequence[Path] | Mapping[str, Sequence[Path]], config: Config
) -> dict[tuple[str, ...], Sequence[Path]]:
    """Return the files of each selection of event types."""
    entries = entries_of(config.channels)
    where, names = "observed.counts", ["+".join(entry) for entry in entries]
    if not isinstance(paths, Mapping):
        if len(entries) > 1:
            raise InputError(
                where,
                f"does not say which maps hold {', '.join(names)}",
                f"give the files of each, {{{', '.join(f'{name}: [...]' for name in names)}}}",
            )
        paths = {names[0]: paths}
    if set(paths) != set(names):
        raise InputError(
            where,
            f"has maps of {', '.join(paths) or 'no event types'}",
            f"give files for each entry of response.event_types: {', '.join(names)}",
        )
    for name, files in paths.items():
        if not files:
            raise InputError(where, f"names no file of {name}", "list at least one counts map")
    return {entry: paths[name] for entry, name in zip(entries, names, strict=True)}


def _say_if_coarse(energy_bin: EnergyBin, channel: Channel) -> None:
    if energy_bin.nside < channel.nside:
        _LOG.warning(
            "%s: nside %d is coarser than band %s's %d: sources are smeared",
            energy_bin.where,
            energy_bin.nside,
            channel.label,
            channel.nside,
        )


def _fill_keys(
    keys: Int64, energy_bin: EnergyBin, index: int, channel: Channel, config: Config
) -> None:
    """Set the keys (n,) of the photons of an energy bin, placed at random in their pixels."""
    _say_if_coarse(energy_bin, channel)
    rng = generator(config.seed, Stage.HEALPIX_JITTER, *energy_bin.key)
    last = np.cumsum(energy_bin.counts)
    # In pieces: directions take ten times the memory of a key.
    for start in range(0, len(keys), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(keys)))
        pixels = energy_bin.pixels[np.searchsorted(last, rows, side="right")]
        vectors = uniform_in_pixels(energy_bin.nside, pixels, rng)
        vectors = vectors if energy_bin.galactic else galactic_from_equatorial(vectors)
        keys[rows[0] : rows[-1] + 1] = hp.vec2pix(PHOTON_NSIDE, *vectors.T, nest=True)
    year = rng.integers(0, config.sky.years, size=len(keys), dtype=np.int8)
    for start in range(0, len(keys), _CHUNK):
        part = slice(start, start + _CHUNK)
        keys[part] = photon_keys(keys[part], index, year[part])


def bins_of_band(band: Band, bins: Sequence[EnergyBin], files: Sequence[str]) -> list[EnergyBin]:
    """Return the energy bins that make up a band, in order of energy.

    Raises
    ------
    InputError
        If a bin is cut by an edge of the band, two overlap, or part of the band has none.
    """
    low, high = edges_mev([band])[0]
    below, above = 1 - _EDGE_TOLERANCE, 1 + _EDGE_TOLERANCE
    inside = []
    for energy_bin in bins:
        first, last = energy_bin.edges_mev
        if last <= low * above or first >= high * below:
            continue
        if first < low * below or last > high * above:
            raise InputError(
                energy_bin.where,
                f"energies {first / 1e3:g}-{last / 1e3:g} GeV are cut by an edge of band "
                f"{band.label}",
                "choose bands whose edges are edges of the map's channels",
            )
        inside.append(energy_bin)
    inside.sort(key=lambda energy_bin: energy_bin.edges_mev)
    reached = low
    for energy_bin in inside:
        first, last = energy_bin.edges_mev
        if first < reached * below:
            raise InputError(
                energy_bin.where,
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
