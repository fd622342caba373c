"""Simulated events: photons with energies, times and event types, as an event list holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from geminga.arrays import Float32, Float64, Int8, Int32
from geminga.bands import Channel, edges_mev
from geminga.response import Response
from geminga.response.event_types import EVENT_TYPE_BITS
from geminga.seeds import Stage, generator
from geminga.sky.event_spectra import (
    DiffuseSpectra,
    component_shares,
    diffuse_rows,
    diffuse_table,
    source_table,
)
from geminga.sky.observation import Observation
from geminga.sky.observe import draw_photons_and_cells
from geminga.sky.photons import Photons
from geminga.sky.sky import Sky

_CHUNK = 1 << 20
_MARGIN = 1e-9
"""Times keep this part of a time bin away from its ends: rounding carries none over."""


@dataclass(frozen=True)
class Events:
    """Photons and what else is measured of them, all of n rows in the order of the photons.

    Attributes
    ----------
    photons : Photons
    energy_mev : Float32 (n,)
        Measured energy, inside the band of the photon's channel.
    time_s : Float64 (n,)
        Mission elapsed time, inside the photon's time bin.
    event_type : Int8 (n,)
        Bit of EVENT_TYPE.
    """

    photons: Photons
    energy_mev: Float32
    time_s: Float64
    event_type: Int8

    def __len__(self) -> int:
        return len(self.photons)


@dataclass(frozen=True)
class TypeShares:
    """How events of a selection are shared among its event types.

    Attributes
    ----------
    energy_mev : Float64 (E,)
        Rising.
    share : Float64 (T, E)
        Share of the effective area of each event type; sums to 1.
    """

    energy_mev: Float64
    share: Float64


def draw_events(
    sky: Sky,
    response: Response,
    spectra: DiffuseSpectra,
    observation: Observation,
    root_seed: int,
    type_shares: Mapping[tuple[str, ...], TypeShares] | None = None,
) -> Events:
    """Draw one observation of a sky as events.

    The photons are those of ``draw_photons(sky, root_seed)``, bit for bit and in their order.
    Energies follow the spectrum of the source or diffuse component a photon comes from (see
    `geminga.sky.event_spectra`); times are uniform inside a photon's time bin; the event type,
    where a channel adds several, is drawn with their share of the effective area at the photon's
    energy, averaged over the survey.

    Parameters
    ----------
    sky : Sky
    response : Response
        That of the sky's channels.
    spectra : DiffuseSpectra
        The sky's diffuse models.
    observation : Observation
        Gives the time, split into the sky's equal time bins.
    root_seed : int
        The result depends on it and the sky's number alone.
    type_shares : mapping, optional
        By selection of event types, for those of more than one type; equal shares without it.

    Returns
    -------
    Events
    """
    photons, cell = draw_photons_and_cells(sky, root_seed)
    events = Events(
        photons,
        np.empty(len(photons), np.float32),
        np.empty(len(photons), np.float64),
        np.empty(len(photons), np.int8),
    )
    width = (observation.stop_s - observation.start_s) / sky.years
    ends = np.searchsorted(photons.channel, np.arange(len(sky.channels) + 1))
    for number, channel in enumerate(sky.channels):
        rng = generator(root_seed, Stage.EVENTS, sky.sky_id, number)
        mine = slice(int(ends[number]), int(ends[number + 1]))
        _draw_energies(sky, response, spectra, number, cell[mine], rng, events.energy_mev[mine])
        for part in _parts(mine):
            u = _MARGIN + (1.0 - 2.0 * _MARGIN) * rng.random(part.stop - part.start)
            events.time_s[part] = observation.start_s + (photons.year[part] + u) * width
        shares = (type_shares or {}).get(channel.event_types)
        for part in _parts(mine):
            events.event_type[part] = _types(channel, shares, events.energy_mev[part], rng)
    return events


def _draw_energies(
    sky: Sky,
    response: Response,
    spectra: DiffuseSpectra,
    number: int,
    cell: Int32,
    rng: np.random.Generator,
    energy: Float32,
) -> None:
    """Fill the energies (n,) of a channel's photons; `cell` (n,) tells where they come from."""
    sources = len(sky.source_counts)
    low, high = single_precision_edges(sky.channels[number])
    seen = np.unique(cell[cell < sources]).astype(np.int64)
    of_sources = source_table(sky, response, number, seen)
    of_diffuse = diffuse_table(spectra, response, number) if (cell >= sources).any() else None
    density = component_shares(sky, number) if of_diffuse is not None else None
    for part in _parts(slice(0, len(cell))):
        here = cell[part]
        component, quantile = rng.random(len(here)), rng.random(len(here))
        drawn = np.empty(len(here))
        point = here < sources
        rows = np.searchsorted(seen, here[point])
        drawn[point] = of_sources.draw(rows, quantile[point])
        if of_diffuse is not None and density is not None:
            pixel = here[~point] - sources
            rows = diffuse_rows(density, pixel, component[~point])
            drawn[~point] = of_diffuse.draw(rows, quantile[~point])
        energy[part] = np.clip(drawn.astype(np.float32), low, high)


def single_precision_edges(channel: Channel) -> tuple[np.float32, np.float32]:
    """Return the lowest and the highest float32 (MeV) inside a band."""
    first, last = edges_mev([channel])[0]
    low, high = np.float32(first), np.float32(last)
    if float(low) < first:
        low = np.nextafter(low, np.float32(np.inf))
    if float(high) >= last:
        high = np.nextafter(high, np.float32(0))
    return low, high


def _types(
    channel: Channel, shares: TypeShares | None, energy: Float32, rng: np.random.Generator
) -> Int8:
    """Return the bit of EVENT_TYPE of events (n,) of a channel."""
    names = channel.event_types
    bits = np.array([EVENT_TYPE_BITS[name] for name in names], dtype=np.int8)
    if len(names) == 1:
        return np.full(len(energy), bits[0])
    quantile = rng.random(len(energy))
    if shares is None:
        return bits[np.floor(quantile * len(names)).astype(np.int64)]
    log_energy = np.log(energy.astype(np.float64))
    number = np.zeros(len(energy), dtype=np.int64)
    for cumulative in np.cumsum(shares.share, axis=0)[:-1]:
        number += quantile >= np.interp(log_energy, np.log(shares.energy_mev), cumulative)
    return bits[number]


def _parts(rows: slice) -> Sequence[slice]:
    """Return pieces of at most `_CHUNK` rows of a slice."""
    starts = range(rows.start, rows.stop, _CHUNK)
    return [slice(start, min(start + _CHUNK, rows.stop)) for start in starts]
