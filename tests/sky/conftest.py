"""Helpers and fixtures of the tests of the sky."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for the helpers beside it, in importlib mode

from event_lists import OBSERVATION
from sky_configs import typed

from geminga.config import Config
from geminga.response import Response, build_response
from geminga.sky.emission.diffuse import diffuse_counts, interstellar_models, isotropic_models
from geminga.sky.event_spectra import DiffuseSpectra
from geminga.sky.events import Events, draw_events
from geminga.sky.populations.population import load_population
from geminga.sky.sky import Sky, simulate_sky


@pytest.fixture(scope="session")
def ft1_config(config2: Config) -> Config:
    """All events, so that no test loses half of them by default."""
    return typed(config2, "FRONT+BACK")


@pytest.fixture(scope="session")
def front_back(config2: Config) -> Config:
    """Two bands of front and of back events, few photons."""
    tree = config2.model_dump()
    tree["bands"][0].update(emin_gev=20, emax_gev=50)
    tree["bands"][1].update(emin_gev=50, emax_gev=500)
    tree["response"].update(event_types=["FRONT", "BACK"], duration_years=1.0)
    return Config.model_validate(tree)


@pytest.fixture(scope="session")
def front_back_response(front_back: Config) -> Response:
    return build_response(front_back)


@pytest.fixture(scope="session")
def diffuse_spectra(front_back: Config) -> DiffuseSpectra:
    return DiffuseSpectra(interstellar_models(front_back)[0], isotropic_models(front_back))


@pytest.fixture(scope="session")
def front_back_sky(front_back: Config, front_back_response: Response) -> Sky:
    diffuse = diffuse_counts(front_back, front_back_response)
    return simulate_sky(
        front_back, front_back_response, load_population("4fgl_dr2"), diffuse, 2_000_000
    )


@pytest.fixture(scope="session")
def drawn_events(
    front_back_sky: Sky, front_back_response: Response, diffuse_spectra: DiffuseSpectra
) -> Events:
    return draw_events(front_back_sky, front_back_response, diffuse_spectra, OBSERVATION, 5)
