"""Expected significance of sources, and skies that hold the detectable ones alone."""

from __future__ import annotations

import numpy as np
import pytest

from geminga.classes import ISOTROPIC
from geminga.config import Config
from geminga.likelihood.expected_ts import expected_ts
from geminga.patches.grid import grid_for_sky
from geminga.response import build_response
from geminga.seeds import Split, sky_id
from geminga.sky.detectability import local_ts
from geminga.sky.emission.diffuse import DiffuseCounts, diffuse_counts
from geminga.sky.labelled import labelled
from geminga.sky.populations.population import load_population
from geminga.sky.sky import Sky, expected_source_ts, simulate_sky


def make(config: Config, **changes: object) -> tuple[Sky, Config]:
    config = config.model_copy(update={"sky": config.sky.model_copy(update=changes)})
    response = build_response(config)
    diffuse: DiffuseCounts = diffuse_counts(config, response)
    population = load_population(config.sky.population)
    return simulate_sky(config, response, population, diffuse, sky_id(Split.VALID, 0)), config


def test_agrees_with_the_pixels_of_patches(config2: Config) -> None:
    sky, config = make(config2)
    grid = grid_for_sky(config, sky.sky_id)
    in_pixels = expected_ts(sky, grid)
    lon, lat = (sky.sources.table[name].to_numpy() for name in ("lon_deg", "lat_deg"))
    seen = grid.covers(lon, lat, 1.0) > 0  # these patches cover a tenth of the sky
    ratio = expected_source_ts(sky)[seen] / in_pixels[seen]
    assert np.sum(seen) > 40
    # Pixels blur the narrowest PSF: by 5 % with pixels of 0.08 deg, more with these of 0.3 deg.
    assert 1.0 < np.median(ratio) < 1.35
    assert np.mean(np.abs(ratio / np.median(ratio) - 1) < 0.2) > 0.9


def test_faint_source_goes_with_the_square_of_its_counts(config2: Config) -> None:
    psf = build_response(config2).psf
    counts, background = np.array([[1.0, 0.5]]), np.array([[1e9, 1e8]])
    index = np.full((1, 2), 2.2)
    one, two = (local_ts(psf, f * counts, index, background) for f in (1.0, 2.0))
    assert two == pytest.approx(4 * one, rel=1e-3)
    assert local_ts(psf, counts, index, 2 * background) == pytest.approx(one / 2, rel=1e-3)


def test_only_detectable_sources_are_left(config2: Config) -> None:
    whole, _ = make(config2)
    chosen, config = make(config2, least_ts=20.0)
    ts = expected_source_ts(whole)
    assert 0 < np.sum(ts >= 20.0) < len(ts)
    assert chosen.sources.table["source_id"].tolist() == (
        whole.sources.table["source_id"][ts >= 20.0].tolist()
    )
    for values in (chosen.source_counts, chosen.source_psf_index, chosen.shares):
        assert len(values) == len(chosen.sources.yearly) == len(chosen.sources.table)
    assert len(labelled(chosen.sources.table, config.sky)) == len(chosen.sources.table)


def test_faint_sources_stay_in_the_isotropic_emission(config2: Config) -> None:
    flat, _ = make(config2)
    lowered, _ = make(config2, depth=3e-11)
    selected, config = make(config2, depth=3e-11, least_ts=20.0)
    total = [sky.component_density(ISOTROPIC, 0).sum() for sky in (flat, lowered, selected)]
    assert total[1] < total[0]
    assert total[2] == pytest.approx(total[0], rel=1e-6)
    assert len(labelled(selected.sources.table, config.sky)) == len(selected.sources.table)
