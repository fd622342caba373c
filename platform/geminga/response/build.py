"""The response of every channel, as a configuration asks for it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import healpy
import numpy as np

from geminga.arrays import Float64
from geminga.bands import Channel
from geminga.config import Config
from geminga.response.exposure import Exposure, check_energy_range, interpolate_energy
from geminga.response.nodes import EnergyNodes, band_nodes, dispersed_nodes
from geminga.response.psf import BandPsf, PsfTable, average_channels
from geminga.response.selection import (
    Selection,
    channel_cubes,
    check_selections,
    read_selection,
)
from geminga.response.yearly import YearShare, year_shares

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Response:
    """Everything that turns a flux into photons on the sky.

    Attributes
    ----------
    channels : tuple of Channel (C,)
        Bands of each selection of event types.
    exposures : tuple of Exposure (C,)
        Exposure maps by true energy.
    nodes : tuple of EnergyNodes (C,)
        Integral over the true energies that each channel counts.
    psf : BandPsf
        PSF of each channel and photon index.
    psf_tables : tuple of PsfTable (C,)
        PSF by true energy.
    year_share : YearShare
        How the exposure is shared among the time bins.
    origin : dict of str to str
        Where effective area, PSF, exposure, energy dispersion and the shares come from.
    """

    channels: tuple[Channel, ...]
    exposures: tuple[Exposure, ...]
    nodes: tuple[EnergyNodes, ...]
    psf: BandPsf
    psf_tables: tuple[PsfTable, ...]
    year_share: YearShare
    origin: dict[str, str]

    @cached_property
    def _node_maps(self) -> tuple[Float64, ...]:
        # Exposure (npix, N) at each channel's nodes: one gather per direction reads all energies.
        return tuple(
            np.ascontiguousarray(
                interpolate_energy(
                    exposure.maps_cm2_s.astype(np.float64), exposure.energy_mev, nodes.energy_mev
                ).T
            )
            for exposure, nodes in zip(self.exposures, self.nodes, strict=True)
        )

    def exposure_at_nodes(self, channel: int, lon: Float64, lat: Float64) -> Float64:
        """Return a channel's exposure in cm2 s at its energy nodes and directions, (N, n)."""
        maps = self._node_maps[channel]
        pixels, weights = healpy.get_interp_weights(
            self.exposures[channel].nside, np.atleast_1d(lon), np.atleast_1d(lat), lonlat=True
        )
        result = np.zeros((pixels.shape[1], maps.shape[1]))
        for corner, weight in zip(pixels, weights, strict=True):
            result += weight[:, None] * maps[corner]
        return result.T


def build_response(config: Config) -> Response:
    """Read or take from the built-in tables the response of a configuration.

    Parameters
    ----------
    config : Config
        Its section ``response``, its bands, and the number of time bins are used.

    Raises
    ------
    InputError
        If a file is missing or unsound, the class or event type is unknown, or a band lies
        outside the energies of the exposure.
    """
    check_selections(config)
    parts: dict[tuple[tuple[str, ...], float, Path | None], Selection] = {}
    chosen = []
    for channel, cube in zip(config.channels, channel_cubes(config), strict=True):
        key = (channel.event_types, channel.max_zenith_deg, cube)
        if key not in parts:
            parts[key] = read_selection(config, *key)
        chosen.append(parts[key])
    nodes = tuple(_nodes(c, part) for c, part in zip(config.channels, chosen, strict=True))
    exposures = _extended(chosen, nodes)
    tables = tuple(part.psf for part in chosen)
    shares = year_shares(config, exposures)
    origin = {
        "psf": "; ".join(dict.fromkeys(part.origin for part in parts.values())),
        "exposure": "; ".join(dict.fromkeys(e.origin for e in exposures)),
        "years": shares.origin,
    }
    dispersions = [part.dispersion.origin for part in parts.values() if part.dispersion]
    if dispersions:
        origin["dispersion"] = "; ".join(dict.fromkeys(dispersions))
    return Response(
        channels=config.channels,
        exposures=exposures,
        nodes=nodes,
        psf=average_channels(tables, exposures, nodes),
        psf_tables=tables,
        year_share=shares,
        origin=origin,
    )


def _nodes(channel: Channel, part: Selection) -> EnergyNodes:
    check_energy_range(part.exposure.energy_mev, channel.emin_gev * 1e3, channel.emax_gev * 1e3)
    if part.dispersion is None:
        return band_nodes(channel)
    dispersion = part.dispersion
    return dispersed_nodes(channel, dispersion.inside, dispersion.area, dispersion.span_mev)


def _extended(chosen: list[Selection], nodes: tuple[EnergyNodes, ...]) -> tuple[Exposure, ...]:
    """Return each channel's exposure, reaching over all its nodes; equal ones stay one object."""
    spans: dict[int, tuple[float, float]] = {}
    for part, node in zip(chosen, nodes, strict=True):
        if part.dispersion is not None:
            low, high = spans.get(id(part), (np.inf, 0.0))
            first, last = float(node.energy_mev[0]), float(node.energy_mev[-1])
            spans[id(part)] = (min(low, first), max(high, last))
    made = {
        id(part): part.exposure.reaching(*spans[id(part)]) for part in chosen if id(part) in spans
    }
    return tuple(made.get(id(part), part.exposure) for part in chosen)


def band_exposure(
    response: Response, lon: Float64, lat: Float64, spectral_index: Float64 | float
) -> Float64:
    """Return each channel's exposure in cm2 s, averaged with a power law.

    int E^-index exposure dE / int E^-index dE: times a band's photon flux it gives the counts.

    Parameters
    ----------
    response : Response
        Response.
    lon, lat : Float64 (n,)
        Galactic directions in degrees.
    spectral_index : float or Float64 (n,)
        Photon index, for all or for each direction.

    Returns
    -------
    Float64 (C, n)
    """
    lon = np.atleast_1d(lon)
    index = np.broadcast_to(np.asarray(spectral_index, np.float64), lon.shape)
    result = np.zeros((len(response.channels), lon.size))
    for number, channel in enumerate(response.channels):
        seen, inside = response.nodes[number], band_nodes(channel)
        values = response.exposure_at_nodes(number, lon, lat)
        first = inside.energy_mev[0]
        counts = seen.weight[:, None] * (seen.energy_mev[:, None] / first) ** -index * values
        flux = inside.weight[:, None] * (inside.energy_mev[:, None] / first) ** -index
        result[number] = counts.sum(axis=0) / flux.sum(axis=0)
    return result
