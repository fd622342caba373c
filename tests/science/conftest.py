"""Skies with known content, shared by the checks against independent peers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import healpy
import numpy as np
import pandas as pd
import pytest

from geminga.config import Config, load_config
from geminga.response import Response, build_response
from geminga.sky.emission.diffuse import DiffuseCounts
from geminga.sky.populations.sources import SourceSet
from geminga.sky.sky import Sky, expected_counts
from geminga.tables import TRUTH

sys.path.insert(0, str(Path(__file__).parent))  # for gammapy_peer, in importlib mode

MakeSky = Callable[..., Sky]
Rows = list[tuple[str, str, str, dict[str, float]]]
"""What was compared, place, channel and relative differences by name."""


@pytest.fixture(scope="session")
def thesis() -> Config:
    """The six bands of the published set-up, one time bin, without energy dispersion."""
    config = load_config(Path(__file__).parents[2] / "jobs" / "configs" / "thesis.yaml")
    sky = config.sky.model_copy(update={"years": 1, "diffuse_nside": 256})
    response = config.response.model_copy(update={"energy_dispersion": False})
    return config.model_copy(update={"sky": sky, "response": response})


@pytest.fixture(scope="session")
def thesis_response(thesis: Config) -> Response:
    return build_response(thesis)


def truth(**columns: object) -> pd.DataFrame:
    """Return TRUTH rows of the given columns; those left out are zero."""
    n = len(next(iter(columns.values())))  # type: ignore[arg-type]
    data = {c.name: np.zeros(n) for c in TRUTH.columns if c.dtype != "str"}
    text = {c.name: ["BLL"] * n for c in TRUTH.columns if c.dtype == "str"}
    return TRUTH.frame({**data, **text, **columns})


@pytest.fixture(scope="session")
def make_sky(thesis: Config, thesis_response: Response) -> MakeSky:
    """Return a function that makes a sky of TRUTH columns and diffuse counts."""

    def make(columns: dict[str, object] | None = None, diffuse: DiffuseCounts | None = None) -> Sky:
        table = truth(**columns) if columns else TRUTH.empty()
        counts, index = expected_counts(table, thesis_response)
        channels = thesis.channels
        if diffuse is None:
            maps = np.zeros((2, len(channels), healpy.nside2npix(1)), np.float32)
            diffuse = DiffuseCounts.of_maps(*maps)
        yearly = np.ones((len(table), 1))
        return Sky(
            sky_id=0,
            channels=channels,
            classes=("BLL",),
            sources=SourceSet(table, yearly),
            source_counts=counts,
            source_psf_index=index,
            shares=yearly,
            diffuse=diffuse,
            interstellar_model=0,
            diffuse_norm=np.ones((3, len(channels))),
            distortion=np.empty(0),
            psf=thesis_response.psf,
            year_share=thesis_response.year_share,
        )

    return make


@pytest.fixture(scope="module")
def rows() -> Iterator[Rows]:
    """Collect the differences, and print them at the end (shown with -s)."""
    collected: Rows = []
    yield collected
    for what in dict.fromkeys(row[0] for row in collected):
        mine = [row for row in collected if row[0] == what]
        print(f"\n{what}: ours over gammapy's, less one, in per cent")
        for _, place, label, values in mine:
            text = "  ".join(f"{key} {100 * v:+.2f}" for key, v in values.items())
            print(f"  {label:>12}  {place:<8} {text}")
        for key in mine[0][3]:
            column = np.array([row[3][key] for row in mine])
            rms, most = np.sqrt(np.mean(column**2)), np.abs(column).max()
            print(f"  {key}: rms {100 * rms:.2f}, at most {100 * most:.2f}")
