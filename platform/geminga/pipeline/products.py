"""A simulated sky, and what the products of one have in common."""

from __future__ import annotations

from dataclasses import dataclass

from geminga.config import Config
from geminga.distributed.simulate import sky_folder
from geminga.errors import InputError
from geminga.pipeline.simulate import DIFFUSE_FILE, sky_ids
from geminga.pipeline.stages import run_pipeline
from geminga.response import Response, build_response
from geminga.seeds import Split
from geminga.sky.emission.diffuse import DiffuseCounts
from geminga.sky.sky import Sky
from geminga.sky.sky_files import load_sky


@dataclass(frozen=True)
class SimulatedSky:
    """A sky of a run, with the response it was made with."""

    sky: Sky
    response: Response


def sky_number(config: Config, test_sky: int) -> int:
    """Return the identifier of a test sky of a configuration; checked before any work.

    Raises
    ------
    InputError
        If there is no such test sky, or the configuration observes the real sky instead.
    """
    skies = sky_ids(config, Split.TEST)
    if not skies:
        raise InputError(
            "observed",
            "takes the place of simulated test skies",
            "leave it out of the configuration",
        )
    if not 0 <= test_sky < len(skies):
        raise InputError(
            "--sky",
            f"{test_sky} is out of range",
            f"use 0 to {len(skies) - 1} (sets.test is {len(skies)})",
        )
    return skies[test_sky]


def simulated_sky(config: Config, number: int) -> SimulatedSky:
    """Return a sky of a run; the skies are simulated if they are not there yet."""
    context = run_pipeline(config, until="skies")
    response = build_response(config)
    diffuse = DiffuseCounts.load(context.folder("response") / DIFFUSE_FILE)
    folder = sky_folder(context.folder("skies"), number)
    return SimulatedSky(load_sky(folder, config, response, diffuse), response)
