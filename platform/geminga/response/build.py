"""The response of every channel, as a configuration asks for it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from geminga.arrays import Float64
from geminga.bands import Channel
from geminga.config import Config, data_path
from geminga.response.average import TypeResponse, caldb_types
from geminga.response.builtin import builtin_types, load_tables, pattern_exposure
from geminga.response.caldb import check_event_types
from geminga.response.exposure import (
    Exposure,
    check_energy_range,
    interpolate_energy,
    read_exposure_cube,
)
from geminga.response.nodes import EnergyNodes, band_nodes
from geminga.response.psf import BandPsf, PsfTable, average_channels, combine_types
from geminga.response.survey import survey_profile
from geminga.response.yearly import YearShare, equal_shares

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
        Where effective area, PSF and exposure come from.
    """

    channels: tuple[Channel, ...]
    exposures: tuple[Exposure, ...]
    nodes: tuple[EnergyNodes, ...]
    psf: BandPsf
    psf_tables: tuple[PsfTable, ...]
    year_share: YearShare
    origin: dict[str, str]

    def exposure_at_nodes(self, channel: int, lon: Float64, lat: Float64) -> Float64:
        """Return a channel's exposure in cm2 s at its energy nodes and directions, (N, n)."""
        exposure = self.exposures[channel]
        return interpolate_energy(
            exposure.at(lon, lat), exposure.energy_mev, self.nodes[channel].energy_mev
        )


def build_response(config: Config) -> Response:
    """Read or take from the built-in tables the response of a configuration.

    Parameters
    ----------
    config : Config
        Its section ``response`` and its bands are used.

    Raises
    ------
    InputError
        If a file is missing or unsound, the class or event type is unknown, or a band lies
        outside the energies of the exposure.
    """
    parts: dict[tuple[str, ...], tuple[Exposure, PsfTable, str]] = {}
    for channel in config.channels:
        if channel.event_types not in parts:
            parts[channel.event_types] = _selection(config, channel.event_types)
    exposures = tuple(parts[c.event_types][0] for c in config.channels)
    tables = tuple(parts[c.event_types][1] for c in config.channels)
    nodes = tuple(band_nodes(channel) for channel in config.channels)
    for exposure, channel in zip(exposures, config.channels, strict=True):
        check_energy_range(exposure.energy_mev, channel.emin_gev * 1e3, channel.emax_gev * 1e3)
    origins = [origin for _, _, origin in parts.values()]
    return Response(
        channels=config.channels,
        exposures=exposures,
        nodes=nodes,
        psf=average_channels(tables, exposures, nodes),
        psf_tables=tables,
        year_share=equal_shares(config.sky.years),
        origin={
            "psf": "; ".join(origins),
            "exposure": "; ".join(dict.fromkeys(e.origin for e in exposures)),
        },
    )


def _selection(config: Config, event_types: tuple[str, ...]) -> tuple[Exposure, PsfTable, str]:
    """Return exposure, PSF and origin of one selection of event types."""
    settings = config.response
    check_event_types(event_types)
    types, origin = _types(config, event_types)
    if settings.exposure_cube is None:
        exposure_origin = f"built-in pattern in declination, {settings.duration_years:g} yr, times area of {origin}"
        log.info("no response.exposure_cube: %s", exposure_origin)
        exposure = pattern_exposure(
            types, settings.duration_years, settings.exposure_nside, exposure_origin
        )
    else:
        cube = settings.exposure_cube
        name = cube if isinstance(cube, str) else cube["+".join(event_types)]
        exposure = read_exposure_cube(data_path(config, name), settings.exposure_nside)
    return exposure, combine_types(types, origin), origin


def _types(config: Config, event_types: tuple[str, ...]) -> tuple[list[TypeResponse], str]:
    settings = config.response
    selection = f"{settings.irf} {'+'.join(event_types)}"
    if settings.caldb is None:
        types = builtin_types(settings.irf, event_types)
        log.info("no response.caldb: the built-in tables of %s stand in", selection)
        return types, f"built-in {selection} ({load_tables().origin})"
    folder = data_path(config, settings.caldb)
    types = caldb_types(folder, settings.irf, event_types, survey_profile())
    return types, f"CALDB {selection} from {settings.caldb}"


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
