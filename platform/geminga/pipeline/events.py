"""Simulated event lists of test skies."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from geminga.config import Config
from geminga.errors import InputError
from geminga.pipeline.products import simulated_sky, sky_number
from geminga.response.selection import read_types
from geminga.sky.emission.diffuse import interstellar_models, isotropic_models
from geminga.sky.emission.extended import read_extended
from geminga.sky.event_spectra import DiffuseSpectra
from geminga.sky.events import TypeShares, draw_events
from geminga.sky.formats.ft1_write import write_events
from geminga.sky.observation import observation_of
from geminga.sky.sky import Sky


def write_event_list(config: Config, out: Path, test_sky: int = 0) -> int:
    """Draw the photons of a test sky and write them as an FT1 event list.

    They are the photons that the searches of the run see on that sky.

    Parameters
    ----------
    config : Config
        Settings of the run; its skies are simulated if they are not there yet.
    out : Path
        File to write; an older one is replaced.
    test_sky : int
        Which test sky, from 0.

    Returns
    -------
    int
        Number of events.

    Raises
    ------
    InputError
        If there is no such test sky, or the file cannot be written.
    """
    number = sky_number(config, test_sky)
    if out.is_dir():
        raise InputError("--out", f"{out} is a folder", "name a file, for example events.fits")
    observation = observation_of(config)
    made = simulated_sky(config, number)
    events = draw_events(
        made.sky,
        made.response,
        diffuse_spectra(config, made.sky),
        observation,
        config.seed,
        type_shares(config),
    )
    keywords = [
        ("CONFHASH", config.hash(), "hash of the configuration"),
        ("SKY_ID", number, "simulated sky"),
    ]
    write_events(events, config.channels, out, observation, keywords)
    return len(events)


def diffuse_spectra(config: Config, sky: Sky) -> DiffuseSpectra:
    """Return the diffuse models of a sky of a configuration."""
    extended = config.sky.extended
    return DiffuseSpectra(
        interstellar_models(config)[sky.interstellar_model],
        isotropic_models(config),
        None if extended is None else read_extended(config, extended),
    )


def type_shares(config: Config) -> dict[tuple[str, ...], TypeShares]:
    """Return the share of each event type in selections that add several.

    The share of the effective area, averaged over the survey: the exposure of a type at a place
    differs from it by a few per cent.
    """
    shares = {}
    for channel in config.channels:
        if len(channel.event_types) > 1 and channel.event_types not in shares:
            types = read_types(config, channel.event_types, channel.max_zenith_deg)
            energy = types[0].area_energy_mev
            area = np.array([part.area_at(energy) for part in types])
            shares[channel.event_types] = TypeShares(energy, area / area.sum(axis=0))
    return shares
