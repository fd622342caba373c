"""Poisson fits of the sources in one patch: positions, fluxes and photon indices together.

Fluxes alone are a convex problem (`amplitudes`). Everything together is fitted by Fisher scoring
with Levenberg and Marquardt's damping: steps of all sources at once, from the expected curvature
of lnL in (x, y, ln flux, index) of each, no longer than half the width of the PSF that the source
is seen with, and taken only if lnL rises. The photon index has a Gaussian prior, which keeps
sources of a few photons near what most sources are.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from geminga.arrays import Bool, Float64
from geminga.likelihood.amplitudes import fit_amplitudes, log_ratio
from geminga.likelihood.curvature import normal_equations
from geminga.likelihood.local_problem import PatchData, Sources, patch_data, place_sources
from geminga.likelihood.measure import PatchFit, measure
from geminga.likelihood.positive import solve
from geminga.likelihood.source_model import SourceModel, Spectra
from geminga.sections import LikelihoodConfig

ROUNDS = 2
"""Fits with images laid out anew for the fluxes found."""
STEP_OF_CORE = 0.5
"""Longest step in position, of the PSF's effective width (`_core_deg`)."""
LONGEST_LN_FLUX = 1.0
LONGEST_INDEX = 0.5
GAIN = 1e-3
"""A source whose step promises less lnL than this stays where it is."""
FIRST_DAMPING = 1e-3
LAST_DAMPING = 1e4


def fit_patch(
    counts: Sequence[ArrayLike],
    background: Sequence[ArrayLike],
    x_deg: Float64,
    y_deg: Float64,
    flux: Float64,
    index: Float64,
    model: SourceModel,
    spectra: Spectra,
    settings: LikelihoodConfig,
) -> PatchFit:
    """Fit all sources of a patch.

    Parameters
    ----------
    counts, background : sequence of (n_c, n_c), one per channel
        Photons, and expected counts of everything but these sources.
    x_deg, y_deg : Float64 (m,)
        Plane coordinates to start from, degrees.
    flux, index : Float64 (m,)
        First guesses: ph/cm2/s between 1 and 1000 GeV, photon index. A flux of zero is as good
        as any.
    model : SourceModel
        From `make_source_model`.
    spectra : Spectra
        From `make_spectra`, for the middle of the patch or for each source.
    settings : LikelihoodConfig
        Its fields ``fit_...`` are used.

    Returns
    -------
    PatchFit
        In the order given. A source whose flux comes out zero stays at its start.

    Raises
    ------
    ValueError
        If shapes do not agree, numbers are not finite, or the spectra do not reach the limits
        of the index.
    """
    data = patch_data(counts, background, model, spectra)
    low, high = settings.fit_index_limits
    if low < spectra.index[0] - 1e-9 or high > spectra.index[-1] + 1e-9:
        raise ValueError(
            f"spectra for indices {spectra.index[0]:g} to {spectra.index[-1]:g}, "
            f"fits from {low:g} to {high:g}"
        )
    sources = place_sources(data, x_deg, y_deg, flux, np.clip(index, low, high))
    start = sources.x_deg, sources.y_deg
    converged = np.ones(len(sources.flux), np.bool_)
    for _ in range(ROUNDS if len(converged) else 0):
        fluxes = refit_fluxes(data, sources)
        sources = place_sources(data, sources.x_deg, sources.y_deg, fluxes, sources.index)
        sources, converged = _climb(data, sources, start, settings)
    return measure(data, sources, converged, settings)


def refit_fluxes(data: PatchData, sources: Sources) -> Float64:
    """Return the fluxes (m,) that fit best at the places and indices there are."""
    return fit_amplitudes(
        data.counts, data.background, sources.stamps, sources.per_flux, sources.flux, data.layout
    )


def _climb(
    data: PatchData,
    sources: Sources,
    start: tuple[Float64, Float64],
    settings: LikelihoodConfig,
) -> tuple[Sources, Bool]:
    """Step uphill until no source gains anything; return the sources and which came to rest."""
    mu = data.background + sources.images(data.layout)
    damping = FIRST_DAMPING
    restless = sources.flux > 0.0
    moving = restless
    for _ in range(settings.fit_iterations):
        gradient, fisher = normal_equations(
            data.counts,
            mu,
            sources.stamps.values,
            sources.stamps.box,
            sources.stamps.begin,
            sources.counts,
            sources.slope,
            data.layout,
            restless,
        )
        _add_prior(gradient, fisher, sources.index, settings)
        free = _free(gradient, sources, start, restless, settings)
        if not free.any():
            break
        rises = False
        while damping <= LAST_DAMPING:
            step = _solve(gradient, fisher, free, damping).reshape(-1, 4)
            gain = 0.5 * np.maximum(step * gradient.reshape(-1, 4), 0.0).sum(axis=1)
            moving = gain > GAIN
            if not moving.any():
                return sources, _settled(sources, start, settings)
            trial = _step(data, sources, start, step * moving[:, None], fisher, settings)
            new_mu = data.background + trial.images(data.layout)
            gained = log_ratio(data.counts, new_mu, mu)
            gained += _prior(trial.index, settings) - _prior(sources.index, settings)
            if gained > 0.0:
                rises = True
                break
            sources.stamps.draw(sources.x_deg, sources.y_deg, sources.index, moving)
            damping *= 10.0
        if not rises:
            break
        sources, mu = trial, new_mu
        damping = max(damping / 10.0, 1e-9)
        if gained < GAIN:
            return sources, _settled(sources, start, settings)
    return sources, _settled(sources, start, settings) & ~moving


def _settled(sources: Sources, start: tuple[Float64, Float64], settings: LikelihoodConfig) -> Bool:
    """Return which sources lie within the distance they may go."""
    shift = np.hypot(sources.x_deg - start[0], sources.y_deg - start[1])
    return np.asarray(shift < 0.999 * settings.fit_max_shift_deg)


def _prior(index: Float64, settings: LikelihoodConfig) -> float:
    mean, width = settings.fit_index_prior
    return float(-0.5 * (((index - mean) / width) ** 2).sum())


def _add_prior(
    gradient: Float64, fisher: Float64, index: Float64, settings: LikelihoodConfig
) -> None:
    mean, width = settings.fit_index_prior
    at = np.arange(3, len(gradient), 4)
    gradient[at] -= (index - mean) / width**2
    fisher[at, at] += 1.0 / width**2


def _free(
    gradient: Float64,
    sources: Sources,
    start: tuple[Float64, Float64],
    restless: Bool,
    settings: LikelihoodConfig,
) -> Bool:
    """Return which parameters (4 m,) may change: not those that push against their limits."""
    free = np.repeat(restless[:, None], 4, axis=1)
    g = gradient.reshape(-1, 4)
    dx, dy = sources.x_deg - start[0], sources.y_deg - start[1]
    far = np.hypot(dx, dy) >= 0.999 * settings.fit_max_shift_deg
    outward = far & (g[:, 0] * dx + g[:, 1] * dy > 0.0)
    free[outward, :2] = False
    low, high = settings.fit_index_limits
    free[(sources.index <= low) & (g[:, 3] < 0.0), 3] = False
    free[(sources.index >= high) & (g[:, 3] > 0.0), 3] = False
    return free.ravel()


def _solve(gradient: Float64, fisher: Float64, free: Bool, damping: float) -> Float64:
    """Return the damped step (4 m,), zero where nothing may change."""
    step = np.zeros(len(gradient))
    rows = np.flatnonzero(free)
    h = fisher[np.ix_(rows, rows)]
    diagonal = np.einsum("ii->i", h)
    diagonal *= 1.0 + damping
    diagonal += 1e-9
    step[rows] = solve(h, gradient[rows])
    return step


def _core_deg(fisher: Float64) -> Float64:
    """Return the effective width of the PSF each source is seen with, degrees (m,).

    The information on the position of a source is that on ln flux, over the square of this.
    """
    d = np.diagonal(fisher).reshape(-1, 4)
    return np.asarray(np.sqrt(2.0 * d[:, 2] / np.maximum(d[:, 0] + d[:, 1], 1e-30)))


def _step(
    data: PatchData,
    sources: Sources,
    start: tuple[Float64, Float64],
    step: Float64,
    fisher: Float64,
    settings: LikelihoodConfig,
) -> Sources:
    """Return the sources after a step (m, 4), cut to what is trusted and allowed."""
    length = np.hypot(step[:, 0], step[:, 1])
    longest = STEP_OF_CORE * _core_deg(fisher)
    scale = np.minimum(1.0, longest / np.maximum(length, 1e-30))
    dx = sources.x_deg + scale * step[:, 0] - start[0]
    dy = sources.y_deg + scale * step[:, 1] - start[1]
    back = np.minimum(1.0, settings.fit_max_shift_deg / np.maximum(np.hypot(dx, dy), 1e-30))
    low, high = settings.fit_index_limits
    index = sources.index + np.clip(step[:, 3], -LONGEST_INDEX, LONGEST_INDEX)
    change = np.exp(np.clip(step[:, 2], -LONGEST_LN_FLUX, LONGEST_LN_FLUX))
    moving = (step != 0.0).any(axis=1)
    return sources.moved(
        data,
        np.where(moving, start[0] + back * dx, sources.x_deg),
        np.where(moving, start[1] + back * dy, sources.y_deg),
        sources.flux * change,
        np.clip(index, low, high),
        moving,
    )
