"""Area, PSF, exposure and energy dispersion of one selection: event types and zenith cut."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from geminga.config import Config, data_path
from geminga.errors import InputError
from geminga.response.average import TypeResponse, caldb_types
from geminga.response.builtin import (
    builtin_dispersion,
    builtin_types,
    load_tables,
    pattern_exposure,
)
from geminga.response.caldb import check_event_types, read_area
from geminga.response.cube import CubeSelection, read_exposure_cube
from geminga.response.cube_choice import choose_cube, summarise_cube
from geminga.response.dispersion import Dispersion, caldb_dispersion
from geminga.response.exposure import Exposure
from geminga.response.psf import PsfTable, combine_types
from geminga.response.survey import ObservingProfile, rocking_between, survey_profile

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Selection:
    """What channels of the same event types and zenith cut share."""

    exposure: Exposure
    psf: PsfTable
    dispersion: Dispersion | None
    origin: str


def check_selections(config: Config) -> None:
    """Raise InputError unless every entry of event types is sound and has its exposure cube."""
    entries = config.response.event_types
    for entry in entries:
        check_event_types(entry.split("+"))
    # A photon belongs to one channel: all entries together obey the same rules.
    check_event_types([name for entry in entries for name in entry.split("+")])
    cube = config.response.exposure_cube
    if isinstance(cube, str) and len(entries) > 1:
        raise InputError(
            "response.exposure_cube",
            f"{cube!r} is one cube for {len(entries)} entries of event_types",
            f"give one for each of {', '.join(entries)}",
        )
    if isinstance(cube, dict):
        check_entries("response.exposure_cube", cube, entries)


def check_entries(key: str, files: Mapping[str, str], entries: Sequence[str]) -> None:
    """Raise InputError unless there is one file for each entry of ``response.event_types``."""
    missing = [e for e in entries if e not in files]
    extra = [e for e in files if e not in entries]
    if missing or extra:
        problem = f"has no file of {missing}" if missing else f"names {extra}"
        raise InputError(key, problem, f"give one for each of {', '.join(entries)}")


def channel_cubes(config: Config) -> tuple[Path | None, ...]:
    """Return the exposure cube of each channel, None where the exposure is the built-in one.

    Raises
    ------
    InputError
        If a file is missing or unsound, or no cube of several, or more than one, is a channel's.
    """
    cube, channels = config.response.exposure_cube, config.channels
    if cube is None:
        return (None,) * len(channels)
    if isinstance(cube, tuple):
        summaries = [summarise_cube(data_path(config, name)) for name in cube]
        return tuple(choose_cube(summaries, channel).path for channel in channels)
    if isinstance(cube, str):
        return (data_path(config, cube),) * len(channels)
    return tuple(data_path(config, cube["+".join(c.event_types)]) for c in channels)


def read_selection(
    config: Config, event_types: tuple[str, ...], max_zenith_deg: float, cube: Path | None
) -> Selection:
    """Read or take from the built-in tables one selection; `cube` holds its exposure, if any.

    Raises
    ------
    InputError
        If a file is missing or unsound, or the class or an event type is not there.
    """
    settings = config.response
    rocking = rocking_between(0.0, settings.duration_years)
    profile = survey_profile(rocking, max_zenith_deg)
    types, origin = _types(config, event_types, profile)
    if cube is None:
        exposure_origin = (
            f"built-in pattern in declination for zenith < {max_zenith_deg:g} deg, "
            f"{settings.duration_years:g} yr, times area of {settings.irf} {'+'.join(event_types)}"
        )
        log.info("no response.exposure_cube: %s", exposure_origin)
        exposure = pattern_exposure(
            types,
            settings.duration_years,
            settings.exposure_nside,
            exposure_origin,
            max_zenith_deg,
        )
    else:
        wanted = CubeSelection(settings.irf, event_types, max_zenith_deg)
        exposure = read_exposure_cube(cube, settings.exposure_nside, wanted)
    dispersion = None
    if settings.energy_dispersion:
        dispersion = _dispersion(config, event_types, types, profile)
    return Selection(exposure, combine_types(types, origin), dispersion, origin)


def read_types(
    config: Config, event_types: tuple[str, ...], max_zenith_deg: float
) -> list[TypeResponse]:
    """Return the averaged response of each event type of a selection; errors as `read_selection`."""
    rocking = rocking_between(0.0, config.response.duration_years)
    return _types(config, event_types, survey_profile(rocking, max_zenith_deg))[0]


def _types(
    config: Config, event_types: tuple[str, ...], profile: ObservingProfile
) -> tuple[list[TypeResponse], str]:
    settings = config.response
    selection = f"{settings.irf} {'+'.join(event_types)}"
    if settings.caldb is None:
        types = builtin_types(settings.irf, event_types, profile)
        log.info("no response.caldb: the built-in tables of %s stand in", selection)
        return types, f"built-in {selection} ({load_tables().origin})"
    folder = data_path(config, settings.caldb)
    types = caldb_types(folder, settings.irf, event_types, profile)
    return types, f"CALDB {selection} from {settings.caldb}"


def _dispersion(
    config: Config,
    event_types: tuple[str, ...],
    types: list[TypeResponse],
    profile: ObservingProfile,
) -> Dispersion:
    settings = config.response
    irf = settings.dispersion_irf or settings.irf
    selection = f"{irf} {'+'.join(event_types)}"
    if settings.caldb is None:
        tables = builtin_dispersion(irf, event_types)
        origin = f"built-in {selection}"
    else:
        folder = data_path(config, settings.caldb)
        areas = [read_area(folder, irf, name) for name in event_types]
        tables = caldb_dispersion(folder, irf, event_types, areas, profile)
        origin = f"CALDB {selection} from {settings.caldb}"
    if irf != settings.irf:
        origin += f", standing in for {settings.irf}"
        log.info("response.dispersion_irf: energy dispersion of %s", origin)
    return Dispersion(tables, tuple(types), origin)
