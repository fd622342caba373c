"""Counts maps in gtbin's HEALPix format and exposure cubes in gtexpcube2's, written.

Counts (gtbin, algorithm HEALPIX): a table SKYMAP with one column CHANNELn per energy bin, a table
EBOUNDS with the bins' edges in keV, a table GTI. Exposure (gtexpcube2): a table HPXEXPOSURES with
one column ENERGYn per energy, in cm2 s, and a table ENERGIES in MeV. Both as in the files
published with the 3FHL, in Galactic coordinates and RING order.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import healpy as hp
import numpy as np
from astropy.io import fits

from geminga.arrays import Float64, Int32
from geminga.bands import Channel, edges_mev
from geminga.files import atomic
from geminga.response import Exposure, Response
from geminga.sky.formats.event_bits import entries_of
from geminga.sky.observation import Observation, add_cards, good_times_table
from geminga.sky.photons import Photons


def write_counts(
    photons: Photons,
    channels: Sequence[Channel],
    folder: Path,
    observation: Observation | None = None,
) -> tuple[Path, ...]:
    """Write photons as gtbin HEALPix counts maps, one file per event types and resolution.

    Parameters
    ----------
    photons : Photons
        Photons outside the channels are left out; years are not kept.
    channels : sequence of Channel
        Energy bins and the resolution of each.
    folder : Path
        Gets the files ``counts_nside<n>.fits``; ``counts_<types>_nside<n>.fits`` where several
        selections of event types have channels of their own.
    observation : Observation, optional
        Gives the keywords of time and selection and the table GTI.

    Returns
    -------
    tuple of Path
        The files, by event types and then coarsest first; `read_counts` takes those of one
        selection of event types together.
    """
    entries = entries_of(channels)
    paths = []
    for entry in entries:
        label = f"_{'+'.join(entry)}" if len(entries) > 1 else ""
        mine = [(i, c) for i, c in enumerate(channels) if c.event_types == entry]
        for nside in sorted({channel.nside for _, channel in mine}):
            path = folder / f"counts{label}_nside{nside}.fits"
            part = [(i, c) for i, c in mine if c.nside == nside]
            hdus = _counts_tables(photons, part, nside, observation)
            with atomic(path) as temporary:
                hdus.writeto(temporary)
            paths.append(path)
    return tuple(paths)


def _counts_tables(
    photons: Photons,
    channels: Sequence[tuple[int, Channel]],
    nside: int,
    observation: Observation | None,
) -> Any:
    columns = []
    for number, (index, _) in enumerate(channels, start=1):
        vectors = photons.xyz[photons.channel == index].astype(np.float64)
        pixels = hp.vec2pix(nside, *vectors.T)
        counts = np.bincount(pixels, minlength=hp.nside2npix(nside))
        columns.append(fits.Column(f"CHANNEL{number}", "D", array=counts))
    skymap = fits.BinTableHDU.from_columns(columns, name="SKYMAP")
    _say_healpix(skymap.header, nside)
    ebounds = _bounds_table([channel for _, channel in channels])
    primary = fits.PrimaryHDU()
    if observation is None:
        return fits.HDUList([primary, skymap, ebounds])
    dss = observation.dss([channel for _, channel in channels])
    for header in (primary.header, skymap.header):
        add_cards(header, [*observation.times(), *dss])
    return fits.HDUList([primary, skymap, ebounds, observation.good_times()])


def write_counts_map(
    path: Path,
    counts: Int32,
    channel: Channel,
    cards: Sequence[tuple[Any, ...]],
    good_times: Float64,
) -> None:
    """Write counts of one channel as a gtbin HEALPix counts map.

    The bytes depend on the arguments alone: the file carries no date.

    Parameters
    ----------
    path : Path
        File to write; an older one is replaced.
    counts : Int32 (npix,)
        Galactic, RING.
    channel : Channel
    cards : sequence of (name, value) or (name, value, comment)
        Keywords of time and selection.
    good_times : Float64 (n, 2)
        Good time intervals, mission elapsed time in s; without any there is no table of them.
    """
    column = fits.Column("CHANNEL1", "J", array=counts)
    skymap = fits.BinTableHDU.from_columns([column], name="SKYMAP")
    _say_healpix(skymap.header, hp.npix2nside(len(counts)))
    primary = fits.PrimaryHDU()
    for header in (primary.header, skymap.header):
        add_cards(header, cards)
    hdus = [primary, skymap, _bounds_table([channel])]
    if len(good_times):
        times = [card for card in cards if not str(card[0]).startswith(("DS", "NDSKEYS"))]
        hdus.append(good_times_table(good_times, times))
    with atomic(path) as temporary:
        fits.HDUList(hdus).writeto(temporary)


def _bounds_table(channels: Sequence[Channel]) -> Any:
    edges = edges_mev(channels) * 1e3
    return fits.BinTableHDU.from_columns(
        [
            fits.Column("CHANNEL", "I", array=np.arange(1, len(channels) + 1)),
            fits.Column("E_MIN", "D", array=edges[:, 0], unit="keV"),
            fits.Column("E_MAX", "D", array=edges[:, 1], unit="keV"),
        ],
        name="EBOUNDS",
    )


def write_exposures(
    response: Response, folder: Path, observation: Observation | None = None
) -> tuple[Path, ...]:
    """Write the exposure of each selection of event types as a gtexpcube2 cube.

    Returns
    -------
    tuple of Path
        ``exposure.fits``; with ``_<types>`` where several selections of event types have channels
        of their own, and ``_zmax<angle>`` where bands are cut at different zenith angles.
    """
    several = len(entries_of(response.channels)) > 1
    groups: dict[tuple[tuple[str, ...], float], list[int]] = {}
    for index, channel in enumerate(response.channels):
        groups.setdefault((channel.event_types, channel.max_zenith_deg), []).append(index)
    cuts = {zenith for _, zenith in groups}
    paths = []
    for (entry, zenith), members in groups.items():
        label = f"_{'+'.join(entry)}" if several else ""
        label += f"_zmax{zenith:g}" if len(cuts) > 1 else ""
        paths.append(folder / f"exposure{label}.fits")
        cards = []
        if observation is not None:
            channels = [response.channels[index] for index in members]
            irf = ("IRF_VERSION", "DIMENSIONLESS", observation.irf)
            cards = observation.dss(channels, [irf])
        write_exposure(response.exposures[members[0]], paths[-1], cards, observation)
    return tuple(paths)


def write_exposure(
    exposure: Exposure,
    path: Path,
    selection: Sequence[tuple[str, Any]] = (),
    observation: Observation | None = None,
) -> None:
    """Write exposure maps as a gtexpcube2 HEALPix cube.

    Parameters
    ----------
    exposure : Exposure
    path : Path
        File to write; an older one is replaced.
    selection : sequence of (str, value)
        Data sub-space keywords.
    observation : Observation, optional
        Gives the keywords of time and the table GTI.
    """
    columns = [
        fits.Column(f"ENERGY{number}", "D", array=values.astype(np.float64))
        for number, values in enumerate(exposure.maps_cm2_s, start=1)
    ]
    table = fits.BinTableHDU.from_columns(columns, name="HPXEXPOSURES")
    _say_healpix(table.header, exposure.nside)
    table.header["NBRBINS"] = len(columns)
    table.header["BUNIT"] = ("cm2 s", "unit of the exposure")
    energies: Float64 = np.asarray(exposure.energy_mev, dtype=np.float64)
    nodes = fits.BinTableHDU.from_columns(
        [fits.Column("Energy", "D", array=energies, unit="MeV")], name="ENERGIES"
    )
    primary = fits.PrimaryHDU()
    add_cards(primary.header, list(selection))
    primary.header["HISTORY"] = f"exposure: {exposure.origin}"
    hdus = [primary, table, nodes]
    if observation is not None:
        for header in (primary.header, table.header):
            add_cards(header, observation.times())
        hdus.append(observation.good_times())
    with atomic(path) as temporary:
        fits.HDUList(hdus).writeto(temporary)


def _say_healpix(header: Any, nside: int) -> None:
    header.update(
        TELESCOP="GLAST",
        INSTRUME="LAT",
        PIXTYPE="HEALPIX",
        ORDERING="RING",
        COORDSYS="GAL",
        ORDER=nside.bit_length() - 1,
        NSIDE=nside,
        FIRSTPIX=0,
        LASTPIX=hp.nside2npix(nside) - 1,
        INDXSCHM="IMPLICIT",
    )
