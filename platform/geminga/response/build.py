"""One event selection's response, as a configuration asks for it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np

from geminga.arrays import Float64
from geminga.bands import Band, edges_mev
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
from geminga.response.psf import BandPsf, PsfTable, average_bands, band_energies, combine_types
from geminga.response.survey import survey_profile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Response:
    """Everything that turns a flux into photons on the sky.

    Attributes
    ----------
    bands : tuple of Band (B,)
        Energy bands.
    exposure : Exposure
        Exposure maps by energy.
    psf : BandPsf
        PSF of each band and photon index.
    psf_table : PsfTable
        PSF by energy.
    origin : dict of str to str
        Where effective area, PSF and exposure come from.
    """

    bands: tuple[Band, ...]
    exposure: Exposure
    psf: BandPsf
    psf_table: PsfTable
    origin: dict[str, str]


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
    settings = config.response
    check_event_types(settings.event_types)
    types, origin = _types(config)
    if settings.exposure_cube is None:
        exposure_origin = f"built-in pattern in declination, {settings.duration_years:g} yr, times area of {origin}"
        log.info("no response.exposure_cube: %s", exposure_origin)
        exposure = pattern_exposure(
            types, settings.duration_years, settings.exposure_nside, exposure_origin
        )
    else:
        exposure = read_exposure_cube(
            data_path(config, settings.exposure_cube), settings.exposure_nside
        )
    edges = edges_mev(config.bands)
    check_energy_range(exposure.energy_mev, float(edges.min()), float(edges.max()))
    table = combine_types(types, origin)
    return Response(
        bands=config.bands,
        exposure=exposure,
        psf=average_bands(table, exposure, config.bands),
        psf_table=table,
        origin={"psf": origin, "exposure": exposure.origin},
    )


def _types(config: Config) -> tuple[list[TypeResponse], str]:
    settings = config.response
    selection = f"{settings.irf} {'+'.join(settings.event_types)}"
    if settings.caldb is None:
        types = builtin_types(settings.irf, settings.event_types)
        log.info("no response.caldb: the built-in tables of %s stand in", selection)
        return types, f"built-in {selection} ({load_tables().origin})"
    folder = data_path(config, settings.caldb)
    types = caldb_types(folder, settings.irf, settings.event_types, survey_profile())
    return types, f"CALDB {selection} from {settings.caldb}"


def band_exposure(
    response: Response, lon: Float64, lat: Float64, spectral_index: Float64 | float
) -> Float64:
    """Return each band's exposure in cm2 s, averaged with a power law.

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
    Float64 (B, n)
    """
    exposure = response.exposure
    maps = exposure.at(lon, lat)
    index = np.broadcast_to(np.asarray(spectral_index, np.float64), maps.shape[1:])
    result = np.zeros((len(response.bands), maps.shape[1]))
    for number, (low, high) in enumerate(edges_mev(response.bands)):
        energy, weight = band_energies(float(low), float(high))
        values = interpolate_energy(maps, exposure.energy_mev, energy)
        photons = weight[:, None] * (energy[:, None] / energy[0]) ** -index[None, :]
        result[number] = np.sum(photons * values, axis=0) / np.sum(photons, axis=0)
    return result
