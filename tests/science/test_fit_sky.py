"""Local fits over a simulated sky with its true diffuse emission, from the true positions.

``pytest tests/science/test_fit_sky.py -m slow -s`` prints the figures.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from geminga.arrays import Float64
from geminga.config import load_config
from geminga.geometry import to_plane, unit_vectors
from geminga.likelihood.fit import fit_patch
from geminga.likelihood.source_model import make_source_model, make_spectra
from geminga.patches.grid import grid_for_sky
from geminga.patches.render import expected_images
from geminga.response import build_response
from geminga.seeds import Split, sky_id
from geminga.sky.emission.diffuse import diffuse_counts
from geminga.sky.populations.population import load_population
from geminga.sky.sky import simulate_sky
from geminga.sky.spectra import photon_flux

PATCHES = 60
FAINTEST = 1e-10
"""Sources from here up are fitted, ph/cm2/s above 1 GeV ..."""
MARGIN_DEG = 1.0
"""... up to so far outside a patch."""
BRIGHT = 5e-10
CLEAR_TS = 25.0


@pytest.fixture(scope="module")
def fitted() -> tuple[Float64, float]:
    """Rows (S1, TS, distance, chi-square of position, flux pull, converged), ms a source."""
    config = load_config(Path(__file__).parents[2] / "jobs" / "configs" / "demo.yaml")
    response = build_response(config)
    number = sky_id(Split.VALID, 0)
    population = load_population(config.sky.population)
    sky = simulate_sky(config, response, population, diffuse_counts(config, response), number)
    grid = grid_for_sky(config, number)
    rng = np.random.default_rng(5)
    frames = grid.frames[np.sort(rng.choice(len(grid), PATCHES, replace=False))]
    expected = expected_images(sky, frames, grid.size_deg)
    dark = replace(sky, source_counts=0.0 * sky.source_counts)
    background = expected_images(dark, frames, grid.size_deg)
    table = sky.sources.table
    flux = photon_flux(table, 1e3, 1e6)
    vectors = unit_vectors(table["lon_deg"].to_numpy(), table["lat_deg"].to_numpy())
    model = make_source_model(response.psf, config.channels, grid.size_deg)
    rows, seconds, sources = [], 0.0, 0
    for k, frame in enumerate(frames):
        x, y = to_plane(frame, vectors)
        outside = np.maximum(np.abs(x), np.abs(y)) - grid.size_deg / 2
        chosen = np.flatnonzero((outside < MARGIN_DEG) & (flux > FAINTEST))
        lon, lat = grid.centres()
        at = np.flatnonzero((grid.frames[:, 0] == frame[0]).all(axis=1))
        counts = [rng.poisson(image[k]) for image in expected]
        start = time.process_time()
        fit = fit_patch(
            counts,
            [image[k] for image in background],
            x[chosen],
            y[chosen],
            flux[chosen],
            np.full(len(chosen), 2.3),
            model,
            make_spectra(response, lon[at], lat[at]),
            config.likelihood,
        )
        if k:  # the first one compiles
            seconds += time.process_time() - start
            sources += len(chosen)
        shift = np.stack([fit.x_deg - x[chosen], fit.y_deg - y[chosen]], axis=1)
        chi2 = np.einsum("ni,nij,nj->n", shift, np.linalg.inv(fit.position_covariance), shift)
        pull = (fit.flux - flux[chosen]) / fit.flux_error
        distance = np.hypot(*shift.T)
        row = np.stack([flux[chosen], fit.ts, distance, chi2, pull, fit.converged], axis=1)
        rows.append(row[outside[chosen] < 0])
    return np.concatenate(rows), 1e3 * seconds / sources


@pytest.mark.slow
def test_positions_and_their_errors(fitted: tuple[Float64, float]) -> None:
    rows, milliseconds = fitted
    bright = rows[(rows[:, 0] > BRIGHT) & (rows[:, 1] > CLEAR_TS)]
    clear = rows[rows[:, 1] > CLEAR_TS]
    median = np.median(bright[:, 2])
    inside = [(clear[:, 3] < limit).mean() for limit in (2.296, 5.991)]
    print(
        f"\n{len(rows)} sources, {milliseconds:.1f} ms each; S1 > {BRIGHT:g}: {len(bright)}, "
        f"median {median:.4f} deg; TS > 25: {len(clear)}, inside 68 %: {inside[0]:.3f}, "
        f"95 %: {inside[1]:.3f}, converged {clear[:, 5].mean():.3f}"
    )
    assert median < 0.017
    assert abs(inside[0] - 0.68) < 0.08
    assert abs(inside[1] - 0.95) < 0.05
    assert clear[:, 5].mean() > 0.98
    faint = rows[(rows[:, 0] < BRIGHT) & (rows[:, 1] > CLEAR_TS)]
    assert abs(faint[:, 4].mean()) < 0.5
    assert 0.8 < faint[:, 4].std() < 1.2
