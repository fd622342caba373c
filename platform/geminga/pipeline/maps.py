"""HEALPix FITS maps of a simulated sky: expected counts, counted photons, exposure."""

from __future__ import annotations

from pathlib import Path

import healpy as hp
import numpy as np

from geminga.classes import components
from geminga.config import Config
from geminga.errors import InputError
from geminga.files import atomic
from geminga.pipeline.products import simulated_sky, sky_number
from geminga.response import build_response
from geminga.seeds import Split, sky_id
from geminga.sky.asimov import expected_map
from geminga.sky.formats.healpix_write import write_counts, write_exposures
from geminga.sky.observation import observation_of
from geminga.sky.observe import draw_photons


def write_expected_maps(
    config: Config,
    out: Path,
    component: str = "all",
    year: int | None = None,
    test_sky: int | None = None,
) -> list[Path]:
    """Write the expected counts of a simulated sky, one file per channel.

    Parameters
    ----------
    config : Config
        Settings of the run; its skies are simulated if they are not there yet.
    out : Path
        Folder of the maps.
    component : str
        One component, or ``all`` for their sum.
    year : int, optional
        One time bin; their sum if not given.
    test_sky : int, optional
        Which test sky, from 0; the first, or the first training sky of a configuration that
        observes the real sky, if not given.

    Raises
    ------
    InputError
        If there is no such component, year or sky.
    """
    known = components(config.classes)
    if component != "all" and component not in known:
        raise InputError("--component", f"{component!r} is unknown", f"use all or one of {known}")
    if year is not None and not 0 <= year < config.sky.years:
        raise InputError("--year", f"{year} is out of range", f"use 0 to {config.sky.years - 1}")
    if test_sky is None and config.observed is not None:
        number = sky_id(Split.TRAIN, 0)
    else:
        number = sky_number(config, test_sky or 0)
    sky = simulated_sky(config, number).sky
    chosen = known if component == "all" else (component,)
    paths = []
    for index, channel in enumerate(config.channels):
        counts = np.sum([expected_map(sky, name, index, year) for name in chosen], axis=0)
        path = out / f"expected_{component.replace('+', '_')}_channel{index}.fits"
        with atomic(path) as temporary:
            hp.write_map(
                str(temporary),
                counts.astype(np.float32),
                coord="G",
                column_names=["COUNTS"],
                extra_header=[
                    ("EMIN", channel.emin_gev, "GeV"),
                    ("EMAX", channel.emax_gev, "GeV"),
                    ("CONFHASH", config.hash(), "hash of the configuration"),
                    ("SKY_ID", number, "simulated sky"),
                ],
                overwrite=True,
            )
        paths.append(path)
    return paths


def write_counts_maps(config: Config, out: Path, test_sky: int = 0) -> list[Path]:
    """Draw the photons of a test sky and write their counts in gtbin's HEALPix layout.

    They are the photons that the searches of the run see on that sky.

    Raises
    ------
    InputError
        If there is no such test sky.
    """
    number = sky_number(config, test_sky)
    photons = draw_photons(simulated_sky(config, number).sky, config.seed)
    return list(write_counts(photons, config.channels, out, observation_of(config)))


def write_exposure_maps(config: Config, out: Path) -> list[Path]:
    """Write the exposure of a configuration in gtexpcube2's HEALPix layout."""
    return list(write_exposures(build_response(config), out, observation_of(config)))
